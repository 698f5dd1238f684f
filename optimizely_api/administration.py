"""`optimizely-api account`, `user`, `token` and `webhook`: what operators manage.

The commands call the projects service with the services' key. A failure is one line on standard error and status 1; a
wrong command line is status 2.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

import click
import requests

from optimizely_api import services_key
from optimizely_api.demo import run as running

URL_VARIABLE = "OPTIMIZELY_API_PROJECTS_URL"
TIMEOUT_SECONDS = 10.0
PER_PAGE = 1000

WHERE = """\b
The projects service: --url or OPTIMIZELY_API_PROJECTS_URL (http://127.0.0.1:6551).
Its key: SERVICES_KEY or SERVICES_KEY_FILE, or the one that `optimizely-api run` has made (./var/services.key).
"""

url_option = click.option(
    "--url", envvar=URL_VARIABLE, default="http://127.0.0.1:6551", show_default=True, metavar="URL"
)
account_option = click.option(
    "--account", "account_id", type=click.IntRange(1), required=True, help="The account's id."
)


@click.group(epilog=WHERE)
def account() -> None:
    """Create and list accounts."""


@account.command("create", epilog=WHERE)
@click.argument("name")
@url_option
def create_account(name: str, url: str) -> None:
    """Create an account called NAME and print its id."""
    click.echo(_call("POST", url, "/accounts", {"name": name})["id"])


@account.command("list", epilog=WHERE)
@url_option
def list_accounts(url: str) -> None:
    """List all accounts: id, time of creation, name."""
    _print([(item["id"], item["created"], item["name"]) for item in _all(url, "/accounts")])


@click.group(epilog=WHERE)
def user() -> None:
    """Add users to an account, give them roles in its projects, and list them."""


@user.command("add", epilog=WHERE)
@account_option
@click.argument("email")
@click.option("--first-name", default="")
@click.option("--last-name", default="")
@click.option("--administrator", is_flag=True, help="May do everything in the account, without roles.")
@click.option(
    "--role", "roles", multiple=True, metavar="PROJECT=ROLE", help="A role in a project; repeatable."
)
@url_option
def add_user(
    email: str, account_id: int, administrator: bool, roles: Sequence[str], url: str, **names: str
) -> None:
    """Add a user with the address EMAIL and print the user's id.

    Roles: viewer, restricted_editor, editor, restricted_publisher, publisher, project_owner, administrator.
    """
    given = [_project_and_role(text) for text in roles]
    body = {"email": email, **names, "is_administrator": administrator}
    created = _call("POST", url, f"/accounts/{account_id}/users", body)
    for project_id, role in given:
        _set_role(url, account_id, created["id"], project_id, role)
    click.echo(created["id"])


@user.command("role", epilog=WHERE)
@account_option
@click.argument("email")
@click.argument("project_id", type=click.IntRange(1))
@click.argument("role")
@url_option
def set_role(account_id: int, email: str, project_id: int, role: str, url: str) -> None:
    """Give the user EMAIL the ROLE in the project PROJECT_ID, in place of any other; ROLE may be `none`.

    A role that was taken away counts for up to identity_cache_seconds more.
    """
    _set_role(url, account_id, _user_id(url, account_id, email), project_id, role)


@user.command("list", epilog=WHERE)
@account_option
@url_option
def list_users(account_id: int, url: str) -> None:
    """List an account's users: id, email, administrator or -, roles as PROJECT=ROLE."""
    items = _all(url, f"/accounts/{account_id}/users")
    _print([(item["id"], item["email"], *_rights(item)) for item in items])


def _rights(item: dict[str, Any]) -> tuple[str, str]:
    roles = " ".join(f"{project}={role}" for project, role in item["roles"].items())
    return "administrator" if item["is_administrator"] else "-", roles


def _project_and_role(text: str) -> tuple[int, str]:
    project, _, role = text.partition("=")
    if not (project.isascii() and project.isdigit() and role):
        raise click.UsageError(f"--role {text}: must be PROJECT=ROLE, such as 10000000002=editor")
    return int(project), role


def _set_role(url: str, account_id: int, user_id: str, project_id: int, role: str) -> None:
    path = f"/accounts/{account_id}/users/{user_id}/roles/{project_id}"
    if role == "none":
        _call("DELETE", url, path)
    else:
        _call("PUT", url, path, {"role": role})


def _user_id(url: str, account_id: int, email: str) -> str:
    found = _call("GET", url, f"/accounts/{account_id}/users?{urlencode({'email': email})}")["items"]
    if not found:
        raise click.ClickException(f"account {account_id} has no user {_one_line(email)}")
    return str(found[0]["id"])


@click.group(epilog=WHERE)
def token() -> None:
    """Create, list and revoke the tokens that callers of the API send."""


@token.command("create", epilog=WHERE)
@account_option
@click.option("--name", default="token", show_default=True, help="Its name in the list.")
@click.option("--user", "email", metavar="EMAIL", help="Whose roles it has; by default an administrator's.")
@url_option
def create_token(account_id: int, name: str, email: str | None, url: str) -> None:
    """Create a token of an account and print it, alone, on standard output.

    It is shown only once: the service stores only its hash.
    """
    of_user = {"user_id": _user_id(url, account_id, email)} if email else {}
    created = _call("POST", url, f"/accounts/{account_id}/tokens", {"name": name, **of_user})
    click.echo(created["token"])
    click.echo(f"Token {created['token_id']} of account {account_id}; it is not shown again.", err=True)


@token.command("list", epilog=WHERE)
@account_option
@url_option
def list_tokens(account_id: int, url: str) -> None:
    """List an account's tokens: id, time of creation, time of revocation or -, name."""
    items = _all(url, f"/accounts/{account_id}/tokens")
    _print([(item["token_id"], item["created"], item.get("revoked", "-"), item["name"]) for item in items])


@token.command("revoke", epilog=WHERE)
@account_option
@click.argument("token_id", type=click.IntRange(1))
@url_option
def revoke_token(account_id: int, token_id: int, url: str) -> None:
    """Revoke the token TOKEN_ID of an account.

    Gateways accept it for up to identity_cache_seconds more.
    """
    _call("DELETE", url, f"/accounts/{account_id}/tokens/{token_id}")
    click.echo(f"Token {token_id} of account {account_id} is revoked.", err=True)


@click.group(epilog=WHERE)
def webhook() -> None:
    """Look after the webhooks of projects, which the API creates."""


@webhook.command("deliveries", epilog=WHERE)
@click.argument("webhook_id", type=click.IntRange(1))
@click.option(
    "--limit", type=click.IntRange(1, PER_PAGE), default=20, show_default=True, help="How many at most."
)
@url_option
def list_deliveries(webhook_id: int, limit: int, url: str) -> None:
    """List the newest deliveries of the webhook WEBHOOK_ID.

    Columns: id (the receiver's X-Webhook-Delivery), time of creation, event, state, attempts, time of the next attempt
    or -, last error. A delivery is pending, delivered, given_up, or dropped (the webhook no longer wants its event).
    """
    items = _call("GET", url, f"/webhooks/{webhook_id}/deliveries?per_page={limit}")["items"]
    names = ("id", "created", "event", "state", "attempts", "next_attempt", "last_error")
    _print([tuple("-" if item[name] is None else item[name] for name in names) for item in items])


@webhook.command("secret", epilog=WHERE)
@click.argument("webhook_id", type=click.IntRange(1))
@url_option
def create_secret(webhook_id: int, url: str) -> None:
    """Give the webhook WEBHOOK_ID a new secret and print it, alone, on standard output.

    It signs every call from now on, repeated ones too; the old one signs none.
    """
    click.echo(_call("POST", url, f"/webhooks/{webhook_id}/secret")["secret"])


def _all(url: str, path: str) -> Iterator[dict[str, Any]]:
    """Every item of a list, page by page."""
    page = 1
    while items := _call("GET", url, f"{path}?page={page}&per_page={PER_PAGE}")["items"]:
        yield from items
        if len(items) < PER_PAGE:
            return
        page += 1


def _call(method: str, url: str, path: str, body: Any = None) -> Any:
    """The JSON of a successful response, or None if it has no body; raises ClickException for other responses."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy, and no .netrc in place of the key
        session.headers.update(services_key.authorization(_key()))
        try:
            response = session.request(
                method, url.rstrip("/") + path, json=body, timeout=TIMEOUT_SECONDS, allow_redirects=False
            )
            if response.ok and not response.is_redirect:
                return response.json() if response.content else None
        except requests.JSONDecodeError:
            raise click.ClickException(f"{url} is not the projects service: its answer is no JSON") from None
        except requests.Timeout:
            raise click.ClickException(f"{url} did not answer within {TIMEOUT_SECONDS:g} seconds") from None
        except requests.ConnectionError:
            raise click.ClickException(f"{url} cannot be reached") from None
        except requests.RequestException as exc:
            raise click.ClickException(_one_line(f"{url}: {exc}")) from None
    raise click.ClickException(_reason(response, url))


def _key() -> str:
    """The key from the environment, or the key file of `optimizely-api run`."""
    environ = dict(os.environ)
    key_file = running.data_folder() / services_key.FILE_NAME
    if not environ.get(services_key.FILE_VARIABLE) and key_file.exists():
        environ[services_key.FILE_VARIABLE] = str(key_file)
    try:
        return services_key.read_keys(environ)[0]
    except services_key.InvalidServicesKey as exc:
        raise click.ClickException(str(exc)) from None


def _reason(response: requests.Response, url: str) -> str:
    if response.status_code == 401:
        return f"{url} does not take this key: SERVICES_KEY is not the service's"
    try:
        message = str(response.json()["message"])
    except (requests.JSONDecodeError, KeyError, TypeError):
        message = "without a reason"
    return _one_line(f"{url} answered {response.status_code}: {message}")


def _print(rows: Sequence[tuple[Any, ...]]) -> None:
    texts = [[_one_line(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _one_line(text: str) -> str:
    """The text without control characters: a name is untrusted text and could move the terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)

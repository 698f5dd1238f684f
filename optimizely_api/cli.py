"""The `optimizely-api` command."""

import asyncio
import sys
from pathlib import Path

import click
from rich.console import Console

from optimizely_api.administration import account, token, user, webhook
from optimizely_api.comparison.command import compare
from optimizely_api.demo import DemoError, story
from optimizely_api.demo import run as running
from optimizely_api.demo.traffic import send_traffic
from optimizely_api.proof.command import prove
from optimizely_api.start_failures import CannotStart

SERVICES = ("projects", "experiments", "results", "events")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="optimizely_api")
def main() -> None:
    """The Optimizely v2 REST API as an asyncio gateway in front of three services."""


main.add_command(compare)
main.add_command(prove)
main.add_command(account)
main.add_command(user)
main.add_command(token)
main.add_command(webhook)


@main.command()
@click.option(
    "--procfile",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("Procfile"),
    show_default=True,
    help="What to start: lines of `name: command`.",
)
@click.option(
    "--demo/--no-demo", default=True, show_default=True, help="Load the demo data unless they exist."
)
@click.option("--verbose", is_flag=True, help="Show what the processes log instead of writing it to a file.")
def run(procfile: Path, demo: bool, verbose: bool) -> None:
    """Start the gateway and the three services, load demo data, and print a request that works.

    Ports: GATEWAY_PORT (6543), PROJECTS_PORT (6551), EXPERIMENTS_PORT (6552), RESULTS_PORT (6553), EVENTS_PORT (6554),
    in the environment. The services' key: SERVICES_KEY or SERVICES_KEY_FILE; without them one is created next to the
    log. Databases: PROJECTS_DATABASE_URL, EXPERIMENTS_DATABASE_URL, RESULTS_DATABASE_URL; by default SQLite files in
    OPTIMIZELY_API_DATA_DIR (./var). Ctrl-C stops everything.
    """
    if not procfile.exists():
        raise click.UsageError(
            f"There is no {procfile} here: run this in the checkout, or name one with --procfile."
        )
    try:
        sys.exit(running.run(procfile, demo=demo, verbose=verbose))
    except (running.CannotRun, DemoError) as exc:
        raise click.ClickException(str(exc)) from None


@main.group()
def demo() -> None:
    """What goes with the demo data of `optimizely-api run`."""


@demo.command()
@click.option(
    "--rate", type=click.FloatRange(0.01, 1000), default=5.0, show_default=True, help="Visitors a second."
)
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), help="Stop after this time.  [default: Ctrl-C]"
)
@click.option("--url", default="http://127.0.0.1:6543", show_default=True, help="The gateway.")
@click.option("--token", default=story.TOKEN, help="A token of the account.  [default: the demo's]")
def traffic(rate: float, seconds: float | None, url: str, token: str) -> None:
    """Send visitors of the demo's running experiments, as SDKs do, so that their results move.

    They arrive at random times and act as in the demo's story, a minute of which passes in a second.
    """
    console = Console()
    try:
        asyncio.run(send_traffic(url, token, console, rate=rate, seconds=seconds))
    except DemoError as exc:
        raise click.ClickException(str(exc)) from None
    except KeyboardInterrupt:
        console.print("Stopped.")


@main.command("services-key")
def services_key() -> None:
    """Print the path of the services' key file in OPTIMIZELY_API_DATA_DIR (./var); create it if it does not exist.

    The path is a value for SERVICES_KEY_FILE, which the gateway and its services read.
    """
    try:
        click.echo(running.key_file().absolute())
    except OSError as exc:
        raise click.ClickException(f"the key cannot be stored: {exc}") from None


@main.command()
@click.option(
    "--write",
    "ini_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Replace the [DEFAULT] section of this file by them.",
)
def settings(ini_file: Path | None) -> None:
    """Print every setting of the gateway for an ini file: meaning, unit, default and bound."""
    from optimizely_api.gateway.settings_ini import default_section, with_settings

    if ini_file is None:
        click.echo(default_section(), nl=False)
        return
    try:
        ini_file.write_text(with_settings(ini_file.read_text()))
    except ValueError as exc:
        raise click.ClickException(f"{ini_file}: {exc}") from None


@main.command()
@click.argument("name", type=click.Choice(SERVICES))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="[default: 6551 projects, 6552 experiments, 6553 results, 6554 events]",
)
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option(
    "--database-url",
    help="sqlite:///path or postgresql://...  [default: <NAME>_DATABASE_URL, or a SQLite file]",
)
def service(name: str, host: str, port: int | None, workers: int, database_url: str | None) -> None:
    """Start one of the services behind the gateway; its database is brought up to date first.

    A service accepts only calls with the services' key: SERVICES_KEY, or SERVICES_KEY_FILE, in the environment.
    `events` is the part of the results service that may be public: only POST /v1/events, without a key.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from optimizely_api.services.http.server import run_service

    try:
        run_service(name, host, port, workers, database_url)
    except CannotStart as exc:
        raise click.ClickException(str(exc)) from None
    except (SQLAlchemyError, OSError) as exc:  # missing, not writable, or no server listens there
        reason = " ".join(str(getattr(exc, "orig", exc)).split())
        raise click.ClickException(f"the database of the {name} service cannot be used: {reason}") from None


if __name__ == "__main__":
    main()

"""Bearer tokens: who may call, and how long an accepted token is trusted."""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from optimizely_api import main
from optimizely_api.gateway.errors import Unauthorized
from optimizely_api.gateway.identity import Identity, IdentityCache
from optimizely_api.gateway.settings import read
from optimizely_api.runtime.testing import GatewayTestApp
from optimizely_api.serving.log import JSONLines
from optimizely_api.upstream import calls
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get

PROJECT = f"/v2/projects/{samples.PROJECT}"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (None, "Send your personal token"),
        ("", "Send your personal token"),
        ("Bearer", "not of the form"),
        ("Bearer  ", "not of the form"),
        (f"Basic {samples.TOKEN}", "not of the form"),
        (samples.TOKEN, "not of the form"),
        ("Bearer unknown", "unknown or was revoked"),
        ("Bearer \xff\xfe", "unknown or was revoked"),
    ],
    ids=[
        "none",
        "empty",
        "no token",
        "blank token",
        "other scheme",
        "bare token",
        "unknown token",
        "odd bytes",
    ],
)
def test_401_without_a_good_token(gateway, header, said):
    headers = {} if header is None else {"Authorization": header}
    response = gateway.get(PROJECT, headers=headers, status=401)
    assert_error(response, 401, "unauthorized", said)
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_case_insensitive(gateway, scheme):
    assert (
        gateway.get(PROJECT, headers={"Authorization": f"{scheme} {samples.TOKEN}"}).json["id"]
        == samples.PROJECT
    )


def test_401_comes_before_what_else_is_wrong(gateway):
    assert_error(gateway.get("/v2/projects/x?page=0", status=401), 401, "unauthorized")


def test_the_token_itself_never_leaves_the_gateway(gateway, services):
    get(gateway, PROJECT)
    assert services.seen[0].path == f"/tokens/{hashlib.sha256(samples.TOKEN.encode()).hexdigest()}"
    assert samples.TOKEN not in str(services.seen)


@pytest.mark.parametrize(
    "path",
    [
        f"/v2/projects/{samples.OTHER_PROJECT}",
        f"/v2/campaigns/{samples.OTHER_LAYER}",
        f"/v2/experiments/{samples.OTHER_EXPERIMENT}",
        f"/v2/events/{samples.OTHER_EVENT}",
    ],
)
def test_403_for_another_accounts_entity(gateway, path):
    assert_error(get(gateway, path, status=403), 403, "forbidden", path.split("/")[-1])


@pytest.mark.parametrize("kind", ["projects", "campaigns", "experiments", "events"])
def test_404_for_an_unknown_entity(gateway, kind):
    assert_error(get(gateway, f"/v2/{kind}/99", status=404), 404, "not_found", f"{kind[:-1]} 99")


def identifications(services):
    return [seen for seen in services.seen if seen.path.startswith("/tokens/")]


def test_an_accepted_token_is_asked_about_once(services):
    with GatewayTestApp(main({}, **services.settings(), identity_cache_seconds="60")) as app:
        get(app, PROJECT)
        get(app, PROJECT)
    assert len(identifications(services)) == 1


def test_a_revoked_token_works_no_longer_than_the_cache(services):
    with GatewayTestApp(main({}, **services.settings(), identity_cache_seconds="0.2")) as app:
        get(app, PROJECT)
        del services.tokens[samples.TOKEN]
        statuses = [app.get(PROJECT, headers=AUTHORIZED, expect_errors=True).status_int]
        while statuses[-1] == 200:
            statuses.append(app.get(PROJECT, headers=AUTHORIZED, expect_errors=True).status_int)
            assert len(statuses) < 100_000
    assert statuses[-1] == 401


def test_a_refused_token_is_asked_about_once(services):
    with GatewayTestApp(main({}, **services.settings(), unknown_token_seconds="60")) as app:
        new = {"Authorization": "Bearer 2:new"}
        for _ in range(5):
            assert_error(
                app.get(PROJECT, headers=new, status=401), 401, "unauthorized", "unknown or was revoked"
            )
        assert len(identifications(services)) == 1
        get(app, PROJECT)


def test_a_token_created_after_it_was_refused_works_when_that_is_forgotten(services):
    with GatewayTestApp(main({}, **services.settings(), unknown_token_seconds="0.2")) as app:
        new = {"Authorization": "Bearer 2:new"}
        app.get(PROJECT, headers=new, status=401)
        services.tokens["2:new"] = samples.ACCOUNT
        created = time.monotonic()
        while app.get(PROJECT, headers=new, expect_errors=True).status_int == 401:
            assert time.monotonic() - created < 10


def test_a_refused_token_is_not_remembered_when_that_is_off(services):
    with GatewayTestApp(main({}, **services.settings(), unknown_token_seconds="0")) as app:
        new = {"Authorization": "Bearer 2:new"}
        app.get(PROJECT, headers=new, status=401)
        services.tokens["2:new"] = samples.ACCOUNT
        assert app.get(PROJECT, headers=new).json["id"] == samples.PROJECT


def test_one_accounts_token_never_opens_anothers_entities_through_the_cache(services):
    with GatewayTestApp(main({}, **services.settings(), identity_cache_seconds="60")) as app:
        get(app, PROJECT)
        other = {"Authorization": f"Bearer {samples.OTHER_TOKEN}"}
        assert_error(app.get(PROJECT, headers=other, status=403), 403, "forbidden")


def test_the_cache_remembers_no_more_tokens_than_it_may():
    cache = IdentityCache(read({"identity_cache_entries": "3"}, os.environ))
    for number in range(10):
        cache.keep(str(number), Identity(number), 0)
    assert [number for number in range(10) if cache.get(str(number))] == [7, 8, 9]


def test_no_more_refused_tokens_are_remembered_than_they_may_be():
    cache = IdentityCache(read({"identity_cache_entries": "3", "unknown_token_seconds": "60"}, os.environ))
    for number in range(10):
        cache.refuse(str(number))
    for number in range(7):
        assert cache.get(str(number)) is None
    for number in range(7, 10):
        with pytest.raises(Unauthorized):
            cache.get(str(number))


@pytest.fixture
def one_at_a_time(services):
    """A gateway that asks about one unknown token at a time, and trusts no identity for longer than it must."""
    settings = {"identity_calls": "1", "identity_wait_seconds": "0.1", "identity_cache_seconds": "0"}
    with GatewayTestApp(main({}, **services.settings(), **settings)) as app:
        get(app, PROJECT)
        services.seen.clear()
        yield app


def test_503_for_an_unknown_token_while_enough_others_are_asked_about(one_at_a_time, services):
    services.hung_tokens.add("2:first")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(
            one_at_a_time.get, PROJECT, headers={"Authorization": "Bearer 2:first"}, status="*"
        )
        services.wait_for_identifications(1)
        second = {"Authorization": "Bearer 2:second"}
        response = one_at_a_time.get(PROJECT, headers=second, status=503)
        assert_error(response, 503, "upstream_unavailable", "unknown tokens")
        assert response.headers["Retry-After"]
        get(one_at_a_time, PROJECT)  # a token that was good before is asked about at once
        services.hung_tokens.clear()
        assert first.result().status_int == 401
    get(one_at_a_time, PROJECT)
    assert one_at_a_time.get(PROJECT, headers=second, expect_errors=True).status_int == 401


def test_the_cache_serves_threads():
    cache = IdentityCache(
        read({"identity_cache_seconds": "0.001", "identity_cache_entries": "50"}, os.environ)
    )

    def use(seed):
        for number in range(5_000):
            key = str((number * 7 + seed) % 80)
            cache.get(key)
            cache.keep(key, Identity(seed), 0)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(use, range(16))) == [None] * 16


@pytest.mark.parametrize(
    "manners",
    [{}, {"status": 500}, {"cut_off": True}, {"hang": True}, {"body": b"[]"}, {"body": b"{"}],
    ids=["good", "500", "broken off", "late", "off its shape", "no JSON"],
)
def test_no_log_holds_a_token_or_its_hash(services, caplog, manners):
    for name, value in manners.items():
        setattr(services.manners["projects"], name, value)
    unknown = "2:a-token-that-nobody-knows"
    with caplog.at_level("DEBUG"):
        settings = {**services.settings(), "projects_timeout_seconds": "0.2"}
        with GatewayTestApp(main({}, **settings)) as app:
            for token in (samples.TOKEN, unknown):
                app.get(PROJECT, headers={"Authorization": f"Bearer {token}"}, status="*")
    written = caplog.text + "\n".join(JSONLines().format(record) for record in caplog.records)
    assert PROJECT in written
    for token in (samples.TOKEN, unknown):
        assert token not in written
        assert samples.token(token)["token_sha256"] not in written


@pytest.mark.parametrize("roles", [{"1": "emperor"}, {"all": "editor"}])
def test_502_for_a_token_whose_user_has_a_role_that_there_is_not(services, roles):
    user = {"id": "u", "email": "a@shop.example", "is_administrator": False, "roles": roles}
    services.users[samples.TOKEN] = user
    with GatewayTestApp(main({}, **services.settings())) as app:
        answer = app.get(PROJECT, headers={"Authorization": f"Bearer {samples.TOKEN}"}, status="*")
    assert_error(answer, 502, "bad_upstream_answer", "projects")


def test_no_representation_of_a_call_holds_a_tokens_hash():
    token_hash = samples.token()["token_sha256"]
    assert token_hash not in repr(calls.identify(token_hash))
    assert token_hash in calls.identify(token_hash).path


def test_502_for_another_tokens_answer(services, gateway):
    services.manners["projects"].body = orjson.dumps(
        samples.token(samples.OTHER_TOKEN, samples.OTHER_ACCOUNT)
    )
    assert_error(get(gateway, PROJECT, status=502), 502, "bad_upstream_answer", "projects")


def test_503_when_identities_cannot_be_asked_for(gateway, services):
    services.close("projects")
    assert_error(get(gateway, PROJECT, status=503), 503, "upstream_unavailable", "projects")

"""With the settings of saving as they come, calls are shared and answers values, and nobody sees what he must not."""

import time
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from optimizely_api import main
from optimizely_api.gateway.upstreams import CLIENT
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get

RESULTS = f"/v2/experiments/{samples.EXPERIMENT}/results"
OTHER = {"Authorization": f"Bearer {samples.OTHER_TOKEN}"}
OF_THE_ACCOUNT = [
    f"/v2/projects/{samples.PROJECT}",
    f"/v2/campaigns/{samples.LAYER}",
    f"/v2/campaigns/{samples.LAYER}/results",
    f"/v2/experiments/{samples.EXPERIMENT}",
    f"/v2/events/{samples.EVENT}",
    RESULTS,
]
COMPOSITE = [
    f"GET experiments /experiments/{samples.EXPERIMENT}",
    f"GET experiments /layers/{samples.LAYER}",
    f"GET projects /projects/{samples.PROJECT}",
    f"POST results /results/{samples.EXPERIMENT}",
]


PATIENT = {"upstream_connect_timeout_seconds": "10"}  # a busy machine may take long to make a connection


@pytest.fixture
def app(services):
    settings = {**services.settings(), **PATIENT, "results_cache_seconds": "60"}
    with GatewayTestApp(main({}, **settings)) as app:
        yield app


def statuses_of_both(app, path, headers):
    """The statuses of requests that are under way at the same moment."""
    with ThreadPoolExecutor(len(headers)) as pool:
        return list(pool.map(lambda one: app.get(path, headers=one, status="*").status_int, headers))


def test_the_composite_asked_for_twice_makes_its_calls_once(app, services):
    first, second = get(app, RESULTS), get(app, RESULTS)
    assert first.body == second.body
    assert sorted(services.calls()) == COMPOSITE


def test_the_composite_asked_for_by_many_at_once_makes_its_calls_once(app, services):
    get(app, f"/v2/events/{samples.EVENT}")  # the token is known from now on
    services.seen.clear()
    services.manners["experiments"].delay_seconds = 0.3
    assert statuses_of_both(app, RESULTS, [AUTHORIZED] * 8) == [200] * 8
    assert sorted(services.calls()) == COMPOSITE


@pytest.mark.parametrize("path", OF_THE_ACCOUNT)
def test_403_for_another_account_after_the_owner_was_answered(app, path):
    get(app, path)
    assert_error(app.get(path, headers=OTHER, status=403), 403, "forbidden")


@pytest.mark.parametrize("path", OF_THE_ACCOUNT)
def test_the_owner_is_answered_after_another_account_was_refused(app, path):
    assert_error(app.get(path, headers=OTHER, status=403), 403, "forbidden")
    get(app, path)
    assert_error(app.get(path, headers=OTHER, status=403), 403, "forbidden")


@pytest.mark.parametrize("path", OF_THE_ACCOUNT)
@pytest.mark.parametrize(
    "order", [[AUTHORIZED, OTHER], [OTHER, AUTHORIZED]], ids=["owner first", "owner last"]
)
def test_a_call_that_two_accounts_share_answers_each_as_it_may(app, services, path, order):
    for headers in (AUTHORIZED, OTHER):  # the tokens are known from now on
        app.get("/v2/projects/99", headers=headers, status=404)
    services.seen.clear()
    for manners in services.manners.values():
        manners.delay_seconds = 0.2
    statuses = statuses_of_both(app, path, order)
    assert statuses == [200 if headers is AUTHORIZED else 403 for headers in order]
    first_call = services.calls()[0]
    assert services.calls().count(first_call) == 1


@pytest.mark.parametrize("kind", ["projects", "campaigns", "experiments", "events"])
def test_each_account_has_its_own_list(app, kind):
    query = "" if kind in ("projects", "experiments") else "?project_id={}"
    for headers, project in ((AUTHORIZED, samples.PROJECT), (OTHER, samples.OTHER_PROJECT)) * 2:
        listed = app.get(f"/v2/{kind}{query.format(project)}", headers=headers, status=200).json
        assert {entity.get("project_id", entity["id"]) for entity in listed} == {project}


def test_a_404_is_forgotten_at_once(app, services):
    experiment = services.experiments.pop(samples.EXPERIMENT)
    assert_error(get(app, RESULTS, status=404), 404, "not_found")
    services.experiments[samples.EXPERIMENT] = experiment
    get(app, RESULTS)


@pytest.mark.parametrize("failing", ["experiments", "projects", "results"])
def test_a_failure_is_forgotten_at_once(app, services, failing):
    get(app, f"/v2/events/{samples.EVENT}")  # the token is known from now on
    services.manners[failing].status = 503
    if failing == "projects":
        assert get(app, RESULTS).headers["X-Unreachable"] == "project"
    else:
        assert_error(get(app, RESULTS, status=503), 503, "upstream_unavailable", failing)
    services.manners[failing].status = None
    assert "X-Unreachable" not in get(app, RESULTS).headers


def test_a_definition_is_no_older_than_its_seconds(services):
    with GatewayTestApp(main({}, **services.settings(), definition_cache_seconds="0.2")) as app:
        path = f"/v2/experiments/{samples.EXPERIMENT}"
        get(app, path)
        services.experiments[samples.EXPERIMENT]["name"] = "Renamed"
        changed = time.monotonic()
        while (name := get(app, path).json["name"]) != "Renamed":
            assert time.monotonic() - changed < 10
        assert name == "Renamed"


def test_new_results_are_seen_at_once_unless_they_are_trusted_for_longer(services):
    with GatewayTestApp(main({}, **services.settings(), **PATIENT)) as app:
        get(app, RESULTS)
        services.results[samples.EXPERIMENT]["reach"]["total_count"] = 2001
        assert get(app, RESULTS).json["reach"]["total_count"] == 2001


def test_new_results_are_seen_within_their_seconds(services):
    with GatewayTestApp(main({}, **services.settings(), results_cache_seconds="0.2")) as app:
        get(app, RESULTS)
        services.results[samples.EXPERIMENT]["reach"]["total_count"] = 2001
        changed = time.monotonic()
        while get(app, RESULTS).json["reach"]["total_count"] != 2001:
            assert time.monotonic() - changed < 10


def test_no_request_changes_what_is_kept_for_the_next(app):
    """Composition and views make new values around the values ones; each operation is asked twice, and both agree."""
    paths = [
        *OF_THE_ACCOUNT,
        f"{RESULTS}?baseline_variation_id={samples.TREATMENT}",
        f"{RESULTS}?browser=firefox",
    ]
    first = {path: get(app, path).body for path in paths}
    caches = app.registry[CLIENT].caches.values()
    values = {key: entry.value for cache in caches for key, entry in cache._entries.items()}
    before = {key: orjson.dumps(value) for key, value in values.items()}
    assert len(values) == 7
    assert {path: get(app, path).body for path in paths} == first
    assert {key: orjson.dumps(value) for key, value in values.items()} == before
    assert all(entry.value is values[key] for cache in caches for key, entry in cache._entries.items())


def test_the_access_log_names_only_calls_that_were_waited_for(app, caplog):
    with caplog.at_level("INFO", "optimizely_api.access"):
        get(app, RESULTS)
        get(app, RESULTS)
    first, second = (record.fields for record in caplog.records)
    assert len(first["upstreams_ms"]["experiments"]) == 2
    assert second["upstreams_ms"] == {}

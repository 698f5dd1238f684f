"""While services do not answer: what callers get of what was kept, how they are told, and who gets nothing."""

import re

import pytest

from optimizely_api import main
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get

EXPERIMENT = f"/v2/experiments/{samples.EXPERIMENT}"
RESULTS = f"{EXPERIMENT}/results"
# Everything is kept, and nothing is fresh.
KEPT_ONLY = {
    "definition_cache_seconds": "0.000001",
    "datafile_cache_seconds": "0.000001",
    "identity_cache_seconds": "0",
    "unknown_token_seconds": "0",
}
SERVICES = ("projects", "experiments", "results")


@pytest.fixture
def app(services):
    with GatewayTestApp(main({}, **services.settings(), **KEPT_ONLY)) as gateway:
        yield gateway


def close_all(services):
    for name in SERVICES:
        services.close(name)


def test_200_with_kept_results_that_say_so_while_no_service_answers(app, services):
    whole = get(app, RESULTS)
    close_all(services)
    response = get(app, RESULTS)
    assert response.json == {**whole.json, "is_stale": True}
    assert response.headers["ETag"] != whole.headers["ETag"]
    assert response.headers["Age"] == "0"
    how, parts = re.fullmatch(
        'optimizely-api; (.*); detail="(.*)"', response.headers["Cache-Status"]
    ).groups()
    assert how == "fwd=stale"
    assert parts.split("; ") == [
        f"{part} 0 s old: upstream_unavailable" for part in ("experiment", "campaign", "project", "results")
    ]
    assert "X-Unreachable" not in response.headers


def test_a_kept_part_is_not_missing(app, services):
    whole = get(app, RESULTS)
    services.close("projects")
    response = get(app, RESULTS)
    assert (response.json, response.headers["ETag"]) == (whole.json, whole.headers["ETag"])
    assert 'detail="project 0 s old: upstream_unavailable"' in response.headers["Cache-Status"]


def test_304_to_who_has_what_is_kept_and_it_says_so_too(app, services):
    etag = get(app, EXPERIMENT).headers["ETag"]
    close_all(services)
    response = get(app, EXPERIMENT, status=304, **{"If-None-Match": etag})
    assert response.headers["Age"] == "0"
    assert response.headers["Cache-Status"].startswith("optimizely-api; fwd=stale")


def test_a_fresh_response_says_nothing_of_age(app):
    for _ in range(2):
        headers = get(app, RESULTS).headers
        assert {"Age", "Cache-Status", "X-Unreachable"}.isdisjoint(headers)


def test_lists_are_not_kept(app, services):
    path = f"/v2/experiments?project_id={samples.PROJECT}"
    get(app, path)
    services.close("experiments")
    assert_error(get(app, path, status=503), 503, "upstream_unavailable", "(part: experiments)")


def test_the_datafile_of_an_sdk_key_goes_on_being_served(app, services):
    (sdk_key,) = services.sdk_keys
    whole = app.get(f"/datafiles/{sdk_key}.json")
    close_all(services)
    response = app.get(f"/datafiles/{sdk_key}.json")
    assert (response.body, response.headers["ETag"]) == (whole.body, whole.headers["ETag"])
    assert response.headers["Cache-Status"].endswith('detail="experiments 0 s old: upstream_unavailable"')


class TestTokens:
    def test_an_accepted_token_goes_on_reading(self, app, services):
        get(app, EXPERIMENT)
        services.close("projects")
        get(app, EXPERIMENT)

    def test_it_does_not_go_on_writing(self, app, services):
        get(app, EXPERIMENT)
        services.close("projects")
        response = app.patch_json(EXPERIMENT, {"name": "New"}, headers=AUTHORIZED, status=503)
        assert_error(response, 503, "upstream_unavailable", "projects")

    def test_one_that_was_never_accepted_does_not_begin_to(self, app, services):
        services.close("projects")
        assert_error(get(app, EXPERIMENT, status=503), 503, "upstream_unavailable", "projects")

    def test_one_that_was_refused_since_is_refused_or_unknown(self, app, services):
        get(app, EXPERIMENT)
        services.tokens.pop(samples.TOKEN)
        get(app, EXPERIMENT, status=401)
        services.close("projects")
        get(app, EXPERIMENT, status=503)

    def test_one_that_another_worker_was_told_is_revoked_is_not_accepted(self, app, services):
        with GatewayTestApp(main({}, **services.settings(), **KEPT_ONLY)) as other:
            for worker in (app, other):
                get(worker, EXPERIMENT)
            services.tokens.pop(samples.TOKEN)
            get(other, EXPERIMENT, status=401)
            services.close("projects")
            get(app, EXPERIMENT, status=503)

    @pytest.mark.parametrize("status", [401, 403, 410])
    def test_an_answer_about_it_is_no_outage(self, app, services, status):
        get(app, EXPERIMENT)
        services.manners["projects"].status = status
        get(app, EXPERIMENT, status=502)

    def test_it_goes_on_for_its_seconds_only(self, services):
        with GatewayTestApp(
            main({}, **services.settings(), **KEPT_ONLY, stale_if_error_identity_seconds="0")
        ) as app:
            get(app, EXPERIMENT)
            services.close("projects")
            get(app, EXPERIMENT, status=503)

    def test_a_caller_who_gives_up_early_makes_no_outage_of_a_service_that_is_well(self, app, services):
        get(app, EXPERIMENT)
        services.hung_tokens.add(samples.TOKEN)
        get(app, EXPERIMENT, status=504, **{"X-Request-Timeout-Ms": "50"})
        services.hung_tokens.clear()
        services.tokens.pop(samples.TOKEN)
        get(app, EXPERIMENT, status=401)

    def test_a_caller_who_waits_for_the_services_whole_time_limit_has_met_an_outage(self, services):
        settings = {**services.settings(), **KEPT_ONLY, "projects_timeout_seconds": "1.0"}
        with GatewayTestApp(main({}, **settings)) as app:
            get(app, EXPERIMENT)
            services.hung_tokens.add(samples.TOKEN)
            get(app, EXPERIMENT, **{"X-Request-Timeout-Ms": "5000"})

    def test_what_it_may_see_is_judged_as_ever(self, app, services):
        get(app, EXPERIMENT)
        other = {"Authorization": f"Bearer {samples.OTHER_TOKEN}"}
        app.get(f"/v2/experiments/{samples.OTHER_EXPERIMENT}", headers=other, status=200)
        close_all(services)
        assert_error(app.get(EXPERIMENT, headers=other, status=403), 403, "forbidden")


def test_503_for_what_was_kept_before_a_write(app, services):
    get(app, EXPERIMENT)
    app.patch_json(EXPERIMENT, {"name": "New"}, headers=AUTHORIZED, status=200)
    services.close("experiments")
    assert_error(get(app, EXPERIMENT, status=503), 503, "upstream_unavailable", "experiments")


def test_404_is_the_answer_and_forgets_what_was_kept(app, services):
    get(app, EXPERIMENT)
    services.experiments.clear()
    get(app, EXPERIMENT, status=404)
    services.close("experiments")
    get(app, EXPERIMENT, status=503)


def test_0_seconds_keep_nothing_for_an_outage(services):
    off = {"stale_if_error_seconds": "0", "stale_if_error_results_seconds": "0"}
    with GatewayTestApp(main({}, **services.settings(), **KEPT_ONLY, **off)) as app:
        get(app, RESULTS)
        for name in ("experiments", "results"):
            services.close(name)
            assert_error(get(app, RESULTS, status=503), 503, "upstream_unavailable", name)
            services.open(name)

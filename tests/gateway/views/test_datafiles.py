"""Datafiles: what SDKs poll, and the same with a token."""

from typing import Any

import pytest

from optimizely_api import main
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error

SDK_KEY = samples.entity("Environment")["datafile"]["sdk_key"]
OTHERS = {"Authorization": f"Bearer {samples.OTHER_TOKEN}"}
ADDRESS = f"/datafiles/{SDK_KEY}.json"


@pytest.fixture(scope="module")
def project(real_app: Any) -> Any:
    body = {"name": "Shop", "platform": "custom"}
    return real_app.post_json("/v2/projects", body, headers=AUTHORIZED).json


@pytest.fixture
def environment(real_app: Any, project: Any) -> Any:
    return environments(real_app, project)[0]


def environments(app: Any, project: Any) -> Any:
    return app.get(f"/v2/environments?project_id={project['id']}", headers=AUTHORIZED).json


def address(environment: Any) -> str:
    return f"/datafiles/{environment['datafile']['sdk_key']}.json"


def attribute(app: Any, project: Any, key: str) -> Any:
    body = {"project_id": project["id"], "key": key}
    return app.post_json("/v2/attributes", body, headers=AUTHORIZED, status=201).json


def calls_about_datafiles(services: Any) -> list[str]:
    return [call for call in services.calls() if "/datafiles" in call]


class TestServing:
    def test_200_without_a_token_for_every_page(self, real_app: Any, environment: Any) -> None:
        response = real_app.get(address(environment))
        assert response.content_type == "application/json"
        assert response.json["sdkKey"] == environment["datafile"]["sdk_key"]
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Cache-Control"] == "public, no-cache"
        assert environment["datafile"]["latest_file_size"] == len(response.body)
        assert response.json["revision"] == str(environment["datafile"]["revision"])

    def test_200_a_change_is_there_when_its_response_is(self, real_app: Any, project: Any) -> None:
        for number in range(20):
            environment = environments(real_app, project)[0]
            before = real_app.get(address(environment))
            attribute(real_app, project, f"at-once-{number}")
            after = real_app.get(address(environment))
            assert int(after.json["revision"]) == int(before.json["revision"]) + 1
            assert after.headers["Last-Modified"] != before.headers["Last-Modified"]
            assert after.headers["ETag"] != before.headers["ETag"]

    def test_head_is_get_without_the_body(self, real_app: Any, environment: Any) -> None:
        headers = {"Accept-Encoding": "identity"}
        got, head = (call(address(environment), headers=headers) for call in (real_app.get, real_app.head))
        assert head.body == b""
        for name in ("ETag", "Last-Modified", "Content-Type", "Content-Length"):
            assert head.headers[name] == got.headers[name]

    def test_304_for_the_time_and_for_the_tag(self, real_app: Any, project: Any, environment: Any) -> None:
        first = real_app.get(address(environment))
        by_time = {"If-Modified-Since": first.headers["Last-Modified"]}
        by_tag = {"If-None-Match": first.headers["ETag"]}
        for headers in (by_time, by_tag):
            response = real_app.get(address(environment), headers=headers, status=304)
            assert response.headers["Last-Modified"] == first.headers["Last-Modified"]
            assert response.headers["ETag"] == first.headers["ETag"]
        attribute(real_app, project, "conditional")
        for headers in (by_time, by_tag, {**by_time, "If-None-Match": '"another"'}):
            real_app.get(address(environment), headers=headers, status=200)

    def test_200_for_a_time_that_is_none(self, real_app: Any, environment: Any) -> None:
        for text in ("yesterday", "", "Mon, 99 Jan 2026 12:00:00 GMT", "1"):
            real_app.get(address(environment), headers={"If-Modified-Since": text}, status=200)

    def test_200_compressed_for_callers_that_take_it(self, real_app: Any, project: Any) -> None:
        for number in range(30):
            attribute(real_app, project, f"a-long-key-that-compresses-well-{number}")
        at = address(environments(real_app, project)[0])
        plain = real_app.get(at)
        coded = real_app.get(at, headers={"Accept-Encoding": "gzip"})
        assert coded.body == plain.body  # which the test's client has decoded
        assert coded.headers["ETag"] == plain.headers["ETag"][:-1] + '-gzip"'
        assert "Accept-Encoding" in coded.headers["Vary"]
        seen = {"Accept-Encoding": "gzip", "If-None-Match": coded.headers["ETag"]}
        real_app.get(at, headers=seen, status=304)

    def test_404_for_an_unknown_key(self, real_app: Any) -> None:
        for sdk_key in ("V1StGXR8Z5jdHi6BmyT9kQ", "x" * 65, "%00", "a%2Fb", "%C3%A4"):
            refused = real_app.get(f"/datafiles/{sdk_key}.json", expect_errors=True)
            assert_error(refused, 404, "not_found")

    def test_404_as_long_as_the_environment_is_archived(self, real_app: Any, project: Any) -> None:
        development = environments(real_app, project)[1]
        one = f"/v2/environments/{development['id']}"
        served = real_app.get(address(development)).body
        real_app.delete(one, headers=AUTHORIZED)
        assert_error(real_app.get(address(development), expect_errors=True), 404, "not_found")
        refused = real_app.get(f"{one}/datafile", headers=AUTHORIZED, expect_errors=True)
        assert_error(refused, 404, "not_found")
        real_app.patch_json(one, {"archived": False}, headers=AUTHORIZED)
        real_app.post_json("/v2/attributes", {"project_id": project["id"], "key": "back"}, headers=AUTHORIZED)
        assert real_app.get(f"{one}/datafile", headers=AUTHORIZED).body != served

    def test_200_an_environment_of_which_nobody_has_told_the_service(
        self, real_app: Any, real_stack: Any
    ) -> None:
        project = real_stack.another_project(platform="custom")
        query = "SELECT sdk_key FROM sdk_keys JOIN environments ON id = environment_id WHERE project_id = ?"
        for (sdk_key,) in real_stack.rows("projects", query, project["id"]):
            assert real_app.get(f"/datafiles/{sdk_key}.json").json["sdkKey"] == sdk_key


class TestWithAToken:
    def test_200_the_same_bytes(self, real_app: Any, environment: Any) -> None:
        response = real_app.get(f"/v2/environments/{environment['id']}/datafile", headers=AUTHORIZED)
        assert response.body == real_app.get(address(environment)).body

    def test_403_for_another_account(self, real_app: Any, environment: Any) -> None:
        refused = real_app.get(
            f"/v2/environments/{environment['id']}/datafile", headers=OTHERS, expect_errors=True
        )
        assert_error(refused, 403, "forbidden")


def test_200_an_environment_shows_the_revision_that_is_served(real_app: Any, project: Any) -> None:
    before = environments(real_app, project)
    attribute(real_app, project, "counted")
    for old, new in zip(before, environments(real_app, project), strict=True):
        assert new["datafile"]["revision"] == old["datafile"]["revision"] + 1
        served = real_app.get(address(new))
        assert served.json["revision"] == str(new["datafile"]["revision"])
        assert new["datafile"]["latest_file_size"] == len(served.body)


def test_201_an_environment_that_is_archived_from_the_start_shows_a_first_revision(
    real_app: Any, project: Any
) -> None:
    body = {"project_id": project["id"], "key": "old", "name": "Old", "archived": True}
    made = real_app.post_json("/v2/environments", body, headers=AUTHORIZED, status=201).json
    assert made["datafile"]["revision"] == 1
    real_app.get(address(made), status=404)


def test_polls_cost_one_read_of_the_service(services: Any) -> None:
    with GatewayTestApp(main({}, **services.settings(), datafile_cache_seconds="60")) as app:
        bodies = {app.get(ADDRESS).body for _ in range(100)}
    assert len(bodies) == 1
    assert calls_about_datafiles(services) == [f"GET experiments /datafiles/{SDK_KEY}"]


def test_a_kept_datafile_is_confirmed_when_its_time_is_over(services: Any) -> None:
    with GatewayTestApp(main({}, **services.settings(), datafile_cache_seconds="0.000001")) as app:
        first = app.get(ADDRESS).body
        assert app.get(ADDRESS).body == first
        assert services.seen[-1].headers["If-None-Match"] == '"1"'
        services.datafiles[SDK_KEY] = samples.datafile(SDK_KEY, 2, built="2026-01-05T09:30:01Z")
        assert app.get(ADDRESS).json["revision"] == "2"


def test_an_unknown_key_is_asked_for_once_in_a_while(services: Any) -> None:
    with GatewayTestApp(main({}, **services.settings(), datafile_cache_seconds="60")) as app:
        for _ in range(10):
            app.get("/datafiles/guessed.json", status=404)
    assert services.calls() == ["GET experiments /datafiles/guessed", "GET projects /sdk_keys/guessed"]


def test_304_for_a_time_after_the_revision_so_that_no_sdk_goes_back(gateway: Any, services: Any) -> None:
    later = {"If-Modified-Since": "Tue, 06 Jan 2026 00:00:00 GMT"}
    gateway.get(ADDRESS, headers=later, status=304)
    earlier = {"If-Modified-Since": "Sun, 04 Jan 2026 00:00:00 GMT"}
    gateway.get(ADDRESS, headers=earlier, status=200)


def test_502_for_a_datafile_that_is_none(gateway: Any, services: Any) -> None:
    services.manners["experiments"].body = b"{}"
    assert_error(gateway.get(ADDRESS, expect_errors=True), 502, "bad_upstream_answer")

"""The documents and the docs page's files are sent whole, whatever range is asked for (RFC 9110 section 14.2)."""

import pytest

from optimizely_api.runtime.testing import GatewayTestApp
from tests.contract.conftest import make_router


@pytest.fixture(scope="module")
def app():
    with GatewayTestApp(make_router({})) as app:
        yield app


@pytest.mark.parametrize("wanted", ["bytes=999999999-", "bytes=0-9", "bytes=-1", "bytes=0-1,5-6", "lines=1"])
@pytest.mark.parametrize("path", ["/v2/swagger.json", "/v2/swagger.yaml", "/docs", "/docs/swagger-ui.css"])
def test_200_and_the_whole_of_it_when_a_range_is_asked_for(app, path, wanted):
    whole = app.get(path)
    answer = app.get(path, headers={"Range": wanted})
    assert (answer.status_int, answer.body) == (200, whole.body)
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize("path", ["/v2/swagger.json", "/docs/swagger-ui.css"])
def test_304_to_a_client_that_has_it_and_asks_for_a_range(app, path):
    has_it = {"If-None-Match": app.get(path).headers["ETag"], "Range": "bytes=0-9"}
    assert app.get(path, headers=has_it).status_int == 304

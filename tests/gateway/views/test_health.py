"""GET /healthz and /readyz: for load balancers, without a token and outside the contract."""

from tests.support.asserting import assert_error


def test_healthz_is_200_whatever_the_services_do(gateway, services):
    services.close("results")
    assert gateway.get("/healthz").json == {"status": "ok"}


def test_readyz_is_200_when_all_services_answer(gateway):
    assert gateway.get("/readyz").json == {"status": "ready"}


def test_readyz_is_503_and_says_which_service_does_not_answer(gateway, services):
    services.close("results")
    services.manners["experiments"].status = 500
    response = gateway.get("/readyz", status=503)
    body = assert_error(response, 503, "upstream_unavailable", "Not ready")
    assert set(body["messages"]) == {"/results", "/experiments"}
    assert response.headers["Retry-After"]


def test_health_is_not_in_the_contract(gateway):
    assert not [path for path in gateway.get("/v2/swagger.json").json["paths"] if "healthz" in path]

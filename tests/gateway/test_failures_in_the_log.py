"""What a service does wrong is one line of the log, without a traceback: it is no defect of the gateway."""

import logging

import pytest

from optimizely_api import main
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support import samples
from tests.support.asserting import AUTHORIZED
from tests.support.serving import KEEPS_NOTHING

FAILURES = {
    "closed": (503, lambda services: services.close("results")),
    "status 500": (502, lambda services: setattr(services.manners["results"], "status", 500)),
    "status 503": (503, lambda services: setattr(services.manners["results"], "status", 503)),
    "no JSON": (502, lambda services: setattr(services.manners["results"], "body", b"<html>\n\n</html>")),
    "cut off": (502, lambda services: setattr(services.manners["results"], "cut_off", True)),
    "silent": (504, lambda services: setattr(services.manners["results"], "hang", True)),
    "trickling": (504, lambda services: setattr(services.manners["results"], "trickle", True)),
}


@pytest.fixture(scope="module")
def impatient(running_services):
    settings = {**running_services.settings(), **KEEPS_NOTHING, "results_timeout_seconds": "1.0"}
    with GatewayTestApp(main({}, **settings)) as app:
        yield app


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_of_a_service_is_one_line_beside_that_of_the_access_log(kind, impatient, services, caplog):
    status, begin = FAILURES[kind]
    begin(services)
    with caplog.at_level(logging.INFO):
        response = impatient.get(
            f"/v2/experiments/{samples.EXPERIMENT}/results", headers=AUTHORIZED, expect_errors=True
        )
    assert response.status_int == status
    lines = {
        record.name: logging.Formatter().format(record)
        for record in caplog.records
        if record.name.startswith("optimizely_api") and "watchdog" not in record.name
    }
    assert lines.keys() == {"optimizely_api.access", "optimizely_api.gateway.errors"}
    assert len([record for record in caplog.records if record.name in lines]) == 2
    assert "\n" not in lines["optimizely_api.gateway.errors"]
    assert response.json["uuid"] in lines["optimizely_api.gateway.errors"]
    assert "results" in lines["optimizely_api.gateway.errors"]

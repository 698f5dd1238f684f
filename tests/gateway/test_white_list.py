"""Nothing of a service's entity is shown but the contract's properties."""

from typing import Any

import pytest

from optimizely_api import main
from optimizely_api.runtime.testing import GatewayTestApp
from tests.gateway.test_declared_errors import ASK_NO_SERVICE, CONTRACT, ask, own
from tests.support.asserting import AUTHORIZED
from tests.support.serving import KEEPS_NOTHING

OPERATIONS = sorted(CONTRACT.operations.keys() - ASK_NO_SERVICE)


@pytest.fixture(scope="module")
def app(running_services: Any) -> Any:
    with GatewayTestApp(main({}, **running_services.settings(), **KEEPS_NOTHING)) as opened:
        yield opened


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_an_internal_key_of_a_service_is_not_shown(app: Any, services: Any, operation_id: str) -> None:
    services.internal_keys = {"internal_key": "internal value"}
    operation = CONTRACT.operations[operation_id]
    response = ask(app, operation, own(operation), **AUTHORIZED)
    assert response.status_int < 300, response.text
    assert "internal" not in response.text

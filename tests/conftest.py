"""What all tests share: which run when, the doubles of the services, and the gateway in front of them."""

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest

from optimizely_api import main
from optimizely_api.runtime.testing import GatewayTestApp
from optimizely_api.services_key import FILE_VARIABLE, VARIABLE
from tests.support import samples
from tests.support.browser import axe, browser
from tests.support.distributing import pytest_xdist_make_scheduler
from tests.support.real_services import RealServices, real_services
from tests.support.services_double import ServicesDouble
from tests.support.serving import KEEPS_NOTHING

__all__ = ["axe", "browser", "pytest_xdist_make_scheduler"]  # fixtures and hooks

# For all gateways and services that the tests start, in this process and in others.
os.environ[VARIABLE] = samples.SERVICES_KEY
os.environ.pop(FILE_VARIABLE, None)

IN_CI = os.environ.get("CI", "").lower() == "true"
WHOLE = os.environ.get("WHOLE_SIMULATIONS") == "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too, as CI does")


# They take minutes: begun last, they would be what all else waits for.
FIRST = ("tests/system/", "tests/sdk/", "tests/comparison/", "tests/clients/", "tests/workflows/")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))
    left_out = set()
    if not (IN_CI or config.getoption("--slow") or "slow" in config.option.markexpr):
        left_out.add("slow")
    if not WHOLE:
        left_out.add("whole")
    deselected = [item for item in items if any(item.get_closest_marker(name) for name in left_out)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in set(deselected)]


def pytest_collection_finish() -> None:
    """Leave all that was imported and collected out of the garbage collector's rounds: it stays to the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI everything that a test may need is there, so that a skip hides a defect; but perhaps no npm and network."""
    report = (yield).get_result()  # type: ignore[attr-defined]
    if IN_CI and report.skipped and not hasattr(report, "wasxfail") and "registries" not in item.keywords:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"


@pytest.fixture(scope="session")
def real_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServices]:
    """The three services as processes, on databases of their own."""
    with real_services(tmp_path_factory.mktemp("services"), results_workers=1) as services:
        yield services


@pytest.fixture(scope="session")
def real_app(real_stack: RealServices) -> Iterator[GatewayTestApp]:
    """The gateway in front of them."""
    with GatewayTestApp(main({}, **real_stack.settings())) as app:
        yield app


@pytest.fixture(scope="session")
def ids(real_stack: RealServices) -> dict[str, int]:
    """The ids of what the services have from the start: a project, a campaign, an experiment and an event."""
    return real_stack.ids


@pytest.fixture(scope="session")
def running_services() -> Iterator[ServicesDouble]:
    double = ServicesDouble()
    double.start()
    yield double
    double.stop()


@pytest.fixture
def services(running_services: ServicesDouble) -> Iterator[ServicesDouble]:
    """Doubles of the three services, well behaved until a test says otherwise."""
    running_services.reset()
    yield running_services
    # Fixtures of a longer scope may be the next to ask the doubles.
    running_services.reset()
    for name in running_services.manners:
        running_services.open(name)


@pytest.fixture(scope="session")
def running_gateway(running_services: ServicesDouble) -> Iterator[Any]:
    from optimizely_api import main
    from optimizely_api.runtime.testing import GatewayTestApp

    with GatewayTestApp(main({}, **running_services.settings(), **KEEPS_NOTHING)) as app:
        yield app


@pytest.fixture
def gateway(running_gateway: Any, services: ServicesDouble) -> Any:
    """The whole gateway before the doubles; `gateway.get("/v2/...")` runs its coroutine views."""
    return running_gateway

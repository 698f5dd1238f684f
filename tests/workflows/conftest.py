"""The product as its users run it: the gateway and the services as processes, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.services.databases import create_postgresql, drop_postgresql
from tests.support.real_services import NAMES
from tests.support.whole_stack import Caller, WholeStack, whole_stack


async def _created() -> dict[str, str]:
    return {name: await create_postgresql() for name in NAMES}


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    databases = asyncio.run(_created()) if request.param == "postgresql" else {}
    with whole_stack(tmp_path_factory.mktemp(request.param), databases) as started:
        yield started
    if databases:
        asyncio.run(drop_postgresql(*databases.values()))


@pytest.fixture
def api(stack: WholeStack) -> Iterator[Caller]:
    """A caller of an account of its own."""
    caller = stack.new_account()
    yield caller
    caller.session.close()

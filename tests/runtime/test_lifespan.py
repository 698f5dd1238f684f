"""Start-up and shut-down hooks."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from pyramid.config import Configurator

from optimizely_api.runtime import AsgiBridge


def hook(name, events, *, enter=None, leave=None):
    @asynccontextmanager
    async def opened(registry):
        if enter is not None:
            raise enter
        events.append(f"{name} opened")
        try:
            yield
        finally:
            events.append(f"{name} closed")
        if leave is not None:
            raise leave

    return opened


def bridge_with(*hooks):
    with Configurator() as config:
        config.include("optimizely_api.runtime")
        for factory in hooks:
            config.add_lifespan(factory)
        return AsgiBridge(config.make_wsgi_app())


async def lifespan(bridge, events):
    """Drive the lifespan as a server does; returns the messages it sent."""
    inbox = asyncio.Queue()
    sent = []

    async def send(message):
        events.append(message["type"].removeprefix("lifespan."))
        sent.append(message)
        if message["type"] == "lifespan.startup.complete":
            inbox.put_nowait({"type": "lifespan.shutdown"})

    inbox.put_nowait({"type": "lifespan.startup"})
    await bridge({"type": "lifespan"}, inbox.get, send)
    return sent


async def test_hooks_are_entered_in_order_and_left_in_reverse():
    events = []
    await lifespan(bridge_with(hook("first", events), hook("second", events)), events)
    assert events == [
        "first opened",
        "second opened",
        "startup.complete",
        "second closed",
        "first closed",
        "shutdown.complete",
    ]


async def test_a_failed_start_up_closes_the_open_hooks_and_reports_the_reason(caplog):
    events = []
    failing = hook("second", events, enter=OSError("port in use"))
    sent = await lifespan(bridge_with(hook("first", events), failing), events)
    assert sent == [{"type": "lifespan.startup.failed", "message": "OSError: port in use"}]
    assert events == ["first opened", "startup.failed", "first closed"]
    assert "port in use" in caplog.text


async def test_a_failed_shut_down_is_reported_and_the_other_hooks_still_run():
    events = []
    failing = hook("second", events, leave=OSError("broken pipe"))
    sent = await lifespan(bridge_with(hook("first", events), failing), events)
    assert sent[-1] == {"type": "lifespan.shutdown.failed", "message": "OSError: broken pipe"}
    assert events[-3:] == ["second closed", "first closed", "shutdown.failed"]


async def test_a_cancelled_lifespan_still_closes_the_open_hooks():
    events = []
    started = asyncio.Event()
    inbox = asyncio.Queue()
    inbox.put_nowait({"type": "lifespan.startup"})

    async def send(message):
        started.set()

    @asynccontextmanager
    async def always_closed(registry):
        try:
            yield
        finally:
            events.append("closed")

    bridge = bridge_with(always_closed)
    task = asyncio.create_task(bridge({"type": "lifespan"}, inbox.get, send))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events == ["closed"]


async def test_the_watchdog_is_on_the_registry_while_the_application_lives():
    bridge = bridge_with()
    await lifespan(bridge, [])
    assert bridge.registry["watchdog"].stalls == 0

"""aiopyramid on current Python: each of the patches in `aiopyramid_compat`."""

import asyncio
import contextvars
import inspect
import subprocess
import sys
import threading

import greenlet
import pytest
from pyramid import threadlocal
from pyramid.threadlocal import get_current_request, manager

from optimizely_api.runtime import aiopyramid_compat, spawn_greenlet, synchronize
from optimizely_api.runtime.aiopyramid_compat import ContextLocalManager, await_in_greenlet

who = contextvars.ContextVar("who", default="nobody")


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


# asyncio.coroutine


def test_aiopyramid_alone_cannot_be_imported():
    """When this test fails, aiopyramid supports current Python and the patches can be removed."""
    assert "asyncio' has no attribute 'coroutine'" in run_python("import aiopyramid").stderr


def test_importing_the_patches_imports_aiopyramid_and_leaves_asyncio_unchanged():
    code = "import asyncio, optimizely_api.runtime, aiopyramid; print(hasattr(asyncio, 'coroutine'))"
    assert run_python(code).stdout == "False\n"


def test_aiopyramid_needs_no_deprecated_function_of_asyncio():
    import aiopyramid.config
    import aiopyramid.helpers

    for module in (aiopyramid.config, aiopyramid.helpers):
        assert module.asyncio.iscoroutinefunction is not asyncio.iscoroutinefunction
        assert module.asyncio.sleep is asyncio.sleep


async def _native():
    return "result"


def _returns_a_coroutine():
    return _native()


def _returns_a_generator():
    def generator():
        yield
        return "result"

    return generator()


def _generator():
    yield from asyncio.sleep(0).__await__()
    return "result"


def _plain():
    return "result"


@pytest.mark.parametrize("func", [_native, _returns_a_coroutine, _returns_a_generator, _generator, _plain])
async def test_the_replacement_of_asyncio_coroutine_makes_any_result_awaitable(func):
    marked = aiopyramid_compat.coroutine(func)
    assert aiopyramid_compat.iscoroutinefunction(marked)
    assert await marked() == "result"


def test_a_plain_function_is_not_a_coroutine_function():
    assert not aiopyramid_compat.iscoroutinefunction(_plain)


# Context variables


async def test_the_greenlet_sees_the_context_variables_of_the_task():
    who.set("the task")
    assert await spawn_greenlet(who.get) == "the task"


async def test_task_greenlet_and_coroutine_share_one_context():
    seen = []

    @synchronize
    async def view():
        seen.append(who.get())
        await asyncio.sleep(0)
        who.set("the view")

    def tween():
        who.set("the tween")
        view()
        seen.append(who.get())

    await spawn_greenlet(tween)
    assert [*seen, who.get()] == ["the tween", "the view", "the view"]


async def test_a_coroutine_runs_in_the_task_of_the_request():
    @synchronize
    async def view():
        await asyncio.sleep(0)
        return [asyncio.current_task()]

    assert await spawn_greenlet(view) == [asyncio.current_task()]


# Cancellation


async def cancelled_in(view):
    """Spawn a greenlet that waits for the coroutine function `view`, cancel it there, and return what happened."""
    events = []
    waiting = asyncio.Event()

    def application():
        try:
            return synchronize(view)(waiting)
        except asyncio.CancelledError:
            events.append("greenlet")
            raise
        finally:
            events.append("finally")

    task = asyncio.create_task(spawn_greenlet(application))
    await waiting.wait()
    task.cancel()
    try:
        events.append(await asyncio.wait_for(task, 5.0))
    except asyncio.CancelledError:
        events.append("task")
    return events


async def test_cancellation_is_raised_in_the_view_and_unwinds_the_greenlet():
    seen = []

    async def view(waiting):
        waiting.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("view")
            raise

    assert await cancelled_in(view) == ["greenlet", "finally", "task"]
    assert seen == ["view"]


async def test_a_view_may_finish_although_it_is_cancelled():
    async def view(waiting):
        waiting.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "an answer"

    assert await cancelled_in(view) == ["finally", "an answer"]


async def test_a_cancelled_greenlet_may_wait_for_coroutines_while_it_unwinds():
    events = []
    waiting = asyncio.Event()

    @synchronize
    async def sleep_long():
        waiting.set()
        await asyncio.sleep(60)

    @synchronize
    async def clean_up():
        await asyncio.sleep(0.01)
        events.append("cleaned up")

    def application():
        try:
            sleep_long()
        finally:
            clean_up()

    task = asyncio.create_task(spawn_greenlet(application))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events == ["cleaned up"]


async def test_a_request_cancelled_before_its_first_step_never_enters_the_application():
    entered = []
    task = asyncio.create_task(spawn_greenlet(entered.append, 1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert entered == []


async def test_a_timeout_around_the_request_becomes_a_timeout_error():
    @synchronize
    async def view():
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await spawn_greenlet(view)


async def test_a_request_abandoned_by_its_loop_unwinds_its_greenlet():
    events = []

    @synchronize
    async def view():
        await asyncio.Event().wait()

    def application():
        try:
            view()
        finally:
            events.append("unwound")

    coroutine = spawn_greenlet(application)
    coroutine.send(None)
    coroutine.close()
    assert events == ["unwound"]


# spawn_greenlet


async def test_spawn_greenlet_is_a_coroutine_function_that_create_task_takes():
    assert inspect.iscoroutinefunction(spawn_greenlet)
    assert await asyncio.create_task(spawn_greenlet(lambda: "result")) == "result"


async def test_spawn_greenlet_awaits_a_future_that_the_function_returns():
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, "later")
    assert await spawn_greenlet(lambda: future) == "later"


async def test_an_exception_keeps_its_traceback_through_the_greenlet():
    @synchronize
    async def fails_here():
        raise ValueError("in the view")

    with pytest.raises(ValueError, match="in the view") as caught:
        await spawn_greenlet(fails_here)
    assert "fails_here" in [entry.name for entry in caught.traceback]


async def test_the_names_in_aiopyramid_are_the_patched_ones():
    import aiopyramid.helpers

    assert aiopyramid.helpers.spawn_greenlet is spawn_greenlet is aiopyramid_compat.spawn_greenlet
    assert aiopyramid.helpers.run_in_greenlet is aiopyramid_compat.run_in_greenlet


async def test_synchronized_calls_may_wait_for_futures_of_an_executor():
    @synchronize(strict=False)
    def in_thread():
        return asyncio.get_running_loop().run_in_executor(None, threading.get_ident)

    assert await spawn_greenlet(in_thread) != threading.get_ident()


def test_waiting_outside_of_a_request_raises_an_explanation():
    with pytest.raises(RuntimeError, match="outside of a request's greenlet"):
        await_in_greenlet(asyncio.sleep, 0)


async def test_a_finished_request_leaves_no_greenlet():
    running = []

    def application():
        running.append(greenlet.getcurrent())
        synchronize(_native)()

    await spawn_greenlet(application)
    assert running[0].dead


# Pyramid's stack of current requests


async def test_every_request_is_the_current_request_of_its_own_code():
    async def request(name):
        def application():
            manager.push({"request": name, "registry": None})
            try:
                for _ in range(5):
                    synchronize(asyncio.sleep)(0)
                    assert get_current_request() == name
            finally:
                manager.pop()
            return get_current_request()

        return await spawn_greenlet(application)

    assert set(await asyncio.gather(*(request(f"request {number}") for number in range(20)))) == {None}


async def test_a_task_of_a_view_inherits_the_current_request_and_keeps_its_own():
    manager.push({"request": "outer", "registry": None})
    try:

        async def child():
            assert get_current_request() == "outer"
            manager.push({"request": "inner", "registry": None})
            return get_current_request()

        assert await asyncio.create_task(child()) == "inner"
        assert get_current_request() == "outer"
    finally:
        manager.pop()


def test_a_new_thread_starts_with_no_request():
    seen = []
    manager.push({"request": "here", "registry": None})
    try:
        thread = threading.Thread(target=lambda: seen.append(get_current_request()))
        thread.start()
        thread.join()
    finally:
        manager.pop()
    assert seen == [None]


def test_every_module_that_holds_the_manager_has_the_patched_one():
    import pyramid.config
    import pyramid.view

    assert {type(module.manager) for module in (threadlocal, pyramid.config, pyramid.view)} == {
        ContextLocalManager
    }


def test_the_manager_behaves_as_pyramids_own():
    context = contextvars.copy_context()

    def use():
        manager.clear()
        assert manager.pop() is None
        assert manager.get()["request"] is None
        manager.push({"request": 1})
        manager.set({"request": 2})
        assert manager.stack == [{"request": 1}, {"request": 2}]
        assert manager.pop() == {"request": 2}
        assert manager.get() == {"request": 1}

    context.run(use)


def test_a_stack_in_use_survives_the_patch():
    code = (
        "from pyramid.threadlocal import manager; manager.push({'request': 'early'});"
        "import optimizely_api.runtime; print(manager.get(), manager.pop(), manager.stack)"
    )
    assert run_python(code).stdout == "{'request': 'early'} {'request': 'early'} []\n"

"""The pool of greenlets: one greenlet runs many calls, and no call leaves anything behind in it."""

import asyncio
import contextvars
import gc
import threading
import weakref

import greenlet
import pytest

from optimizely_api.runtime import greenlets, spawn_greenlet
from optimizely_api.runtime.aiopyramid_compat import await_in_greenlet

variable = contextvars.ContextVar("variable", default="nobody's")


class Held:
    """An object that only one call refers to."""


async def pause():
    await asyncio.sleep(0)


async def test_the_next_call_runs_in_the_greenlet_of_the_last_one():
    first = await spawn_greenlet(greenlet.getcurrent)
    assert await spawn_greenlet(greenlet.getcurrent) is first


async def test_calls_at_the_same_time_have_a_greenlet_each():
    def call():
        await_in_greenlet(pause)
        return greenlet.getcurrent()

    made = await asyncio.gather(*(spawn_greenlet(call) for _ in range(5)))
    assert len(set(made)) == 5


async def test_an_idle_greenlet_counts_as_dead():
    seen = []

    def call():
        seen.append(greenlet.getcurrent().dead)

    worker = await spawn_greenlet(lambda: call() or greenlet.getcurrent())
    assert (seen, worker.dead) == ([False], True)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_call_leaves_no_reference_behind(fails):
    held = Held()
    alive = weakref.ref(held)

    def call(given):
        variable.set(given)
        if fails:
            raise ValueError(given)
        return given

    async def task(given):
        try:
            await spawn_greenlet(call, given)
        except ValueError:
            assert fails

    gc.disable()
    try:
        await asyncio.create_task(task(held))
        del held
        await asyncio.sleep(0)  # the loop is still at the end of the task
        assert alive() is None
    finally:
        gc.enable()


async def test_a_call_does_not_see_the_context_of_the_one_before():
    await asyncio.create_task(spawn_greenlet(variable.set, "the first one's"))
    assert await asyncio.create_task(spawn_greenlet(variable.get)) == "nobody's"


async def test_a_greenlet_whose_call_failed_is_used_again():
    with pytest.raises(ZeroDivisionError):
        await spawn_greenlet(lambda: 1 // 0)
    assert await spawn_greenlet(lambda: "answered") == "answered"


async def test_no_more_than_the_limit_stay_idle_and_the_others_end():
    def call():
        await_in_greenlet(pause)
        return greenlet.getcurrent()

    number = greenlets.MOST_IDLE + 20
    made = await asyncio.gather(*(spawn_greenlet(call) for _ in range(number)))
    kept = [worker for worker in made if worker.is_idle]
    assert len(kept) == greenlets.MOST_IDLE
    assert all(greenlet.greenlet.dead.__get__(worker) for worker in made if not worker.is_idle)


def test_each_thread_has_its_own_pool():
    made = []

    def run():
        made.append(asyncio.run(spawn_greenlet(greenlet.getcurrent)))

    for thread in [threading.Thread(target=run) for _ in range(2)]:
        thread.start()
        thread.join()
    assert made[0] is not made[1]


async def test_a_greenlet_may_start_another():
    async def inner():
        return await spawn_greenlet(lambda: await_in_greenlet(give, "inner"))

    async def give(value):
        return value

    assert await spawn_greenlet(lambda: await_in_greenlet(inner)) == "inner"


def test_idle_greenlets_end_with_their_thread():
    alive = []

    async def call():
        alive.append(weakref.ref(await spawn_greenlet(greenlet.getcurrent)))

    thread = threading.Thread(target=lambda: asyncio.run(call()))
    thread.start()
    thread.join()
    gc.collect()
    assert [worker() for worker in alive] == [None]

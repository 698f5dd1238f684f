"""Interleaved requests: each sees its own current request and its own context variables, everywhere."""

import random

import pytest

from tests.runtime.interleaved_app import ROOMS, Interleaved


@pytest.mark.parametrize(
    "requests",
    [2_000, pytest.param(5_000, marks=pytest.mark.slow), pytest.param(100_000, marks=pytest.mark.whole)],
)
async def test_no_request_ever_sees_another(requests):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    application = Interleaved(seed)
    assert await application.run(requests, at_once=200) == 0
    print(application.checks.made)
    assert application.checks.wrong == dict.fromkeys(ROOMS, 0)
    assert min(application.checks.made.values()) > requests / 5

"""Numbers of any size in a batch, and sums without the noise of binary fractions."""

from __future__ import annotations

import itertools
import math
import os
import random
from collections.abc import Iterator
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from optimizely_api.services.results.numbers import quotient, without_noise
from tests.services.results.conftest import Results
from tests.services.results.sending import CONTROL, HOUR, MINUTE, NOON, conversion, impression, iso, metric
from tests.services.results.test_long_texts import BATCH, texts, with_text

SEED = int(os.environ.get("TEST_SEED") or random.randrange(2**32))
VALUE = metric("sum", field="value")


def numbers(rng: random.Random) -> list[str]:
    """Numbers as JSON spells them: around the limits of integers and doubles, and of many digits."""
    edges = [2**power + near for power in (31, 32, 53, 63, 64, 1024) for near in (-1, 0, 1)]
    whole = [str(sign * edge) for edge in edges for sign in (1, -1)]
    digits = ["".join(rng.choices("123456789", k=rng.randint(15, 25))) for _ in range(4)]
    longer = [rng.choice("123456789") * length for length in (20, 310, 400, 401, 5_000)]
    fractions = [f"{rng.random()}e{rng.choice('+-')}{rng.randint(0, 400)}" for _ in range(8)]
    return [
        *whole,
        *digits,
        *longer,
        *fractions,
        "1e309",
        "-1e400",
        "5e-324",
        "1e-400",
        "-0.0",
        "NaN",
        "-Infinity",
    ]


def bodies(path: tuple[str | int, ...], spelled: list[str]) -> Iterator[bytes]:
    """Batches with the numbers at this place: of many visitors, or one for each where the batch has one place."""
    changed = [with_text(BATCH, path, "@").replace(b'"@"', number.encode()) for number in spelled]
    if path[0] != "visitors":
        yield from changed
    else:
        start, end = b'"visitors":[', b"]"
        before, _ = changed[0].split(start)
        entries = [body.split(start)[1].rpartition(end)[0] for body in changed]
        yield before + start + b",".join(entries) + end + b"}"


async def test_204_or_400_for_a_number_of_any_size_in_any_field(results: Results) -> None:
    print("seed", SEED)
    plain = numbers(random.Random(SEED))
    quoted = [f'"{number}"' for number in plain]
    for path in texts(BATCH):
        for body in itertools.chain(bodies(path, plain), bodies(path, quoted)):
            status, error = await results.caller.call("POST", "/v1/events", data=body)
            assert status == 204 or (status == 400 and path == ("account_id",)), (path, error)
    await results.send(impression("bob"), conversion("bob", value=2))
    answer = await results.ask(VALUE, metric("sum", field="revenue"), metric("sum", None, field="value"))
    assert answer["reach"]["total_count"] >= 1


SUMS: list[tuple[list[float], str, float]] = [
    ([0.1] * 24, "2.4", 0.6),
    ([170.24, 510.72, 340.48, 680.96], "1702.4", 425.6),
    ([0.1, 0.2], "0.3", 0.075),
    ([1.1, 2.2, 3.3, 0.4], "7", 1.75),
    ([12_345_678_901.23, 0.01], "12345678901.24", 3_086_419_725.31),
    ([-0.7, 0.1, 0.6], "0", 0),
]


async def test_a_sum_shows_no_noise_of_binary_fractions(results: Results) -> None:
    await results.send(*[impression(f"v{number}") for number in range(4)])
    entries = [
        conversion(f"v{number % 4}", 7_000 + event, NOON + number * HOUR, value=value)
        for event, (values, _, _) in enumerate(SUMS)
        for number, value in enumerate(values)
    ]
    await results.send(*entries)
    metrics = [metric("sum", 7_000 + event, field="value") for event in range(len(SUMS))]
    for more in ({}, {"end_time": iso(NOON + 30 * HOUR - MINUTE)}):
        answer = await results.ask(*metrics, **more)
        found = [item["results"][str(CONTROL)] for item in answer["metrics"]]
        assert [(str(item["value"]), item["rate"]) for item in found] == [
            (shown, rate) for _, shown, rate in SUMS
        ]


@given(st.lists(st.decimals(-(10**6), 10**6, places=2), max_size=200))
def test_the_sum_of_amounts_in_cents_is_shown_exactly(amounts: list[Decimal]) -> None:
    summands = [float(amount) for amount in amounts]
    shown = without_noise(sum(summands), math.hypot(*summands))
    assert shown == float(sum(amounts, Decimal()))


@given(st.integers(-(2**53), 2**53))
def test_a_whole_sum_is_shown_as_it_is(total: int) -> None:
    shown = without_noise(float(total))
    assert (shown, type(shown)) == (total, int)


@given(st.integers(0, 2**53), st.integers(1, 10**9))
def test_a_rate_is_the_shown_value_by_the_samples(value: int, samples: int) -> None:
    assert quotient(value, samples) == value / samples

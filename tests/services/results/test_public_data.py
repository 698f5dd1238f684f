"""Results of two public data sets, rebuilt from their published counts and posted as SDKs would.

K. Hillstrom's e-mail challenge (MineThatData, 2008): 64,000 customers in three arms, visits and conversions of two
weeks. Cookie Cats (Tactile Entertainment, by DataCamp): players whose first gate is at level 30 or 40, retained after
1 and 7 days.
A tenth of the visitors, and all of them where WHOLE_SIMULATIONS=1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from optimizely_api.services.results import create_application
from tests.services.conftest import running
from tests.services.databases import SQLiteDatabases
from tests.services.results.conftest import Results
from tests.services.results.sending import HOUR, NOON, conversion, impression, metric

# One visitor of so many.
SHARES = pytest.mark.parametrize(
    "share", [pytest.param(10, id="short"), pytest.param(1, id="whole", marks=pytest.mark.whole)]
)
ENTRIES_OF_BATCH = 1_000
FIRST, SECOND = 9201, 9202  # events


@dataclass(frozen=True)
class Arm:
    """A variation: its visitors, and how many of them did the first and the second thing."""

    name: str
    visitors: int
    first: int
    second: int


# Visits of 10.62, 18.28 and 15.14 %; conversions of 0.573, 1.253 and 0.884 %.
HILLSTROM = (
    Arm("No E-Mail", 21_306, 2_262, 122),
    Arm("Mens E-Mail", 21_307, 3_894, 267),
    Arm("Womens E-Mail", 21_387, 3_238, 189),
)
# Retention of 44.82 and 44.23 % after a day, 19.02 and 18.20 % after seven.
COOKIE_CATS = (Arm("gate_30", 44_700, 20_034, 8_502), Arm("gate_40", 45_489, 20_119, 8_279))


@pytest_asyncio.fixture
async def on_sqlite(sqlite_databases: SQLiteDatabases, tmp_path: Path) -> AsyncIterator[Results]:
    """A results service on one database: the figures do not depend on its kind."""
    url = await sqlite_databases.create("results", tmp_path)
    async with running(create_application(url), url) as caller:
        yield Results(caller)


async def send(results: Results, arms: tuple[Arm, ...], share: int) -> None:
    """All visitors within an hour of noon, what they did an hour later."""
    entries = []
    for number, arm in enumerate(arms, 1):
        for visitor in range(arm.visitors // share):
            name, at = f"{number}-{visitor}", NOON + visitor
            entries.append(impression(name, number, at))
            entries += [
                conversion(name, event_id, at + HOUR)
                for event_id, count in ((FIRST, arm.first), (SECOND, arm.second))
                if visitor < count // share
            ]
    for start in range(0, len(entries), ENTRIES_OF_BATCH):
        await results.send(*entries[start : start + ENTRIES_OF_BATCH])


async def ask(
    results: Results, arms: tuple[Arm, ...], share: int, level: float = 0.9
) -> list[dict[str, Any]]:
    """The results of both metrics by variation, insisting on the counts that were sent."""
    variations = [{"variation_id": number, "name": arm.name} for number, arm in enumerate(arms, 1)]
    metrics = (metric(event_id=FIRST), metric(event_id=SECOND))
    answer = await results.ask(*metrics, variations=variations, stats_config={"confidence_level": level})
    assert answer["reach"]["total_count"] == sum(arm.visitors // share for arm in arms)
    found = [measured["results"] for measured in answer["metrics"]]
    for number, arm in enumerate(arms, 1):
        shown = [(of_metric[str(number)]["value"], of_metric[str(number)]["samples"]) for of_metric in found]
        assert shown == [(count // share, arm.visitors // share) for count in (arm.first, arm.second)]
    return found


@SHARES
async def test_hillstroms_e_mails_bring_visits_and_conversions(on_sqlite: Results, share: int) -> None:
    await send(on_sqlite, HILLSTROM, share)
    visits, conversions = await ask(on_sqlite, HILLSTROM, share)
    mens, womens = visits["2"]["lift"], visits["3"]["lift"]
    assert visits["1"]["rate"] == pytest.approx(0.1062, abs=1e-4)
    assert mens["value"] == pytest.approx(0.721, abs=0.01)
    assert womens["value"] == pytest.approx(0.426, abs=0.01)
    assert (mens["lift_status"], womens["lift_status"]) == ("better", "better")
    assert mens["confidence_interval"][0] < mens["value"] < mens["confidence_interval"][1]
    if share == 1:
        mens, womens = conversions["2"]["lift"], conversions["3"]["lift"]
        assert (mens["value"], womens["value"]) == pytest.approx((1.19, 0.54), abs=0.02)
        assert (mens["lift_status"], womens["lift_status"]) == ("better", "better")
        assert mens["significance"] > 0.999
    else:  # a tenth of the conversions is too few
        assert conversions["3"]["lift"]["lift_status"] == "equal"


@SHARES
async def test_moving_the_gate_of_cookie_cats_costs_retention_after_seven_days(
    on_sqlite: Results, share: int
) -> None:
    await send(on_sqlite, COOKIE_CATS, share)
    after_one, after_seven = await ask(on_sqlite, COOKIE_CATS, share)
    assert after_one["2"]["lift"]["value"] == pytest.approx(-0.0132, abs=0.001)
    assert after_seven["2"]["lift"]["value"] == pytest.approx(-0.0431, abs=0.001)
    assert after_one["2"]["lift"]["lift_status"] == "equal"
    # By 90 % worse, by 95 % not: with all players only.
    assert after_seven["2"]["lift"]["lift_status"] == ("worse" if share == 1 else "equal")
    assert (await ask(on_sqlite, COOKIE_CATS, share, 0.95))[1]["2"]["lift"]["lift_status"] == "equal"

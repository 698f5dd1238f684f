"""Writers of the experiments service at the same moment, of whom one must give way, on both databases."""

from __future__ import annotations

import asyncio

from tests.services.conftest import Caller
from tests.services.test_experiments import OWNER

ROUNDS = 8


async def test_of_a_page_and_an_event_that_take_one_key_at_once_exactly_one_gets_it(
    experiments: Caller,
) -> None:
    page = await experiments.made("/pages", {**OWNER, "name": "Home", "edit_url": "https://shop.example/"})
    event = await experiments.made("/events", {**OWNER, "key": "order", "event_type": "custom"})
    for number in range(ROUNDS):
        key = {"key": f"taken_{number}"}
        answers = await asyncio.gather(
            experiments.patch(f"/pages/{page['id']}", key), experiments.patch(f"/events/{event['id']}", key)
        )
        assert sorted(status for status, _ in answers) == [200, 400], number

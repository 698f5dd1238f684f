"""Visitors whose account filters bots: those of a bot's user agent do not count."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from optimizely_api.services.results.ingest.bots import MAX_AGENT_LENGTH, is_bot
from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    TREATMENT,
    attribute,
    batch,
    conversion,
    impression,
    metric,
)

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"
GOOGLEBOT = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
HEADLESS = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/126.0 Safari/537.36"
BROWSERS = [
    CHROME,
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
]


def filtering(agent: str | None = None, wanted: Any = True) -> list[dict[str, Any]]:
    """The attributes by which an SDK says that bots are left out, and what its caller says of the visitor."""
    attributes = [attribute("$opt_bot_filtering", wanted, "$opt_bot_filtering")]
    if agent is not None:
        attributes.append(attribute("$opt_user_agent", agent, "$opt_user_agent"))
    return attributes


SENT: dict[str, tuple[list[dict[str, Any]], str, bool]] = {
    "a bot by attribute": (filtering(GOOGLEBOT), "python-requests/2.32", False),
    "a bot in a browser's batch": (filtering(GOOGLEBOT), CHROME, False),
    "a bot by the request": (filtering(), GOOGLEBOT, False),
    "a bot that runs pages": (filtering(), HEADLESS, False),
    "a browser by attribute": (filtering(CHROME), "python-requests/2.32", True),
    "a browser reported by a bot's address": (filtering(CHROME), GOOGLEBOT, True),
    "a browser by the request": (filtering(), CHROME, True),
    "a server that does not say": (filtering(), "python-requests/2.32", True),
    "an empty attribute": (filtering(""), "node-fetch", True),
    "nobody filters": ([], GOOGLEBOT, True),
    "filtering is off": (filtering(GOOGLEBOT, wanted=False), GOOGLEBOT, True),
    "filtering by text": (filtering(GOOGLEBOT, wanted="true"), GOOGLEBOT, True),
}


async def test_bots_count_unless_the_account_filters_them(results: Results) -> None:
    expected = 0
    for name, (attributes, sender, counts) in SENT.items():
        body = batch(impression(name, attributes=attributes), conversion(name, attributes=attributes))
        status, _ = await results.caller.post("/v1/events", body, headers={"User-Agent": sender})
        assert status == 204
        expected += counts
        figures = await results.figures()
        assert figures.get(str(CONTROL), (0, 0)) == (expected, expected), name


async def test_the_entries_of_bots_are_counted_in_the_log(
    results: Results, caplog: pytest.LogCaptureFixture
) -> None:
    bot = filtering(GOOGLEBOT)
    with caplog.at_level(logging.WARNING, "optimizely_api.services.results"):
        await results.send(
            impression("ann", attributes=bot), conversion("ann", attributes=bot), impression("bob", TREATMENT)
        )
    (fields,) = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert fields["reasons"] == {"a visitor entry of a bot": 2}
    assert (await results.figures(metric("count")))[str(TREATMENT)] == (0, 1)


@pytest.mark.parametrize("agent", BROWSERS)
def test_browsers_are_no_bots(agent: str) -> None:
    assert not is_bot(agent)


def test_the_bots_of_the_list_are_known() -> None:
    agents = [agent for entry in CRAWLER_USER_AGENTS_DATA for agent in entry["instances"]]
    missed = [agent for agent in agents[::10] if not is_bot(agent)]
    assert len(missed) <= len(agents[::10]) // 100, missed


@pytest.mark.parametrize("text", ["a", "ContextualBo", "ContextualBot", "Spider", " ", "\x00"])
def test_a_megabyte_of_user_agent_is_judged_at_once(text: str) -> None:
    began = time.process_time()
    assert is_bot(text * (1_000_000 // len(text))) == is_bot((text * MAX_AGENT_LENGTH)[:MAX_AGENT_LENGTH])
    assert time.process_time() - began < 0.02

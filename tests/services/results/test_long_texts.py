"""A megabyte of one character, in whichever text of a batch or a question, costs no more than milliseconds."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from optimizely_api.services.http.errors import ServiceError
from optimizely_api.services.results.ingest.batches import MalformedBatchError, parse_batch
from optimizely_api.services.results.query.questions import read_question
from optimizely_api.services.results.query.segments import matching_visitors
from tests.services.results.conftest import Results
from tests.services.results.sending import (
    EXPERIMENT,
    NOON,
    attribute,
    batch,
    conversion,
    impression,
    iso,
    metric,
    question,
)

MEGABYTE = 1_000_000
NOTICED_SECONDS = 0.05  # of CPU
CHARACTERS = "0a .-+eE\\é"

Path = tuple[str | int, ...]

ENTRY = impression("ann", attributes=[{**attribute("plan", "gold"), "type": "custom"}])
ENTRY["session_id"] = "AUTO"
ENTRY["snapshots"] += conversion("ann", revenue="5", value="2.5", type="other", tags={"colour": "red"})[
    "snapshots"
]
BATCH = batch(ENTRY)
QUESTION = question(
    metric("sum", field="value"),
    baseline_variation_id="9102",
    start_time=iso(NOON),
    end_time=iso(NOON),
    earliest=iso(NOON),
    segment={
        "browser": "firefox",
        "device": "desktop",
        "source": "direct",
        "attribute_id": "9401",
        "attribute_value": "gold",
        "segment_conditions": '["and", {"name": "plan", "value": "gold"}]',
    },
    epochs=[{"start_time": iso(NOON), "end_time": iso(NOON), "weights": {"9102": 1}}],
)


def texts(document: Any, path: Path = ()) -> Iterator[Path]:
    """The places of all texts and numbers; a sender may put text where a number belongs."""
    if isinstance(document, dict | list):
        for key, below in document.items() if isinstance(document, dict) else enumerate(document):
            yield from texts(below, (*path, key))
    elif isinstance(document, str | int | float) and not isinstance(document, bool):
        yield path


def with_text(document: Any, path: Path, text: str) -> bytes:
    changed = place = copy.deepcopy(document)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = text
    return orjson.dumps(changed)


def cpu_seconds(read: Callable[[], Any]) -> float:
    """The least of two tries: another process can only make one longer."""
    took = []
    for _ in range(2):
        began = time.process_time()
        with contextlib.suppress(MalformedBatchError, ServiceError):
            read()
        took.append(time.process_time() - began)
    return min(took)


def read_and_translate(document: Any) -> None:
    segment = read_question(EXPERIMENT, document).segment
    assert segment is not None
    matching_visitors(segment, is_sqlite=True)


def named(path: Path) -> str:
    return ".".join(map(str, path))


@pytest.mark.parametrize("path", list(texts(BATCH)), ids=named)
def test_a_long_text_in_a_batch_is_read_at_once(path: Path) -> None:
    for character in CHARACTERS:
        for end in ("", "x"):
            body = with_text(BATCH, path, character * MEGABYTE + end)
            assert cpu_seconds(lambda body=body: parse_batch(body)) < NOTICED_SECONDS, character


@pytest.mark.parametrize("path", list(texts(QUESTION)), ids=named)
def test_a_long_text_in_a_question_is_read_at_once(path: Path) -> None:
    for character in CHARACTERS:
        for end in ("", "x"):
            document = orjson.loads(with_text(QUESTION, path, character * MEGABYTE + end))
            took = cpu_seconds(lambda document=document: read_and_translate(document))
            assert took < NOTICED_SECONDS, character


@pytest.mark.parametrize("number", ["9" * MEGABYTE, "0." + "9" * MEGABYTE, "1e" + "9" * 400_000])
def test_a_long_number_in_a_batch_is_read_at_once(number: str) -> None:
    for path in texts(BATCH):
        body = with_text(BATCH, path, "@").replace(b'"@"', number.encode())
        assert cpu_seconds(lambda body=body: parse_batch(body)) < NOTICED_SECONDS, path


async def test_204_or_400_for_a_megabyte_of_digits_and_a_letter_in_any_field(results: Results) -> None:
    for path in texts(BATCH):
        body = with_text(BATCH, path, "0" * MEGABYTE + "x")
        began = time.process_time()
        status, _ = await results.caller.post("/v1/events", orjson.loads(body))
        assert status in (204, 400)
        assert time.process_time() - began < 1

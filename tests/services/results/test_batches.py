"""Reading batches: what is used, what is left out and counted."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizely_api.services.results.ingest import batches
from optimizely_api.services.results.ingest.batches import Batch, Decision, MalformedBatch, parse_batch
from tests.services.results.malformed import BAD_EVENTS, BAD_VISITORS, MALFORMED, ODD_TAGS, REVENUES, VALUES
from tests.services.results.sending import (
    CAMPAIGN,
    CONTROL,
    EXPERIMENT,
    NOON,
    PURCHASE,
    attribute,
    batch,
    conversion,
    impression,
    the_event,
)


def parse(*entries: Any, **more: Any) -> Batch:
    return parse_batch(json.dumps(batch(*entries, **more)).encode())


@pytest.mark.parametrize(("body", "says"), MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_batch_is_refused_with_its_reason(body: bytes, says: str) -> None:
    with pytest.raises(MalformedBatch, match=says):
        parse_batch(body)


@pytest.mark.parametrize("entry", BAD_VISITORS.values(), ids=BAD_VISITORS.keys())
def test_a_bad_visitor_entry_is_left_out_alone(entry: Any) -> None:
    parsed = parse(impression("ann"), entry, conversion("bob"))
    assert [event.visitor_key for event in parsed.events] == ["ann", "bob"]
    assert parsed.dropped.total() == 1


@pytest.mark.parametrize("entry", BAD_EVENTS.values(), ids=BAD_EVENTS.keys())
def test_a_bad_event_is_left_out_alone(entry: Any) -> None:
    entry = copy.deepcopy(entry)
    entry["snapshots"][0]["events"] += [None, the_event(conversion("ann", revenue=7))]
    parsed = parse(entry)
    assert [event.revenue for event in parsed.events] == [7]
    assert parsed.dropped.total() == 2


@pytest.mark.parametrize(("revenue", "cents"), REVENUES)
def test_revenue_is_whole_cents_or_nothing(revenue: Any, cents: int | None) -> None:
    assert [event.revenue for event in parse(conversion("ann", revenue=revenue)).events] == [cents]


@pytest.mark.parametrize(("value", "number"), VALUES)
def test_value_is_a_number_or_nothing(value: Any, number: float | None) -> None:
    assert [event.value for event in parse(conversion("ann", value=value)).events] == [number]


@pytest.mark.parametrize(
    ("name", "table"), [("revenue", REVENUES), ("value", VALUES)], ids=["revenue", "value"]
)
def test_an_amount_that_cannot_be_read_is_counted_and_the_event_still_counts(name: str, table: Any) -> None:
    unread = [given for given, read in table if read is None and given is not None]
    parsed = parse(*[conversion("ann", **{name: given}) for given, _ in table])
    assert len(parsed.events) == len(table)
    assert parsed.dropped == {f"an unusable {name}": len(unread)}


def test_an_integer_of_5000_digits_costs_its_event_at_most() -> None:
    text = json.dumps(batch(conversion("ann", revenue=1), conversion("ann", revenue=4)))
    parsed = parse_batch(text.replace('"revenue": 1', f'"revenue": {"9" * 5000}').encode())
    assert [event.revenue for event in parsed.events] == [None, 4]


def test_tags_are_kept_without_revenue_and_value() -> None:
    parsed = parse(conversion("ann", revenue=5, tags={"revenue": 5, "value": 2, "colour": "green"}))
    assert parsed.events[0].tags == '{"colour":"green"}'


def test_odd_tags_cost_nothing() -> None:
    assert len(parse(*ODD_TAGS).events) == len(ODD_TAGS)


@pytest.mark.parametrize("variation", [None, "", "none", "12x", 0, -1, 10**30, 1.5, True, [9102]])
def test_a_decision_without_a_numeric_variation_decides_nothing(variation: Any) -> None:
    entry = impression("ann")
    entry["snapshots"][0]["decisions"][0]["variation_id"] = variation
    (event,) = parse(entry).events
    assert event.decisions == []


@pytest.mark.parametrize("experiment", ["", "checkout", "٣", None])
def test_a_decision_of_a_non_numeric_experiment_decides_nothing(experiment: Any) -> None:
    entry = impression("ann")
    entry["snapshots"][0]["decisions"][0]["experiment_id"] = experiment
    (event,) = parse(entry).events
    assert event.decisions == []


@pytest.mark.parametrize("campaign", [str(CAMPAIGN), None, "flag_key", "", 12])
def test_a_decision_is_dated_by_its_impression(campaign: Any) -> None:
    entry = impression("ann", at=NOON)
    entry["snapshots"][0]["decisions"][0]["campaign_id"] = campaign
    entry["snapshots"][0]["events"].insert(0, the_event(conversion("ann", at=NOON - 1)))
    decided = [event for event in parse(entry).events if event.decisions]
    assert [(event.happened, event.decisions) for event in decided] == [
        (NOON, [Decision(EXPERIMENT, CONTROL)])
    ]


@pytest.mark.parametrize("entity", [None, "", "purchase", 10**30, {}])
def test_an_event_of_no_numeric_id_is_kept_without_one(entity: Any) -> None:
    entry = conversion("ann")
    the_event(entry)["entity_id"] = entity
    assert [event.entity_id for event in parse(entry).events] == [None]


def test_attributes_keep_their_json_type() -> None:
    values = ["1", 1, 1.0, True, 2.5, False]
    parsed = parse(conversion("ann", attributes=[attribute("plan", value) for value in values]))
    kinds = [(item.kind, item.value) for item in parsed.events[0].attributes]
    assert kinds == [
        ("string", "1"),
        ("number", "1"),
        ("number", "1"),
        ("boolean", "true"),
        ("number", "2.5"),
        ("boolean", "false"),
    ]


@pytest.mark.parametrize("value", [None, [], {}, float("nan"), 10**400, "half \ud83d", "\0", "long" * 1000])
def test_an_unusable_attribute_costs_nothing_else(value: Any) -> None:
    parsed = parse(conversion("ann", attributes=[attribute("plan", value), attribute("plan", "gold")]))
    assert [item.value for item in parsed.events[0].attributes] == ["gold"]
    assert parsed.dropped.total() == 1


def test_a_byte_order_mark_is_skipped() -> None:
    assert len(parse_batch(b"\xef\xbb\xbf" + json.dumps(batch(impression("ann"))).encode()).events) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(data=st.data())
def test_any_value_in_any_place_leaves_the_other_visitors_alone(data: st.DataObject) -> None:
    entry = impression("bob", attributes=[attribute("plan", "gold")])
    entry["snapshots"][0]["events"].append(the_event(conversion("bob", PURCHASE, revenue=1, value=1)))
    place: Any = entry
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)
    parsed = parse(impression("ann"), entry, conversion("eve"))
    keys = [event.visitor_key for event in parsed.events]
    assert keys[0] == "ann"
    assert keys[-1] == "eve"


def test_the_events_of_an_entry_share_its_attributes() -> None:
    entry = conversion("ann", attributes=[attribute("plan", "gold")])
    entry["snapshots"] *= 3
    first, *others = parse(entry).events
    assert all(event.attributes is first.attributes for event in others)


def test_attributes_over_the_limit_are_left_out_and_counted() -> None:
    given = [attribute(f"a{number}", number) for number in range(103)]
    parsed = parse(conversion("ann", attributes=given))
    assert [item.key for item in parsed.events[0].attributes] == [f"a{number}" for number in range(100)]
    assert parsed.dropped.total() == 3


def test_events_of_one_entry_over_the_limit_are_left_out_and_counted() -> None:
    entry = conversion("ann")
    entry["snapshots"][0]["events"] *= 700
    entry["snapshots"] *= 2
    parsed = parse(entry, conversion("bob"))
    assert [event.visitor_key for event in parsed.events] == ["ann"] * 1_000 + ["bob"]
    assert parsed.dropped.total() == 400


def test_events_of_one_batch_over_the_limit_are_left_out_and_counted() -> None:
    entry = conversion("ann")
    entry["snapshots"][0]["events"] *= 1_000
    parsed = parse(*[entry] * 21)
    assert len(parsed.events) == 20_000
    assert parsed.dropped.total() == 1_000


def test_decisions_of_one_snapshot_over_the_limit_are_left_out_and_counted() -> None:
    entry = impression("ann")
    entry["snapshots"][0]["decisions"] *= 104
    parsed = parse(entry)
    assert len(parsed.events[0].decisions) == 100
    assert parsed.dropped.total() == 4


def test_many_decisions_and_events_in_a_snapshot_are_read_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event's id and each decision's three: not one again for every event."""
    read = 0
    numeric_id = batches._numeric_id

    def counted(value: Any) -> int | None:
        nonlocal read
        read += 1
        return numeric_id(value)

    compared = 0

    class Counted(batches.Event):
        __slots__ = ()

        def __getattribute__(self, name: str) -> Any:
            nonlocal compared
            compared += 1
            return super().__getattribute__(name)

    monkeypatch.setattr(batches, "_numeric_id", counted)
    monkeypatch.setattr(batches, "Event", Counted)
    entry = impression("ann")
    entry["snapshots"][0]["events"] *= 1_000
    entry["snapshots"][0]["decisions"] *= 100
    parse(entry)
    assert read <= 1_000 + 3 * 100 + 1
    assert compared <= 10 * (1_000 + 100)

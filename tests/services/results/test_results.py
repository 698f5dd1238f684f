"""POST /results/{experiment_id}: figures worked out by hand, intervals, segments, what is refused."""

from __future__ import annotations

import base64
import itertools
import json
import time
from typing import Any

import pytest

from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    HOUR,
    MINUTE,
    NOON,
    PLAN,
    PURCHASE,
    SECOND,
    SIGNUP,
    TREATMENT,
    attribute,
    conversion,
    impression,
    iso,
    metric,
    question,
)

C, T = str(CONTROL), str(TREATMENT)


async def send_known_experiment(results: Results) -> None:
    """Control: a, b, c, d; treatment: e, f, g, h, i. Purchases in cents:

    a 1000; b 2000 and 3000; e 4000; f 500, 500 and 1000; g 1000. Nobody else bought anything.
    """
    for name in "abcd":
        await results.send(impression(name, CONTROL))
    for name in "efghi":
        await results.send(impression(name, TREATMENT))
    bought = {"a": [1000], "b": [2000, 3000], "e": [4000], "f": [500, 500, 1000], "g": [1000]}
    for name, amounts in bought.items():
        for amount in amounts:
            await results.send(conversion(name, revenue=amount, value=amount / 100))


HAND_COMPUTED = [
    # 2 of 4 and 3 of 5 converted: p (1 - p) = 0.25 and 0.24; lift 0.6 / 0.5 - 1.
    pytest.param(metric("unique"), (2, 4, 0.5, 0.25), (3, 5, 0.6, 0.24), 0.2, id="unique"),
    # Counts 1 2 0 0 (mean 0.75, squares 5): (5 - 9/4) / 3 = 11/12. 1 3 1 0 0 (mean 1, squares 11):
    # (11 - 25/5) / 4 = 1.5. Lift 1 / 0.75 - 1 = 1/3.
    pytest.param(metric("count"), (3, 4, 0.75, 11 / 12), (5, 5, 1.0, 1.5), 1 / 3, id="count"),
    # Revenues 1000 5000 0 0: sum 6000, squares 26e6, (26e6 - 36e6/4) / 3 = 17e6/3.
    # 4000 2000 1000 0 0: sum 7000, squares 21e6, (21e6 - 49e6/5) / 4 = 2.8e6. Lift 1400 / 1500 - 1 = -1/15.
    pytest.param(
        metric("sum", field="revenue"),
        (6000, 4, 1500.0, 17e6 / 3),
        (7000, 5, 1400.0, 2.8e6),
        -1 / 15,
        id="revenue",
    ),
    # The same in units of 100: variances divided by 10,000.
    pytest.param(
        metric("sum", field="value"), (60, 4, 15.0, 1700 / 3), (70, 5, 14.0, 280.0), -1 / 15, id="value"
    ),
    # Per purchase 1000 2000 3000: mean 2000, variance 1e6. 4000 500 500 1000 1000: mean 1400,
    # squares 18.5e6, (18.5e6 - 49e6/5) / 4 = 2.175e6. Lift 1400 / 2000 - 1 = -0.3.
    pytest.param(
        metric("sum", field="revenue", scope="event"),
        (6000, 3, 2000.0, 1e6),
        (7000, 5, 1400.0, 2.175e6),
        -0.3,
        id="revenue per purchase",
    ),
    # First purchases among purchases: 2 of 3 (2/9), 3 of 5 (0.24). Lift 0.6 / (2/3) - 1 = -0.1.
    pytest.param(
        metric("unique", scope="event"),
        (2, 3, 2 / 3, 2 / 9),
        (3, 5, 0.6, 0.24),
        -0.1,
        id="unique per purchase",
    ),
    # Every purchase counts one: no variance, no lift.
    pytest.param(
        metric("count", scope="event"), (3, 3, 1.0, 0.0), (5, 5, 1.0, 0.0), 0.0, id="count per purchase"
    ),
    # No event named: all conversions of the project, which here are the purchases.
    pytest.param(
        metric("sum", None, field="revenue"),
        (6000, 4, 1500.0, 17e6 / 3),
        (7000, 5, 1400.0, 2.8e6),
        -1 / 15,
        id="overall revenue",
    ),
]


async def test_the_figures_of_a_known_experiment(results: Results) -> None:
    await send_known_experiment(results)
    for case in HAND_COMPUTED:
        definition, control, treatment, lift = case.values
        (answer,) = (await results.ask(definition))["metrics"]  # type: ignore[arg-type]
        for variation, figures in ((C, control), (T, treatment)):
            found = [answer["results"][variation][key] for key in ("value", "samples", "rate", "variance")]
            assert found == pytest.approx(figures), case.id
        assert answer["results"][T]["lift"]["value"] == pytest.approx(lift), case.id
        assert "lift" not in answer["results"][C]


async def test_reach_counts_visitors_and_their_shares(results: Results) -> None:
    await send_known_experiment(results)
    assert (await results.ask())["reach"] == {
        "total_count": 9,
        "baseline_count": 4,
        "baseline_reach": pytest.approx(4 / 9),
        "treatment_count": 5,
        "treatment_reach": pytest.approx(5 / 9),
        "variations": {
            C: {
                "variation_id": C,
                "name": "Original",
                "count": 4,
                "variation_reach": pytest.approx(4 / 9),
            },
            T: {
                "variation_id": T,
                "name": "Shorter form",
                "count": 5,
                "variation_reach": pytest.approx(5 / 9),
            },
        },
    }


async def test_a_variation_is_described(results: Results) -> None:
    await results.send(impression("ann"))
    definition = metric("unique", name="Purchases", winning_direction="decreasing")
    (answer,) = (await results.ask(definition))["metrics"]
    assert {key: answer[key] for key in definition} == definition
    assert answer["results"][C] == {
        "experiment_id": EXPERIMENT,
        "variation_id": C,
        "name": "Original",
        "level": "variation",
        "is_baseline": True,
        "value": 0,
        "samples": 1,
        "rate": 0.0,
        "variance": 0.0,
    }
    assert answer["conclusion"] == {}


async def test_without_samples_there_is_no_rate_and_nothing_is_null(results: Results) -> None:
    await results.send(impression("ann"))
    answer = await results.ask(metric(), metric("sum", field="revenue", scope="event"))
    empty = answer["metrics"][0]["results"][T]
    assert (empty["value"], empty["samples"]) == (0, 0)
    assert not {"rate", "variance", "total_increase"} & empty.keys()
    assert empty["lift"] == {
        "is_significant": False,
        "significance": 0.0,
        "lift_status": "equal",
        "is_most_conclusive": False,
    }
    assert "null" not in json.dumps(answer)
    assert "NaN" not in json.dumps(answer)


async def send_clear_winner(results: Results) -> None:
    """200 visitors each: 20 of control and 120 of treatment convert."""
    entries = []
    for number in range(200):
        entries += [impression(f"c{number}", CONTROL), impression(f"t{number}", TREATMENT)]
        entries += [conversion(f"c{number}")] * (number < 20) + [conversion(f"t{number}")] * (number < 120)
    await results.send(*entries)


async def test_a_winner_is_named_with_its_interval_and_total_increase(results: Results) -> None:
    await send_clear_winner(results)
    (answer,) = (await results.ask())["metrics"]
    lift = answer["results"][T]["lift"]
    assert answer["conclusion"] == {"winner": T}
    assert lift["value"] == pytest.approx(5.0)
    assert (lift["is_significant"], lift["lift_status"], lift["visitors_remaining"]) == (True, "better", 0)
    assert lift["significance"] >= 0.9
    assert lift["is_most_conclusive"]
    increase = answer["results"][T]["total_increase"]
    assert increase["value"] == pytest.approx(100)  # 120, where control's rate would have brought 20
    assert increase["confidence_interval"][0] > 0


async def test_the_difference_may_be_absolute(results: Results) -> None:
    await send_clear_winner(results)
    config = {"confidence_level": 0.9, "difference_type": "absolute", "epoch_enabled": False}
    answer = await results.ask(stats_config=config)
    lift = answer["metrics"][0]["results"][T]["lift"]
    assert answer["stats_config"] == config
    assert lift["value"] == pytest.approx(0.5)
    assert 0 < lift["confidence_interval"][0] < 0.5 < lift["confidence_interval"][1] < 1


async def test_the_baseline_can_be_chosen(results: Results) -> None:
    await send_clear_winner(results)
    answer = await results.ask(baseline_variation_id=T)
    (measured,) = answer["metrics"]
    assert answer["reach"]["baseline_count"] == 200
    assert measured["results"][T]["is_baseline"]
    assert measured["results"][C]["lift"]["lift_status"] == "worse"
    assert measured["conclusion"] == {"loser": C}


async def test_falling_is_winning_where_the_metric_says_so(results: Results) -> None:
    await send_clear_winner(results)
    (answer,) = (await results.ask(metric(winning_direction="decreasing")))["metrics"]
    assert answer["results"][T]["lift"]["lift_status"] == "worse"
    assert answer["conclusion"] == {"loser": T}


async def test_visitors_remaining_shrink_as_visitors_come(results: Results) -> None:
    """8 % against 10 %, not yet significant: an estimate, and a smaller one with twice the visitors."""
    remaining = []
    for part in range(2):
        entries = []
        for number in range(500):
            names = f"c{part}-{number}", f"t{part}-{number}"
            entries += [impression(names[0], CONTROL), impression(names[1], TREATMENT)]
            entries += [conversion(names[0])] * (number < 40) + [conversion(names[1])] * (number < 60)
        await results.send(*entries)
        lift = (await results.ask())["metrics"][0]["results"][T]["lift"]
        assert not lift["is_significant"]
        remaining.append(lift["visitors_remaining"])
    assert isinstance(remaining[0], int)
    assert remaining[0] > remaining[1] > 0


async def test_one_variation_alone_has_reach_and_no_lift(results: Results) -> None:
    await results.send(impression("ann"), conversion("ann"))
    answer = await results.ask(variations=[{"variation_id": CONTROL, "name": "Original"}])
    assert answer["reach"]["treatment_count"] == 0
    assert answer["metrics"][0]["results"].keys() == {C}


async def test_visitors_of_unlisted_variations_are_not_counted(results: Results) -> None:
    await results.send(impression("ann"), impression("bob", 9999), conversion("bob"))
    assert (await results.ask())["reach"]["total_count"] == 1


async def test_overall_revenue_is_that_of_the_project(results: Results) -> None:
    overall = metric("sum", None, field="revenue")
    await results.send(impression("ann"), conversion("ann", PURCHASE, revenue=100))
    await results.send(conversion("ann", SIGNUP, revenue=20), project_id=None)
    await results.send(conversion("ann", 9203, revenue=3), project_id="9002")
    assert (await results.figures(overall))[C] == (120, 1)


async def test_senders_without_projects_count_for_the_project_that_asks(results: Results) -> None:
    overall = metric("sum", None, field="revenue")
    await results.send(impression("ann"), conversion("ann", revenue=100), project_id=None)
    await results.send(conversion("ann", revenue=20))
    await results.send(conversion("ann", revenue=3), project_id="9002")
    answer = (await results.ask(overall))["metrics"][0]["results"][C]
    assert (answer["value"], answer["samples"]) == (120, 1)
    await results.send(impression("bob"))
    variance = (await results.ask(overall))["metrics"][0]["results"][C]["variance"]
    assert variance == pytest.approx(7200)  # of 120 and 0: the two parts of ann's 120 belong together


async def test_a_visitor_whose_earliest_decision_names_another_project_leaves_the_first(
    results: Results,
) -> None:
    overall = metric("sum", None, field="revenue")
    gold = [attribute("plan", "gold")]
    await results.send(impression("ann", at=NOON, attributes=gold))
    await results.send(conversion("ann", at=NOON + SECOND, revenue=5), project_id=None)
    await results.send(impression("ann", at=NOON - 1), project_id="9002")
    for more in ({}, {"segment": {"attribute_id": PLAN}}, {"end_time": iso(NOON + HOUR)}):
        assert (await results.figures(overall, **more))[C] == (0, 1), more


async def test_204_without_data(results: Results) -> None:
    status, body = await results.caller.post(f"/results/{EXPERIMENT}", question())
    assert (status, body) == (204, None)
    await results.send(conversion("ann"))
    assert (await results.caller.post(f"/results/{EXPERIMENT}", question()))[0] == 204


async def test_times_given_are_rounded_to_five_minutes_and_echoed(results: Results) -> None:
    await results.send(impression("ann", at=NOON + 6 * MINUTE))
    answer = await results.ask(start_time=iso(NOON + 1), end_time=iso(NOON + 14 * MINUTE + 59 * SECOND))
    assert (answer["start_time"], answer["end_time"]) == ("2026-01-31T12:05:00Z", "2026-01-31T12:10:00Z")
    answer = await results.ask(start_time=iso(NOON), end_time=iso(NOON + 10 * MINUTE))
    assert (answer["start_time"], answer["end_time"]) == ("2026-01-31T12:00:00Z", "2026-01-31T12:10:00Z")


async def test_the_start_belongs_to_the_interval_and_the_end_does_not(results: Results) -> None:
    for number in range(4):
        at = NOON + number * 5 * MINUTE
        await results.send(impression(f"v{number}", at=at), conversion(f"v{number}", at=at))
    interval = {"start_time": iso(NOON + 5 * MINUTE), "end_time": iso(NOON + 15 * MINUTE)}
    assert (await results.figures(**interval))[C] == (2, 2)


async def test_an_hour_that_the_interval_cuts_is_counted_visitor_by_visitor(results: Results) -> None:
    await results.send(impression("ann", at=NOON + 50 * MINUTE), impression("bob", at=NOON + 5 * MINUTE))
    assert (await results.figures(start_time=iso(NOON + 30 * MINUTE)))[C] == (0, 1)
    assert (await results.figures(end_time=iso(NOON + 30 * MINUTE)))[C] == (0, 1)


async def test_an_hour_filled_by_two_batches_knows_its_first_entry(results: Results) -> None:
    await results.send(impression("late", at=NOON + 50 * MINUTE))
    await results.send(impression("early", at=NOON + 5 * MINUTE))
    assert (await results.figures(start_time=iso(NOON + 30 * MINUTE)))[C] == (0, 1)


async def test_an_interval_that_alternates_between_whole_and_cut_hours_is_counted_at_once(
    results: Results,
) -> None:
    """Every other hour has a visitor with a conversion after the end: 130 stretches."""
    end = NOON + 130 * HOUR
    entries = []
    for hour in range(130):
        entries += [impression(f"v{hour}", at=NOON + hour * HOUR), conversion(f"v{hour}", at=end - 1)]
        entries += [conversion(f"v{hour}", at=end + 1)] * (hour % 2)
    await results.send(*entries)
    assert (await results.figures(metric("count"), end_time=iso(end)))[C] == (130, 130)
    assert (await results.figures(metric("count"), end_time=iso(end + HOUR)))[C] == (195, 130)


async def test_conversions_after_the_end_do_not_count(results: Results) -> None:
    await results.send(
        impression("ann"), conversion("ann", at=NOON + MINUTE), conversion("ann", at=NOON + 7 * MINUTE)
    )
    assert (await results.figures(metric("count"), end_time=iso(NOON + 5 * MINUTE)))[C] == (1, 1)
    assert (await results.figures(metric("count"), end_time=iso(NOON + 10 * MINUTE)))[C] == (2, 1)


async def test_without_times_the_interval_goes_from_the_first_decision_to_now(results: Results) -> None:
    now = int(time.time() * 1000)
    await results.send(impression("ann", at=NOON + 90 * SECOND))
    # A client whose clock is two seconds ahead.
    await results.send(impression("bob", at=now + 2_000), conversion("bob", at=now + 2_000))
    answer = await results.ask()
    assert answer["start_time"] == "2026-01-31T12:01:30Z"
    assert iso(now // 1000 * 1000) <= answer["end_time"] <= iso(now + MINUTE)
    assert answer["reach"]["total_count"] == 2
    assert answer["metrics"][0]["results"][C]["value"] == 1
    assert answer["is_stale"] is False


async def test_what_happens_later_than_a_clock_may_be_ahead_does_not_count_yet(results: Results) -> None:
    now = int(time.time() * 1000)
    await results.send(impression("ann"), conversion("ann", at=now + HOUR), conversion("ann", at=now))
    await results.send(impression("eve", at=now + HOUR), conversion("eve", at=now + HOUR))
    assert await results.figures(metric("count")) == {C: (1, 1), T: (0, 0)}


async def test_an_end_in_the_future_means_now(results: Results) -> None:
    now = int(time.time() * 1000)
    await results.send(impression("ann"), impression("eve", at=now + 2 * HOUR))
    for end in (iso(now + 3 * HOUR), "2999-12-31T00:00:00Z"):
        answer = await results.ask(end_time=end)
        assert iso(now // 1000 * 1000) <= answer["end_time"] <= iso(now + MINUTE)
        assert answer["reach"]["total_count"] == 1


async def test_an_end_that_is_past_once_rounded_is_taken_as_given(results: Results) -> None:
    grid = 5 * MINUTE
    now = int(time.time() * 1000)
    await results.send(impression("ann"), impression("eve", at=now))
    answer = await results.ask(end_time=iso(now // grid * grid + grid - 1))
    assert answer["end_time"] == iso(now // grid * grid)
    assert answer["reach"]["total_count"] == 1


async def test_earliest_is_the_default_start_and_not_rounded(results: Results) -> None:
    await results.send(impression("ann", at=NOON), impression("bob", at=NOON + MINUTE + 1))
    answer = await results.ask(earliest=iso(NOON + MINUTE))
    assert answer["start_time"] == "2026-01-31T12:01:00Z"
    assert answer["reach"]["total_count"] == 1


async def test_a_start_before_earliest_means_earliest(results: Results) -> None:
    await results.send(impression("tester", at=NOON), impression("ann", at=NOON + 2 * MINUTE))
    for start in (iso(NOON), "2000-01-01T00:00:00Z"):
        answer = await results.ask(earliest=iso(NOON + MINUTE), start_time=start)
        assert answer["start_time"] == "2026-01-31T12:01:00Z"
        assert answer["reach"]["total_count"] == 1


async def test_400_when_the_end_is_before_the_start(results: Results) -> None:
    await results.send(impression("ann"))
    body = question(start_time=iso(NOON + HOUR), end_time=iso(NOON))
    status, error = await results.caller.post(f"/results/{EXPERIMENT}", body)
    assert (status, error) == (400, {"code": "bad_request", "message": "end_time is before start_time"})


EMPTY_INTERVALS = [
    {"start_time": iso(NOON), "end_time": iso(NOON)},
    {"start_time": iso(NOON + 1), "end_time": iso(NOON + MINUTE)},
    {"end_time": iso(NOON - HOUR), "earliest": iso(NOON)},
    {"start_time": "2999-01-01T00:00:00Z"},
    {"start_time": "9999-12-31T23:59:59Z"},
    {"end_time": "1969-12-31T00:00:00Z"},
]


async def test_204_for_an_interval_that_holds_nothing(results: Results) -> None:
    await results.send(impression("ann"))
    for times in EMPTY_INTERVALS:
        status, _ = await results.caller.post(f"/results/{EXPERIMENT}", question(**times))
        assert status == 204, times


async def send_segments(results: Results) -> None:
    gold, silver = attribute("plan", "gold"), attribute("plan", "silver")
    chrome = {"entity_id": "9402", "key": "browser", "type": "custom", "value": "Chrome"}
    search = {"entity_id": "9403", "key": "source_type", "type": "custom", "value": "search"}
    age = {"entity_id": "9404", "key": "age", "type": "custom", "value": 30}
    beta = {"entity_id": "$opt_beta", "key": "$opt_beta", "type": "custom", "value": False}
    await results.send(
        impression("gold-chrome", attributes=[gold, chrome, beta]),
        impression("silver-then-gold", attributes=[silver]),
        conversion("silver-then-gold", attributes=[gold]),
        impression("silver-search-30", attributes=[silver, search, age]),
        impression("nothing"),
    )


def either(*operands: Any) -> dict[str, str]:
    return {"segment_conditions": json.dumps(["or", *operands])}


def all_of(*operands: Any) -> dict[str, str]:
    return {"segment_conditions": json.dumps(["and", *operands])}


GOLD = {"attribute_id": PLAN, "value": "gold"}
AGE = {"name": "age", "match_type": "ge"}
SEGMENTS: list[tuple[dict[str, Any], int]] = [
    ({}, 4),
    ({"attribute_id": None, "browser": None}, 4),
    ({"attribute_id": PLAN, "attribute_value": "gold"}, 2),
    ({"attribute_id": PLAN, "attribute_value": "silver"}, 2),
    ({"attribute_id": PLAN, "attribute_value": "Gold"}, 0),
    ({"attribute_id": PLAN}, 3),
    ({"attribute_id": 9404, "attribute_value": "30"}, 1),
    ({"attribute_id": 9404, "attribute_value": "30.0"}, 1),
    ({"attribute_id": 9404, "attribute_value": "3_0"}, 0),
    ({"attribute_id": 9999}, 0),
    ({"browser": "chrome"}, 1),
    ({"browser": "firefox"}, 0),
    ({"source": "search"}, 1),
    ({"device": "mobile"}, 0),
    ({"browser": "chrome", "attribute_id": PLAN, "attribute_value": "gold"}, 1),
    ({"browser": "chrome", "source": "search"}, 0),
    (either(GOLD), 2),
    (either(GOLD, {"name": "age", "match_type": "exact", "value": 30}), 3),
    (either({"name": "age", "match_type": "exact", "value": "30"}), 0),
    (all_of(GOLD, {"name": "plan", "value": "silver"}), 1),
    (all_of({"name": "plan", "match_type": "exists"}), 3),
    (all_of(["not", {"name": "plan", "match_type": "exists"}]), 1),
    # About visitors who never carried a plan, "not gold" says nothing.
    (all_of(["not", GOLD]), 1),
    (all_of(["not", ["not", GOLD]]), 2),
    (all_of(["not", ["or", GOLD, {"name": "plan", "match_type": "exists"}]]), 0),
    (either({**AGE, "value": 30}), 1),
    (either({**AGE, "value": 30.5}), 0),
    (either({**AGE, "match_type": "lt", "value": 31}), 1),
    (either({"name": "plan", "match_type": "substring", "value": "ilv"}), 2),
    (either({"name": "plan", "match_type": "substring", "value": "ILV"}), 0),
    (either({"name": "plan", "match_type": "substring", "value": "%"}), 0),
    (either({"name": "$opt_beta", "value": False}), 1),
    ({"segment_conditions": json.dumps([GOLD, {"name": "age", "value": 30}])}, 3),
    ({"segment_conditions": json.dumps(GOLD)}, 2),
    (either({"attribute_id": PLAN, "attribute_value": "gold"}), 2),
    (either({"attribute_id": str(PLAN), "attribute_value": "gold", "match_type": "exact"}), 2),
    (either({"attribute_id": PLAN, "attribute_value": "Gold"}), 0),
    (either({"attribute_id": 9404, "attribute_value": "30"}), 1),
    (either({"attribute_id": 9404, "attribute_value": "30.0"}), 1),
    (either({"attribute_id": 9404, "attribute_value": 30}), 1),
    (either({"name": "$opt_beta", "attribute_value": "false"}), 1),
    (either({"attribute_id": PLAN, "match_type": "substring", "attribute_value": "ilv"}), 2),
    (either({"attribute_id": PLAN, "match_type": "prefix", "attribute_value": "sil"}), 2),
    (either({"attribute_id": PLAN, "match_type": "prefix", "attribute_value": "ilv"}), 0),
    (either({"attribute_id": PLAN, "match_type": "prefix", "attribute_value": "Sil"}), 0),
    (either({"attribute_id": PLAN, "match_type": "prefix", "attribute_value": "_il"}), 0),
    (all_of(["not", {"attribute_id": PLAN, "match_type": "prefix", "value": "gol"}]), 1),
    (either({**AGE, "attribute_value": 30}), 1),
]


def in_base64(segment: dict[str, str], *, padded: bool) -> dict[str, str]:
    encoded = base64.urlsafe_b64encode(segment["segment_conditions"].encode()).decode()
    return {"segment_conditions": encoded if padded else encoded.rstrip("=")}


async def test_segment_conditions_may_be_url_safe_base64_of_json(results: Results) -> None:
    await results.send(impression("ann", attributes=[attribute("plan", "gold?>~ÿ")]), impression("bob"))
    for padded, blanks in itertools.product((True, False), range(3)):  # for each length of padding
        condition = {"attribute_id": PLAN, "attribute_value": "gold?>~ÿ", " " * blanks: 0}
        segment = {"segment_conditions": json.dumps(condition, ensure_ascii=False)}
        answer = await results.ask(segment=in_base64(segment, padded=padded))
        assert answer["reach"]["total_count"] == 1, (padded, blanks)


# As browsers send them: by type, without a key, and an entity_id that is null, "" or a number of no attribute.
BY_TYPE = [
    ("browserId", "gc", {"browser": "chrome"}),
    ("browserId", "ff", {"browser": "firefox"}),
    ("browserId", "ie", {"browser": "internet_explorer"}),
    ("browserId", "opera", {"browser": "opera"}),
    ("browserId", "safari", {"browser": "safari"}),
    *(("device", kind, {"device": kind}) for kind in ("desktop", "ipad", "iphone", "mobile", "tablet")),
    *(("source_type", kind, {"source": kind}) for kind in ("campaign", "direct", "referral", "search")),
]


NO_ENTITIES: list[dict[str, Any]] = [{}, {"entity_id": None, "key": ""}, {"entity_id": 100}]


async def test_browser_device_and_source_match_attributes_sent_by_type(results: Results) -> None:
    await results.send(
        *[
            entry
            for (kind, value, _), (number, entity) in itertools.product(BY_TYPE, enumerate(NO_ENTITIES))
            for entry in (
                impression(f"{value} {number}", attributes=[{**entity, "type": kind, "value": value}]),
                conversion(f"{value} {number}"),
            )
        ]
    )
    for _, _, segment in BY_TYPE:
        assert await results.figures(segment=segment) == {C: (3, 3), T: (0, 0)}, segment


async def test_segments_are_visitors_whose_events_carried_the_attribute(results: Results) -> None:
    await send_segments(results)
    for segment, count in SEGMENTS:
        status, answer = await results.caller.post(f"/results/{EXPERIMENT}", question(segment=segment))
        reached = answer["reach"]["total_count"] if status == 200 else 0
        assert (status, reached) == (200 if count else 204, count), segment


@pytest.mark.parametrize("asked", ["ÉDGE", "édge", "Édge"])
async def test_a_named_segment_ignores_the_case_of_any_letters(results: Results, asked: str) -> None:
    await results.send(impression("ann", attributes=[attribute("browser", "ÉDGE")]), impression("bob"))
    assert (await results.ask(segment={"browser": asked}))["reach"]["total_count"] == 1


async def test_a_segment_counts_all_conversions_of_its_visitors(results: Results) -> None:
    await send_segments(results)
    await results.send(conversion("gold-chrome", revenue=5), conversion("nothing", revenue=7))
    revenue = metric("sum", field="revenue")
    assert (await results.figures(revenue, segment={"attribute_id": PLAN, "attribute_value": "gold"}))[C] == (
        5,
        2,
    )


DEEP = GOLD
for _ in range(11):
    DEEP = ["and", DEEP]  # type: ignore[assignment]

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"metrics": [metric("median")]}, "unique, count, sum"),
    ({"metrics": [metric(scope="campaign")]}, "visitor, event"),
    ({"metrics": [metric("sum")]}, "metrics[0].field"),
    ({"metrics": [metric("sum", field="quantity")]}, "metrics[0].field"),
    ({"metrics": [metric(), {}]}, "metrics[1].aggregator"),
    ({"metrics": [metric(winning_direction="up")]}, "metrics[0].winning_direction"),
    ({"metrics": [{**metric(), "aggregator": ["unique"]}]}, "metrics[0].aggregator"),
    ({"metrics": [{**metric(), "event_id": "x"}]}, "metrics[0].event_id"),
    ({"metrics": "all"}, "metrics"),
    ({"metrics": [1]}, "metrics"),
    ({"metrics": [metric()] * 101}, "metrics"),
    ({"variations": None}, "variations"),
    ({"variations": [{"variation_id": "x"}]}, "variations[0].variation_id"),
    ({"variations": [{"variation_id": 1}, {"variation_id": 1}]}, "twice"),
    ({"baseline_variation_id": "1"}, "baseline_variation_id"),
    ({"baseline_variation_id": "first"}, "baseline_variation_id"),
    ({"project_id": None}, "project_id"),
    ({"stats_config": []}, "stats_config"),
    ({"stats_config": {"confidence_level": 90}}, "confidence_level"),
    ({"stats_config": {"confidence_level": 1}}, "confidence_level"),
    ({"stats_config": {"confidence_level": True}}, "confidence_level"),
    ({"stats_config": {"difference_type": "odds"}}, "difference_type"),
    ({"stats_config": {"epoch_enabled": "no"}}, "epoch_enabled"),
    ({"start_time": "yesterday"}, "start_time"),
    ({"end_time": 12}, "end_time"),
    ({"end_time": "2026-02-30T00:00:00Z"}, "end_time"),
    ({"earliest": "2026-01"}, "earliest"),
    ({"segment": []}, "segment"),
    ({"segment": {"attribute_value": "gold"}}, "attribute_id"),
    ({"segment": {"attribute_id": "gold"}}, "attribute_id"),
    ({"segment": {"attribute_id": 1, "attribute_value": 2}}, "attribute_value"),
    ({"segment": {"browser": 1}}, "browser"),
    ({"segment": {"segment_conditions": "["}}, "not JSON"),
    ({"segment": {"segment_conditions": "[" * 5_000}}, "nested too deeply"),
    ({"segment": {"segment_conditions": " " * 8_193}}, "longer than"),
    ({"segment": {"segment_conditions": "[]"}}, "segment_conditions"),
    ({"segment": {"segment_conditions": "12"}}, "segment_conditions"),
    ({"segment": {"segment_conditions": '["and"]'}}, "operands"),
    ({"segment": {"segment_conditions": '["xor", {}]'}}, "xor"),
    ({"segment": all_of(["not", GOLD, GOLD])}, "operands"),
    ({"segment": all_of({})}, "attribute_id or a name"),
    ({"segment": all_of({**GOLD, "match_type": "semver_eq"})}, "match_type"),
    ({"segment": all_of({**GOLD, "match_type": ["exact"]})}, "match_type"),
    ({"segment": all_of({**GOLD, "value": None})}, "value"),
    ({"segment": all_of({**GOLD, "value": []})}, "value"),
    ({"segment": all_of({**AGE, "value": "30"})}, "number"),
    ({"segment": all_of({**GOLD, "attribute_value": "gold"})}, "not both"),
    ({"segment": all_of({"name": "plan", "attribute_value": None})}, "attribute_value"),
    ({"segment": all_of({"name": "plan", "match_type": "prefix", "attribute_value": 1})}, "string"),
    ({"segment": all_of({**GOLD, "match_type": "regex"})}, "regex is not offered"),
    ({"segment": {"segment_conditions": "gold"}}, "neither JSON nor URL-safe Base64"),
    ({"segment": {"segment_conditions": "W"}}, "neither JSON nor URL-safe Base64"),
    ({"segment": {"segment_conditions": "Z29sZA=="}}, "not JSON"),
    ({"segment": {"segment_conditions": "ICAg" * 2_731}}, "longer than"),
    ({"segment": {"segment_conditions": "W1tb" * 1_666}}, "nested too deeply"),
    ({"segment": all_of({"name": "plan", "match_type": "substring", "value": 1})}, "string"),
    ({"segment": all_of({"name": "a\0", "value": "b"})}, "name"),
    ({"segment": all_of({"name": "a", "value": "\ud83d"})}, "value"),
    ({"segment": all_of({"name": "a", "value": float("nan")})}, "value"),
    ({"segment": all_of(DEEP)}, "deeper than 10"),
    ({"segment": all_of(*[GOLD] * 51)}, "more than 50"),
]


async def test_204_for_an_experiment_without_variations(results: Results) -> None:
    await results.send(impression("ann"))
    assert (await results.caller.post(f"/results/{EXPERIMENT}", question(variations=[])))[0] == 204


async def test_400_names_what_cannot_be_used(results: Results) -> None:
    await results.send(impression("ann"))
    for body, says in REFUSED:
        status, error = await results.caller.post(f"/results/{EXPERIMENT}", question(**body))
        assert status == 400, body
        assert error["code"] == "bad_request"
        assert says in error["message"], (body, error["message"])


NOT_COMPUTED = [
    metric("bounce"),
    metric("exit"),
    metric("ratio", metrics=[{"aggregator": "sum", "field": "revenue"}, {"aggregator": "unique"}]),
    metric(scope="session"),
    metric(event_properties={"filter": {"combine_operator": "and", "conditions": [{"name": "size"}]}}),
]


@pytest.mark.parametrize("other", NOT_COMPUTED, ids=["bounce", "exit", "ratio", "session", "filter"])
async def test_a_metric_that_is_not_computed_has_no_results_and_the_others_have(
    results: Results, other: dict[str, Any]
) -> None:
    await send_clear_winner(results)
    (alone,) = (await results.ask(metric()))["metrics"]
    without, computed = (await results.ask(other, metric()))["metrics"]
    assert computed == alone
    assert without == {**other, "winning_direction": "increasing", "results": {}, "conclusion": {}}


async def test_the_largest_segment_allowed_is_answered(results: Results) -> None:
    await send_segments(results)
    nested: Any = GOLD
    for _ in range(4):
        nested = ["not", ["not", nested]]
    conditions = ["or", *[GOLD] * 49, nested]
    answer = await results.ask(segment={"segment_conditions": json.dumps(conditions)})
    assert answer["reach"]["total_count"] == 2


async def test_answers_keep_the_shapes_of_the_contract(results: Results) -> None:
    """Every key of the answer is one of the contract's definitions, nothing more."""
    await send_clear_winner(results)
    answer = await results.ask(metric(), metric("sum", field="revenue"))
    assert answer.keys() == {
        "experiment_id",
        "start_time",
        "end_time",
        "is_stale",
        "stats_config",
        "reach",
        "metrics",
    }
    measured = answer["metrics"][0]
    assert measured.keys() <= {
        "aggregator", "conclusion", "event_id", "event_properties", "field", "metrics", "name", "results",
        "scope", "time_window", "winning_direction",
    }  # fmt: skip
    assert measured["results"][T].keys() <= {
        "experiment_id", "is_baseline", "level", "lift", "name", "rate", "samples", "total_increase", "value",
        "variance", "variation_id",
    }  # fmt: skip
    assert measured["results"][T]["lift"].keys() <= {
        "confidence_interval", "is_most_conclusive", "is_significant", "lift_status", "significance", "value",
        "visitors_remaining",
    }  # fmt: skip

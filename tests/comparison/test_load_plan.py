"""When requests are due, and which plans make no sense."""

from itertools import pairwise
from typing import Any

import pytest

from optimizely_api.comparison.load.plan import InvalidPlan, LoadPlan

URL = "http://127.0.0.1:1"


def plan(*phases: tuple[float, float], **more: Any) -> LoadPlan:
    return LoadPlan(URL, phases, **more)


def test_constant_arrivals_lie_in_the_middle_of_equal_intervals() -> None:
    assert [due for due, _ in plan((4, 1)).due_times()] == [0.125, 0.375, 0.625, 0.875]


def test_as_many_requests_are_due_as_rate_times_seconds() -> None:
    assert len(list(plan((100, 2), (333, 3), (0.5, 4)).due_times())) == 200 + 999 + 2


def test_phases_follow_each_other_and_are_cut_into_seconds() -> None:
    spans = plan((10, 1.5), (20, 1), warm_up_seconds=0.5).spans()
    assert [tuple(span) for span in spans] == [
        (-0.5, 0.0, 10, -1),
        (0.0, 1.0, 10, 0),
        (1.0, 1.5, 10, 0),
        (1.5, 2.5, 20, 1),
    ]


def test_every_request_belongs_to_the_second_in_which_it_is_due() -> None:
    ramp = plan((7, 1.3), (11, 2), warm_up_seconds=1.2)
    spans = ramp.spans()
    for due, index in ramp.due_times():
        assert spans[index].start <= due < spans[index].end


def test_poisson_arrivals_repeat_with_their_seed_and_have_exponential_gaps() -> None:
    def due(seed: int) -> list[float]:
        return [due for due, _ in plan((1000, 20), arrivals="poisson", seed=seed).due_times()]

    times = due(7)
    assert times == due(7)
    assert times != due(8)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) >= 0
    # 20,000 expected with a standard deviation of 141; of exponential gaps 1/e are longer than their mean.
    assert len(times) == pytest.approx(20_000, abs=600)
    assert sum(gap > 0.001 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)


def test_a_request_carries_host_and_headers() -> None:
    made = plan((1, 1), paths=["/a?b=c"], headers={"Authorization": "Bearer x"}).requests()
    assert made == [
        b"GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:1\r\nAccept: application/json\r\nAuthorization: Bearer x\r\n\r\n"
    ]


def test_json_and_back_is_the_same_plan() -> None:
    original = LoadPlan(URL, ((1.0, 2.0),), paths=("/x",), headers={"A": "b"}, arrivals="poisson", seed=3)
    assert LoadPlan.from_json(original.to_json()) == original


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "https://127.0.0.1"}, "http://host:port"),
        ({"url": "http://127.0.0.1/v2"}, "http://host:port"),
        ({"phases": []}, "phases"),
        ({"phases": [(0, 1)]}, "above 0"),
        ({"phases": [(float("nan"), 1)]}, "above 0"),
        ({"phases": [(float("inf"), 1)]}, "finite"),
        ({"paths": ["v2"]}, "paths"),
        ({"paths": ["/a b"]}, "paths"),
        ({"paths": []}, "paths"),
        ({"headers": {"A": "b\r\nC: d"}}, "line break"),
        ({"arrivals": "random"}, "constant or poisson"),
        ({"timeout_seconds": 0}, "timeout"),
        ({"connections": 0}, "connections"),
    ],
    ids=str,
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidPlan, match=words):
        LoadPlan(**{"url": URL, "phases": [(1, 1)], **changes})


def test_json_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="no ratte"):
        LoadPlan.from_json({**plan((1.0, 1.0)).to_json(), "ratte": 1})

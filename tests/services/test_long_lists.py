"""Lists without a limit are checked in time that grows with their length alone: nothing is held against all others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from optimizely_api.services.experiments import variables
from optimizely_api.services.experiments.events import properties_have_different_names
from optimizely_api.services.experiments.groups import nothing_is_in_it_twice

LENGTH = 300
Problems = list[Any]


class Compared(int):
    """A number that counts how often it is held against another."""

    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return super().__eq__(other)

    __hash__ = int.__hash__


def of_groups(numbers: list[Any]) -> Problems:
    entities = [{"kind": "Experiment", "id": number, "weight": 0} for number in numbers]
    return list(nothing_is_in_it_twice({"entities": entities}, None))


def of_events(numbers: list[Any]) -> Problems:
    properties = [{"name": number} for number in numbers]
    return list(properties_have_different_names({"event_properties": properties}, None))


def of_variables(numbers: list[Any]) -> Problems:
    texts = [{"key": number, "type": "string", "default_value": ""} for number in numbers]
    return list(variables.problems(texts))


def of_merged_variables(numbers: list[Any]) -> Problems:
    def ids() -> Iterator[int]:
        yield from numbers

    merged = variables.merged([], [{"key": f"key {number}"} for number in numbers], ids())
    return [] if len(merged) == len(numbers) else [merged]


@pytest.mark.parametrize("check", [of_groups, of_events, of_variables, of_merged_variables])
def test_no_entry_is_compared_with_all_before_it(check: Callable[[list[Any]], Problems]) -> None:
    Compared.times = 0
    assert check([Compared(number) for number in range(1, LENGTH + 1)]) == []
    assert Compared.times < 5 * LENGTH


@pytest.mark.parametrize("check", [of_groups, of_events, of_variables])
def test_what_stands_there_twice_is_named_where_it_stands_again(
    check: Callable[[list[Any]], Problems],
) -> None:
    ((pointer, _),) = check([1, 2, 1])
    assert "/2/" in pointer

"""The order in which requests that wait are to begin."""

import random

import pytest

from optimizely_api.serving.line import BULK, CLASSES, EVENTS, FEW, ORDINARY, Line


class Asked:
    """A request in the line."""

    def begin(self):
        raise AssertionError("the line begins nothing itself")

    refuse = begin


def add(line, account, number=1, kind=ORDINARY):
    requests = [Asked() for _ in range(number)]
    for request in requests:
        line.add(kind, account, 0.0, request)
    return requests


def test_accounts_have_their_turns_one_after_another():
    line = Line()
    many, few = add(line, 1, 3), add(line, 2, 2)
    assert [line.next() for _ in range(5)] == [many[0], few[0], many[1], few[1], many[2]]


def test_an_account_does_not_pay_for_turns_that_it_had_not():
    """All that an account had in the line was refused, the oldest first, while others waited on."""
    line = Line()
    refused = add(line, 1, 50)
    others = add(line, 2, 3)
    for request in refused:
        line.drop(request)
    (again,) = add(line, 1)
    assert [line.next() for _ in range(4)] == [others[0], again, *others[1:]]


def test_where_the_newest_come_first_the_accounts_have_their_turns_and_the_oldest_of_many_is_dropped():
    line = Line()
    line.newest_first[ORDINARY] = True
    many, few = add(line, 1, FEW + 3), add(line, 2, 2)
    assert [line.next() for _ in range(4)] == [many[-1], few[0], many[-2], few[1]]
    assert line.drop_last() is many[0]
    assert [line.next() for _ in range(FEW)] == many[1:-2]  # few are left, in their order
    assert not line


def test_only_who_has_newer_ones_before_it_is_passed_over():
    line = Line()
    many, _ = add(line, 1, FEW + 1), add(line, 2, FEW)
    assert not any(map(line.is_passed_over, line))
    line.newest_first[ORDINARY] = True
    assert [waiter.request for waiter in line if line.is_passed_over(waiter)] == many[:-1]


def test_where_the_newest_come_first_the_oldest_of_many_makes_room_for_a_new_one():
    line = Line()
    line.newest_first[ORDINARY] = True
    many, few = add(line, 1, FEW + 1), add(line, 2, FEW)
    assert [line.takes_newest(ORDINARY, account) for account in (1, 2, 3)] == [True, False, False]
    assert line.drop_oldest(ORDINARY, 1) is many[0]
    assert [line.next() for _ in range(4)] == [many[1], few[0], many[2], few[1]]


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_kept_of_an_account_that_has_left_a_line_that_is_never_empty(seed):
    chance, line, waiting = random.Random(seed), Line(), []
    add(line, 0, kind=BULK)
    for account in range(1, 2000):
        line.newest_first = [chance.random() < 0.5 for _ in range(CLASSES)]
        waiting += add(
            line, account, chance.choice([1, 2, 3, FEW + 2]), kind=chance.randrange(EVENTS, CLASSES)
        )
        while len(waiting) > 20:
            left = waiting.pop(chance.randrange(len(waiting)))
            line.drop(left)
            if len(waiting) > 15:
                left = line.next() if chance.random() < 0.5 else line.drop_last()
                if left in waiting:
                    waiting.remove(left)
                else:  # the first one, which is always there
                    add(line, 0, kind=BULK)
    assert len(line._accounts) <= len(line) <= 21, f"seed {seed}"

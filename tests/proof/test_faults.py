"""The plan of faults: the same from the same seed, every kind in turn, and overlapping."""

import itertools

from optimizely_api.proof.faults import KINDS, SERVICES, USUAL, plan, regular_plan


def test_the_same_seed_gives_the_same_faults():
    assert plan(USUAL, 100, 1.0, 2, seed=7) == plan(USUAL, 100, 1.0, 2, seed=7)
    assert plan(USUAL, 100, 1.0, 2, seed=7) != plan(USUAL, 100, 1.0, 2, seed=8)


def test_every_kind_comes_once_before_one_comes_again():
    faults = plan(USUAL, 200, 1.0, 2, seed=1)
    rounds = [faults[at : at + len(USUAL)] for at in range(0, len(faults) - len(USUAL), len(USUAL))]
    assert len(rounds) > 5
    assert all(sorted(fault.kind for fault in each) == sorted(USUAL) for each in rounds)


def test_faults_overlap_and_have_a_target_of_their_kind():
    faults = plan(USUAL, 200, 1.0, 2, seed=1)
    pairs = itertools.pairwise(faults)
    assert any(one.at + one.seconds > two.at for one, two in pairs)
    for fault in faults:
        assert 0 < fault.at < 200
        assert fault.target in (("0", "1") if KINDS[fault.kind].of_gateway else SERVICES)


def test_faults_may_come_at_regular_intervals():
    faults = regular_plan({"kill-worker": 5.0, "reload": 10.0}, 30, 2, seed=1)
    assert [(fault.at, fault.kind) for fault in faults] == [
        (5.0, "kill-worker"),
        (10.0, "kill-worker"),
        (10.0, "reload"),
        (15.0, "kill-worker"),
        (20.0, "kill-worker"),
        (20.0, "reload"),
        (25.0, "kill-worker"),
    ]
    assert {fault.target for fault in faults} == {"0", "1"}


def test_the_control_is_no_usual_fault():
    assert set(KINDS) - set(USUAL) == {"forged"}

"""A hop between the gateway and its services that mixes answers up costs errors, and shows nobody a wrong object."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from optimizely_api import main
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support.desynchronised_hop import ACCOUNTS, DesynchronisedHop, desynchronised_hop, questions, shown

SAVES = {"kept": {}, "not kept": {"identity_cache_seconds": "0", "definition_cache_seconds": "0"}}


def outcome(app, account, path, expected):
    headers = {"Authorization": f"Bearer {ACCOUNTS[account]}"}
    response = app.get(path, headers=headers, status="*")
    if response.status_int != 200:
        return str(response.status_int)
    return "200" if shown(path, response.json) == expected else f"wrong: {path} {shown(path, response.json)}"


@pytest.mark.parametrize("requests", [1_000, pytest.param(10_000, marks=pytest.mark.whole)])
@pytest.mark.parametrize("saves", SAVES)
@pytest.mark.parametrize("echoes", [True, False], ids=["with echoes", "without"])
def test_502_for_a_stray_answer_and_never_a_wrong_or_foreign_object(requests, saves, echoes):
    """Where a hop drops the echoes, and that is allowed, what the answers are about is still compared.

    That tells lists of accounts, projects and campaigns, but not a whole list from a part of it, as the echo does.
    """
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    with desynchronised_hop(seed, echoes=echoes) as urls:
        settings = {**urls, **SAVES[saves], "upstream_echo_required": str(echoes)}
        with GatewayTestApp(main({}, **settings)) as app, ThreadPoolExecutor(8) as pool:
            possible = [question for question in questions() if echoes or not isinstance(question[2], list)]
            asked = chance.choices(possible, k=requests)
            outcomes = Counter(pool.map(lambda question: outcome(app, *question), asked))
    print(f"{requests} requests: {dict(outcomes)}")
    assert set(outcomes) <= {"200", "502"}
    assert outcomes["200"] > requests / 3
    assert outcomes["502"]


def test_every_question_has_its_answer_where_no_hop_mixes_them_up(monkeypatch):
    monkeypatch.setattr(DesynchronisedHop, "share", 0.0)
    with desynchronised_hop(1, echoes=True) as urls, GatewayTestApp(main({}, **urls)) as app:
        assert {outcome(app, *question) for question in questions()} == {"200"}

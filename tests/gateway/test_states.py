"""Every composed response, with each of its parts in every state: all as the contract's `x-composition` says.

The parts, their services and their calls are read from the contract, so that a new composite is covered as soon as it
is stated.
"""

import itertools
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from optimizely_api import main
from optimizely_api.contract import load
from optimizely_api.contract.composition import Composition
from optimizely_api.runtime.testing import GatewayTestApp
from tests.gateway.test_declared_errors import ASK_NO_SERVICE, WITHOUT_SUCCESS, own, path
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.services_double import NAMES, STATES, ServicesDouble
from tests.support.serving import KEEPS_NOTHING

READING = {
    name: one
    for name, one in load().operations.items()
    if one.method == "GET" and name not in ASK_NO_SERVICE | WITHOUT_SUCCESS
}
COMPOSED = {name: one for name, one in READING.items() if one.composition.parts}
# Without these, a part is not asked for.
FURTHER_QUERY = {"get_search_results": "&expand=project_name"}
STATUS_OF = {"slow": 504, "refused": 503, "reset": 502, "500": 502, "bad JSON": 502, "off contract": 502}
CODE_OF = {502: "bad_upstream_answer", 503: "upstream_unavailable", 504: "upstream_timeout"}
OF_THE_MOMENT = {"last_update_time"}  # of a plan: the minute in which it is asked for
AT_ONCE, SLOW_AT_ONCE = 16, 128
SETTINGS = {
    "coalesce_calls": "false",  # equal calls of two requests meet different states
    "identity_cache_seconds": "600",
    # Each call is sent, and once, however slow others are.
    "retry_tokens": "0",
    "fewest_calls": "0",
    **{f"{name}_timeout_seconds": "3" for name in ("projects", "experiments", "results")},
}
NOTHING_KEPT = {**SETTINGS, **KEEPS_NOTHING, "identity_cache_seconds": "600"}
NOTHING_FRESH = {**SETTINGS, "definition_cache_seconds": "0.000001", "datafile_cache_seconds": "0.000001"}

States = Mapping[str, str]  # the state of each part


@pytest.fixture(scope="module")
def app(running_services: ServicesDouble) -> Iterator[GatewayTestApp]:
    with GatewayTestApp(main({}, **running_services.settings(), **NOTHING_KEPT)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def keeping_app(running_services: ServicesDouble) -> Iterator[GatewayTestApp]:
    with GatewayTestApp(main({}, **running_services.settings(), **NOTHING_FRESH)) as gateway:
        yield gateway


@pytest.fixture
def planted(
    app: GatewayTestApp, keeping_app: GatewayTestApp, services: ServicesDouble
) -> dict[str, tuple[Composition, States]]:
    """What the calls of a request meet, by the request's id."""
    planted: dict[str, tuple[Composition, States]] = {}
    before: Counter[tuple[str, str]] = Counter()
    # An experiment of a project that is not for the web, whose environments are the projects service's.
    services.experiments[samples.EXPERIMENT]["environments"] = {"production": {"status": "running"}}
    for gateway in (app, keeping_app):
        gateway.get("/v2/projects", headers=AUTHORIZED)  # the token is known from now on

    def state_of(service: str, method: str, called: str, request_id: str) -> str:
        if request_id not in planted:
            return "ok"
        composition, states = planted[request_id]
        part = part_of(composition, (service, method, called), before[request_id, called])
        before[request_id, called] += 1
        return states[part]

    services.state_of = state_of
    return planted


def address(name: str) -> str:
    return path(READING[name], own(READING[name])) + FURTHER_QUERY.get(name, "")


def ask(app: GatewayTestApp, name: str, request_id: str = "") -> Any:
    headers = {**AUTHORIZED, "X-Request-Id": request_id or str(uuid.uuid4())}
    return app.get(address(name), headers=headers, expect_errors=True)


def part_of(composition: Composition, call: tuple[str, str, str], before: int) -> str:
    """The part of a call; one that is made twice in a request is the next part's, where there is one."""
    names = composition.parts_of(*call)
    return names[min(before, len(names) - 1)]


@pytest.mark.parametrize("name", READING)
def test_the_contract_names_every_part_that_is_fetched(app, services, planted, name):
    composition = READING[name].composition
    services.seen.clear()
    assert ask(app, name).status_int == 200
    calls = [(seen.service, seen.method, seen.path) for seen in services.seen]
    if not composition.parts:
        assert len(set(calls)) <= 1
        return
    parts = {part_of(composition, call, calls[:index].count(call)) for index, call in enumerate(calls)}
    assert parts == composition.parts.keys()


@pytest.mark.whole
def test_all_combinations_of_states(app, planted):
    check_all(
        app,
        planted,
        {
            name: itertools.product(STATES, repeat=len(one.composition.parts))
            for name, one in COMPOSED.items()
        },
    )


def test_any_two_parts_in_all_states(app, planted):
    check_all(app, planted, {name: of_two_parts(name) for name in COMPOSED})


def test_any_two_parts_in_all_states_with_what_was_kept(keeping_app, planted):
    """Entities that are read by id are kept, and results."""
    check_all(keeping_app, planted, {name: of_two_parts(name) for name in COMPOSED}, kept_of)


@pytest.mark.parametrize(
    "closed",
    [names for number in (1, 2, 3) for names in itertools.combinations(NAMES, number)],
    ids=" and ".join,
)
def test_services_that_take_no_connection(app, services, planted, closed):
    whole = {name: ask(app, name) for name in COMPOSED}
    for service in closed:
        services.close(service)
    for name, operation in COMPOSED.items():
        parts = operation.composition.parts
        states = {one: "refused" if part.service in closed else "ok" for one, part in parts.items()}
        assert_as_documented(ask(app, name), operation.composition, states, whole[name], frozenset())


def of_two_parts(name):
    number = len(COMPOSED[name].composition.parts)
    combinations = {
        tuple({first: one, second: other}.get(index, "ok") for index in range(number))
        for first, second in itertools.combinations_with_replacement(range(number), 2)
        for one, other in itertools.product(STATES, repeat=2)
    }
    return sorted(combinations)


def kept_of(name):
    parts = COMPOSED[name].composition.parts.values()
    return {part.name for part in parts if part.path.endswith(("}", "/timeseries"))}


def check_all(app, planted, combinations, kept_of=lambda _name: frozenset()):
    """Check each operation with its combinations; those with a slow part wait, and so many can at a time."""
    whole = {}
    for name in combinations:
        while "Age" in (answer := ask(app, name)).headers:  # of what another operation met a moment ago
            time.sleep(0.05)
        whole[name] = answer

    def check(name, combination):
        composition = COMPOSED[name].composition
        states = dict(zip(composition.parts, combination, strict=True))
        request_id = str(uuid.uuid4())
        planted[request_id] = composition, states
        try:
            assert_as_documented(ask(app, name, request_id), composition, states, whole[name], kept_of(name))
        except AssertionError as exc:
            return f"{name} with {states}: {exc}"
        return None

    with ThreadPoolExecutor(AT_ONCE) as pool, ThreadPoolExecutor(SLOW_AT_ONCE) as slow_pool:
        checks = [
            (slow_pool if "slow" in combination else pool).submit(check, name, combination)
            for name in combinations
            for combination in combinations[name]
        ]
        wrong = [outcome for each in checks if (outcome := each.result()) is not None]
    print(f"{len(checks)} combinations, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)


def assert_as_documented(
    response: Any, composition: Composition, states: States, whole: Any, kept: Set[str]
) -> None:
    out = {one for one in kept if states[one] != "ok"}
    states = {**states, **dict.fromkeys(out, "ok")}
    failing = next(
        (
            failed
            for step in composition.steps
            if (
                failed := [
                    one for one in step if not composition.parts[one].is_optional and states[one] != "ok"
                ]
            )
        ),
        (),
    )
    if failing:
        assert_names_a_failed_part(response, {one: STATUS_OF[states[one]] for one in failing})
        return
    lost = {part for one, state in states.items() if state != "ok" for part in composition.lost_with(one)}
    missing = [one for one in composition.parts if one in lost]
    assert response.status_int == whole.status_int, response.text
    assert response.headers.get("X-Unreachable") == (", ".join(missing) or None)
    assert_is_part_of(response, whole, missing, has_member=composition.has_member)
    assert_names_what_was_kept(response, {first_of_its_call(composition, one) for one in out})


def assert_names_a_failed_part(response: Any, status_of: Mapping[str, int]) -> None:
    """Parts that are asked for together fail in any order."""
    status = response.status_int
    assert status in status_of.values(), response.text
    body = assert_error(response, status, CODE_OF[status])
    named = body["message"].rpartition("(part: ")[2].removesuffix(").")
    assert status_of.get(named) == status, (body["message"], status_of)
    assert (status == 503) == ("Retry-After" in response.headers)


def first_of_its_call(composition: Composition, name: str) -> str:
    part = composition.parts[name]
    return composition.parts_of(part.service, part.method, part.path)[0]


def assert_names_what_was_kept(response: Any, out: Set[str]) -> None:
    """Also what was kept for another request a moment ago, for one call a second asks for a thing."""
    named = {
        text.split()[0]
        for text in response.headers.get("Cache-Status", "").partition('"')[2].split("; ")
        if text
    }
    assert named >= out
    assert ("Age" in response.headers) == bool(named)


def assert_is_part_of(response: Any, whole: Any, missing: list[str], *, has_member: bool) -> None:
    """What is there is what would be there with all parts; the ETag tells the two apart where they differ."""
    if response.content_type != "application/json":
        assert response.body == whole.body
        return
    value = response.json
    if has_member:
        assert value.pop("unreachable", []) == missing
    expected = whole.json
    if "Age" in response.headers and isinstance(value, dict) and "is_stale" in value:
        value["is_stale"] = expected["is_stale"] = False
    assert_is_less(value, expected)
    assert (response.headers["ETag"] == whole.headers["ETag"]) == (response.body == whole.body)


def assert_is_less(value: Any, whole: Any) -> None:
    if isinstance(whole, dict):
        assert value.keys() <= whole.keys()
        for name in value.keys() - OF_THE_MOMENT:
            assert_is_less(value[name], whole[name])
    elif isinstance(whole, list):
        assert len(value) == len(whole)
        for one, other in zip(value, whole, strict=True):
            assert_is_less(one, other)
    else:
        assert value == whole

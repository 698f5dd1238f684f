"""`POST /v1/events`: the forms in which senders write a batch, at the public port and through the gateway."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from optimizely_api import main
from optimizely_api.runtime.testing import GatewayTestApp
from optimizely_api.services.http.server import EVENTS
from tests.services.conftest import Caller, NewDatabase, Serve, running
from tests.services.databases import SQLiteDatabases
from tests.services.results.sending import (
    CAMPAIGN,
    CONTROL,
    NOON,
    PLAN,
    PURCHASE,
    Entry,
    batch,
    conversion,
    impression,
    metric,
    question,
    the_event,
)
from tests.support.serving import KEEPS_NOTHING

Body = dict[str, Any]
Figures = tuple[int, int, int]  # visitors, those who converted, revenue
FORMS: dict[str, tuple[Callable[[str], Body], Figures]] = {}


def form(name: str, *figures: int) -> Callable[[Callable[[str], Body]], Callable[[str], Body]]:
    """Register a form: a function from an experiment's id to a batch, and what it leads to."""

    def register(function: Callable[[str], Body]) -> Callable[[str], Body]:
        visitors, conversions, revenue = figures
        FORMS[name] = function, (visitors, conversions, revenue)
        return function

    return register


def entered(experiment: str, visitor: str = "ann", **decision: Any) -> Entry:
    """An impression; `decision` replaces members of its decision, `...` takes them out."""
    entry = impression(visitor, experiment=experiment)
    changed = {**entry["snapshots"][0]["decisions"][0], **decision}
    entry["snapshots"][0]["decisions"] = [
        {name: value for name, value in changed.items() if value is not ...}
    ]
    return entry


def with_event(entry: Entry, **members: Any) -> Entry:
    """The entry with other members of its event; `...` takes them out."""
    event = the_event(entry)
    event.update(members)
    for name in [name for name, value in members.items() if value is ...]:
        del event[name]
    return entry


@form("the Python SDK: each call an entry of its own, revenue and value in the tags too", 1, 1, 4200)
def python_sdk(experiment: str) -> Body:
    tags = {"revenue": 4200, "value": 4.2, "colour": ["red", None, {"deep": True}]}
    return batch(entered(experiment), conversion("ann", revenue=4200, value=4.2, tags=tags))


@form("the JavaScript SDK: ids that are null", 1, 1, 0)
def javascript_sdk(experiment: str) -> Body:
    entry = with_event(entered(experiment, campaign_id=None), entity_id=None)
    return batch(entry, conversion("ann"), client_name="node-sdk", client_version="6.6.1")


@form("a decision of a flag without a rule is of no experiment", 0, 0, 0)
def flag_without_a_rule(experiment: str) -> Body:
    metadata = {"flag_key": "search", "rule_key": "", "rule_type": "rollout", "variation_key": "off"}
    return batch(entered("", variation_id=None, campaign_id="", metadata=metadata))


@form("a decision without a variation is none", 0, 0, 0)
def no_variation(experiment: str) -> Body:
    return batch(entered(experiment, variation_id=None))


@form("a variation whose id is not digits is none", 0, 0, 0)
def other_variation(experiment: str) -> Body:
    return batch(entered(experiment, variation_id="blue"))


@form("a visitor who is held back is not in the experiment", 0, 0, 0)
def held_back(experiment: str) -> Body:
    return batch(entered(experiment, is_campaign_holdback=True))


@form("a decision without metadata, and with a campaign that is no number", 1, 0, 0)
def bare_decision(experiment: str) -> Body:
    return batch(entered(experiment, metadata=..., campaign_id="layer-7"))


@form("metadata of an adaptive rule", 1, 0, 0)
def adaptive(experiment: str) -> Body:
    return batch(entered(experiment, metadata={"rule_type": "feature-test", "cmab_uuid": "1-2-3"}))


@form("the least: account and visitors alone, the account as a number", 1, 1, 0)
def the_least(experiment: str) -> Body:
    body = batch(entered(experiment), conversion("ann"))
    return {"account_id": int(body["account_id"]), "visitors": body["visitors"]}


@form("other senders: type in place of key, decisions an empty array, a session, a quantity", 1, 1, 7)
def other_senders(experiment: str) -> Body:
    first = with_event(entered(experiment), key=..., type="campaign_activated")
    second = with_event(conversion("ann", revenue=7, quantity=3), key=...)
    second["snapshots"][0]["decisions"] = []
    for entry in (first, second):
        entry["session_id"] = "AUTO"
        del entry["attributes"]
    return batch(first, second, enrich_decisions=None, anonymize_ip=None)


@form("one entry with all snapshots, and an impression and a conversion in one millisecond", 1, 1, 0)
def one_entry(experiment: str) -> Body:
    entry = entered(experiment)
    entry["snapshots"] += conversion("ann", at=NOON)["snapshots"]
    return batch(entry)


@form("one snapshot with decision, impression and conversion", 1, 1, 0)
def one_snapshot(experiment: str) -> Body:
    entry = entered(experiment)
    entry["snapshots"][0]["events"].append(the_event(conversion("ann")))
    return batch(entry)


@form("attributes of every type, and those of the SDKs themselves, whose id is their key", 1, 1, 0)
def attributes(experiment: str) -> Body:
    given = [
        {"entity_id": str(PLAN), "key": "plan", "type": "custom", "value": "gold"},
        {"entity_id": str(PLAN + 1), "key": "age", "type": "custom", "value": 41.5},
        {"entity_id": str(PLAN + 2), "key": "is_new", "type": "custom", "value": False},
        {"entity_id": "$opt_bot_filtering", "key": "$opt_bot_filtering", "type": "custom", "value": False},
    ]
    entry = entered(experiment)
    entry["attributes"] = given
    return batch(entry, conversion("ann", attributes=given))


@form("numbers in place of texts, and the other way round", 1, 1, 0)
def other_types(experiment: str) -> Body:
    entry = entered(experiment, campaign_id=CAMPAIGN, experiment_id=int(experiment), variation_id=CONTROL)
    return batch(entry, with_event(conversion("ann"), entity_id=PURCHASE, timestamp=float(NOON + 1)))


@form("the same batch twice in one", 1, 1, 5)
def twice(experiment: str) -> Body:
    entries = [entered(experiment), conversion("ann", revenue=5)]
    return batch(*entries, *entries)


@form("members that nobody knows", 1, 1, 0)
def unknown_members(experiment: str) -> Body:
    entry = with_event(entered(experiment, extra=[1]), extra={"a": None})
    return batch({**entry, "extra": 1}, conversion("ann", extra="x"), extra={"b": 2})


@form("what is unusable costs its own part only", 1, 1, 3)
def partly_unusable(experiment: str) -> Body:
    late = with_event(conversion("ann"), timestamp="yesterday")
    return batch(None, {"visitor_id": ""}, late, entered(experiment), conversion("ann", revenue=3))


@pytest_asyncio.fixture
async def new_database(tmp_path: Path, sqlite_databases: SQLiteDatabases) -> NewDatabase:
    """SQLite only: how a batch is read does not depend on the database."""

    async def make(service: str = "") -> str:
        return await sqlite_databases.create(service, tmp_path)

    return make


@pytest_asyncio.fixture
async def results(serve: Serve) -> Caller:
    return await serve("results")


@pytest_asyncio.fixture
async def public(results: Caller) -> AsyncIterator[Caller]:
    """The public port on the same database."""
    application = EVENTS.create_application(results.database_url)
    async with running(application, results.database_url) as caller:
        yield caller


def alone(body: Body, account: str) -> Body:
    """The batch of an account of its own, whose visitors are nobody else's."""
    return {**body, "account_id": int(account) if isinstance(body["account_id"], int) else account}


async def figures(results: Caller, experiment: str) -> Figures:
    asked = question(metric(), metric("sum", field="revenue"))
    status, body = await results.post(f"/results/{experiment}", asked)
    if status == 204:
        return 0, 0, 0
    assert status == 200, body
    unique, revenue = (one["results"][str(CONTROL)] for one in body["metrics"])
    return unique["samples"], unique["value"], revenue["value"]


async def test_each_form_counts_as_it_should_at_the_public_port(results: Caller, public: Caller) -> None:
    found = {}
    for number, (name, (make, _)) in enumerate(FORMS.items()):
        experiment = str(50_000 + number)
        status, _ = await public.post("/v1/events", alone(make(experiment), experiment))
        assert status == 204, name
        found[name] = await figures(results, experiment)
    assert found == {name: expected for name, (_, expected) in FORMS.items()}


async def test_each_form_counts_alike_through_the_gateway(results: Caller) -> None:
    types = itertools.cycle(["application/json", "text/plain;charset=UTF-8", ""])

    def send_all() -> list[int]:
        with GatewayTestApp(main({}, results_url=results.url, **KEEPS_NOTHING)) as gateway:
            return [
                gateway.post(
                    "/v1/events",
                    json.dumps(alone(make(str(60_000 + number)), str(60_000 + number))),
                    content_type=next(types),
                ).status_int
                for number, (make, _) in enumerate(FORMS.values())
            ]

    assert await asyncio.to_thread(send_all) == [204] * len(FORMS)
    found = [await figures(results, str(60_000 + number)) for number in range(len(FORMS))]
    assert dict(zip(FORMS, found, strict=True)) == {name: expected for name, (_, expected) in FORMS.items()}


async def test_what_is_left_out_is_in_the_log_with_its_reasons(
    public: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "optimizely_api.services.results"):
        assert (await public.post("/v1/events", partly_unusable("9101")))[0] == 204
    [fields] = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert fields["reasons"] == {
        "a visitor that is no object": 1,
        "a visitor without a usable visitor_id": 1,
        "an event without a usable timestamp": 1,
    }
    assert (fields["account_id"], fields["kept_events"], fields["kept_revenue"]) == ("77", 2, 3)

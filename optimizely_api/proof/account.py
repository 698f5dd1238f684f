"""A small account with experiments that have ended, and questions about it whose right answers are known.

The account is made by the services themselves. Names, keys and counts of visitors come from here and from the events
that were sent; all else that a right answer has is what every gateway answers while nothing is wrong.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import aiohttp
import orjson
from rich.console import Console

from optimizely_api.demo import story
from optimizely_api.demo.client import TIMEOUT_SECONDS, ServiceClient
from optimizely_api.demo.loader import Loader
from optimizely_api.demo.past import Past
from optimizely_api.demo.visitors import Crowd, Target, batch_body, batches
from optimizely_api.proof.judge import Question
from optimizely_api.proof.options import NotAsMade
from optimizely_api.services_key import authorization

ORDERED = "ordered"
VISITORS_A_BATCH = 3
UNKNOWN_ID = 9_000_000_000
NO_TOKEN = "2:nobody-has-this-token"  # noqa: S105
PROJECT = story.Project(
    name="Proof",
    description="Experiments that have ended, so that their results stay.",
    platform="custom",
    events=(story.Event(ORDERED, "Order placed", "purchase"),),
    experiments=tuple(
        story.Experiment(
            key=f"experiment_{number}",
            name=f"Experiment {number}",
            description="",
            variations=("As it was", "Changed"),
            metrics=(story.converting(ORDERED), story.counted(ORDERED)),
            visitors=100 + 37 * number if number else 0,
            behaviours=(story.Behaviour(ORDERED, (0.2, 0.2 + 0.03 * number), times=1.3),),
            started=9 + number,
            ended=number,
            end="pause" if number else "",
        )
        for number in (1, 2, 3, 0)  # the last one runs
    ),
    sdks=("python",),
)


@dataclass(frozen=True, kw_only=True)
class Account:
    """The account: its tokens, projects and experiments, and visitors by experiment and variation, as sent.

    `targets` are the experiments that have ended; `running` is the one whose results grow.
    """

    token: str
    token_of_another: str
    project_id: int
    written_project_id: int
    targets: Sequence[tuple[story.Experiment, Target]]
    running: tuple[story.Experiment, Target]
    visitors: Mapping[int, Mapping[int, int]]


class _Loader(Loader):
    """The demo's loader, for one project in which nothing else has happened."""

    async def account(self) -> Account:
        account = await self.projects.create("/accounts", {"name": PROJECT.name})
        another = await self.projects.create("/accounts", {"name": "Another"})
        await self._people(account["id"])
        created = datetime.fromisoformat(account["created"])
        *targets, running = await self._project(account["id"], PROJECT, created)
        await self._send_visitors(targets, Console(quiet=True))
        written = {"account_id": account["id"], "name": "Written", "platform": "custom", "sdks": ["python"]}
        return Account(
            token=await self._token(account["id"]),
            token_of_another=await self._token(another["id"]),
            project_id=targets[0][1].project_id,
            written_project_id=(await self.projects.create("/projects", written))["id"],
            targets=targets,
            running=running,
            visitors={target.experiment_id: _visitors(experiment, target) for experiment, target in targets},
        )

    async def _token(self, account_id: int) -> str:
        made = await self.projects.create(f"/accounts/{account_id}/tokens", {"name": "Proof"})
        return str(made["token"])

    async def _past(
        self,
        project: story.Project,
        people: Past,
        targets: list[tuple[story.Experiment, Target]],
        campaign_ids: dict[str, int],
    ) -> None:
        """Nothing has happened."""


async def make_account(urls: Mapping[str, str], key: str) -> Account:
    """Make the account in the three services. Raises DemoError when a service refuses a request."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, headers=authorization(key)) as session:
        services = (ServiceClient(session, urls[name]) for name in ("projects", "experiments", "results"))
        return await _Loader(*services).account()


def _visitors(experiment: story.Experiment, target: Target) -> dict[int, int]:
    """{variation id: its visitors}, counted in the batches that were sent."""
    entries = (
        entry for batch in batches(experiment, target) for entry in orjson.loads(batch.body)["visitors"]
    )
    decisions = (
        decision
        for entry in entries
        for snapshot in entry["snapshots"]
        for decision in snapshot.get("decisions", ())
    )
    return dict(Counter(int(decision["variation_id"]) for decision in decisions))


def questions(account: Account) -> Iterator[Question]:
    """The questions about the account; those with status 200 have no value yet."""

    def question(operation_id: str, path: str, **more: Any) -> Question:
        return Question(operation_id, f"/v2{path}", **{"token": account.token, **more})

    project = f"project_id={account.project_id}"
    for _, target in account.targets:
        path = f"/experiments/{target.experiment_id}"
        yield question("get_experiment", path)
        yield question("get_experiment_results", f"{path}/results")
        yield question("get_experiment_report", f"{path}/report")
        yield question("get_experiment_timeseries", f"{path}/timeseries")
        yield question("get_campaign", f"/campaigns/{target.campaign_id}")
        yield question("get_campaign_results", f"/campaigns/{target.campaign_id}/results")
    yield question("list_experiments", f"/experiments?{project}")
    yield question("list_campaigns", f"/campaigns?{project}")
    yield question("list_events", f"/events?{project}")
    yield question("list_attributes", f"/attributes?{project}")
    yield question("list_environments", f"/environments?{project}")
    yield question("get_project", f"/projects/{account.project_id}")
    yield question("list_projects", "/projects")
    known = f"/experiments/{account.targets[0][1].experiment_id}"
    yield question("get_experiment", f"/experiments/{UNKNOWN_ID}", status=404)
    yield question("get_experiment", known, status=403, token=account.token_of_another)
    yield question("get_experiment", known, status=401, token=NO_TOKEN)


async def answered(account: Account, gateways: Sequence[str], host: str) -> list[Question]:
    """The questions with their right answers: what each of the gateways answers before any fault.

    `host` is the address that callers use, which is part of some answers.

    Raises NotAsMade where gateways differ, or an answer is not what was put into the services.
    """
    known = []
    async with aiohttp.ClientSession() as session:
        for question in questions(account):
            values = [await _ask(session, url, question, host) for url in gateways]
            if question.status == 200 and any(value != values[0] for value in values):
                raise NotAsMade(f"gateways differ about {question.path}")
            known.append(replace(question, value=values[0]) if question.status == 200 else question)
    _check(account, {question.path: question.value for question in known if question.status == 200})
    return known


async def _ask(session: aiohttp.ClientSession, gateway: str, question: Question, host: str) -> Any:
    headers = {"Authorization": f"Bearer {question.token}", "Host": host}
    async with session.get(f"{gateway}{question.path}", headers=headers) as response:
        body = await response.read()
        if response.status != question.status:
            raise NotAsMade(
                f"{question.path}: {response.status} instead of {question.status}: {body[:300]!r}"
            )
        return orjson.loads(body)


def _check(account: Account, values: Mapping[str, Any]) -> None:
    """Compare entities with their definitions, and results with the visitors that were sent."""
    for experiment, target in account.targets:
        path = f"/v2/experiments/{target.experiment_id}"
        entity, results = values[path], values[f"{path}/results"]
        if (entity["key"], entity["name"]) != (experiment.key, experiment.name):
            raise NotAsMade(f"{path} has another key or name than it was made with")
        counted = {
            int(reached["variation_id"]): reached["count"]
            for reached in results["reach"]["variations"].values()
        }
        if counted != account.visitors[target.experiment_id]:
            raise NotAsMade(f"{path}/results counts {counted}, and not the visitors that were sent")


def creation(account: Account, number: int, run: int) -> Question:
    """The request that makes the attribute of this number; the same one every time."""
    key = f"written_{number}"
    return Question(
        "create_attribute",
        "/v2/attributes",
        account.token,
        status=201,
        value=key,
        method="POST",
        body=orjson.dumps({"project_id": account.written_project_id, "key": key}),
        headers={"Idempotency-Key": f'"proof-{run}-{number}"'},
        known=lambda made: made.get("key"),
    )


def creation_of(account: Account, body: bytes) -> Question:
    """The question about an attribute that was made: the response to its creation is the right answer."""
    value = orjson.loads(body)
    return Question("get_attribute", f"/v2/attributes/{value['id']}", account.token, value=value)


def batch(account: Account, number: int, run: int) -> Question:
    """The request that sends the events of VISITORS_A_BATCH visitors of the running experiment."""
    experiment, target = account.running
    crowd = Crowd(experiment, target, random.Random(f"{run}:{number}"))  # noqa: S311
    entries = [entry for _ in range(VISITORS_A_BATCH) for entry in crowd.visit()]
    return Question("", "/v1/events", "", status=204, method="POST", body=batch_body(target, entries))


def counted(account: Account, visitors: int) -> Question:
    """The question how many visitors of the running experiment were counted: as many as were acknowledged."""
    return Question(
        "get_experiment_results",
        f"/v2/experiments/{account.running[1].experiment_id}/results",
        account.token,
        value=visitors,
        known=lambda results: results.get("reach", {}).get("total_count"),
        grows=True,
    )

"""The calls that the gateway makes to its services, as values: no IO, so that every fan-out can send them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Query = tuple[tuple[str, str], ...]


class Call(NamedTuple):
    """One request to a service.

    `expects` names the shape that a 200 must have (`shapes.py`); `entity` names what a 404 means, and is empty
    where a 404 would break the agreement.
    """

    upstream: str
    path: str
    expects: str
    entity: str = ""
    method: str = "GET"
    query: Query = ()
    body: Mapping[str, Any] | None = None


def identify(token_sha256: str) -> Call:
    return Call("projects", f"/tokens/{token_sha256}", "Token", entity="such token")


def get_project(project_id: int) -> Call:
    return Call("projects", f"/projects/{project_id}", "Project", entity=f"project {project_id}")


def list_projects(account_id: int, page: "Page", filters: Iterable[str] = ()) -> Call:
    query = (("account_id", str(account_id)), *(("filter", text) for text in filters), *page.query)
    return Call("projects", "/projects", "ProjectList", query=query)


def get_experiment(experiment_id: int) -> Call:
    path = f"/experiments/{experiment_id}"
    return Call("experiments", path, "Experiment", entity=f"experiment {experiment_id}")


def list_experiments(account_id: int, page: "Page", filters: Mapping[str, object] | None = None) -> Call:
    """`filters`: `project_id`, `campaign_id` and `include_classic`, each optional."""
    return Call("experiments", "/experiments", "ExperimentList", query=_list_query(account_id, page, filters))


def get_layer(layer_id: int) -> Call:
    """The API calls a layer a campaign."""
    return Call("experiments", f"/layers/{layer_id}", "Layer", entity=f"campaign {layer_id}")


def list_layers(account_id: int, page: "Page", filters: Mapping[str, object] | None = None) -> Call:
    return Call("experiments", "/layers", "LayerList", query=_list_query(account_id, page, filters))


def get_event(event_id: int) -> Call:
    return Call("experiments", f"/events/{event_id}", "Event", entity=f"event {event_id}")


def list_events(account_id: int, page: "Page", filters: Mapping[str, object] | None = None) -> Call:
    return Call("experiments", "/events", "EventList", query=_list_query(account_id, page, filters))


def compute_results(experiment_id: int, body: Mapping[str, Any]) -> Call:
    """A POST that changes nothing: it carries the definitions, which the results service does not own."""
    return Call("results", f"/results/{experiment_id}", "Results", method="POST", body=body)


def check_health(upstream: str) -> Call:
    return Call(upstream, "/healthz", "Health")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list; `number` starts at 1."""

    number: int
    size: int

    @property
    def query(self) -> Query:
        return (("page", str(self.number)), ("per_page", str(self.size)))


def _list_query(account_id: int, page: Page, filters: Mapping[str, object] | None) -> Query:
    chosen = {key: value for key, value in (filters or {}).items() if value is not None}
    return (
        ("account_id", str(account_id)),
        *((key, _text(value)) for key, value in chosen.items()),
        *page.query,
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

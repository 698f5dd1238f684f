"""The HTTP interface of the experiments service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from optimizely_api.services.entities.endpoints import routes
from optimizely_api.services.experiments import states, store, whitelists
from optimizely_api.services.experiments.attributes import ATTRIBUTES
from optimizely_api.services.experiments.audiences import AUDIENCES
from optimizely_api.services.experiments.changes import feed_changes, list_changes
from optimizely_api.services.experiments.datafiles.endpoints import (
    get_datafile,
    list_revisions,
    register_environments,
)
from optimizely_api.services.experiments.events import EVENTS
from optimizely_api.services.experiments.extensions import EXTENSIONS
from optimizely_api.services.experiments.features import FEATURES
from optimizely_api.services.experiments.groups import GROUPS
from optimizely_api.services.experiments.levels import level_of_project
from optimizely_api.services.experiments.list_attributes import LIST_ATTRIBUTES
from optimizely_api.services.experiments.page_views import get_event, list_events
from optimizely_api.services.experiments.pages import PAGES, where_listed
from optimizely_api.services.experiments.schema import (
    EXPERIMENT,
    EXPERIMENT_UPDATE,
    LAYER,
    LAYER_UPDATE,
)
from optimizely_api.services.experiments.search.endpoint import search
from optimizely_api.services.experiments.sections import SECTIONS
from optimizely_api.services.experiments.snippets import build as snippets
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.endpoints import created_response, entity_response, page_response
from optimizely_api.services.http.errors import bad_request
from optimizely_api.services.http.json_body import read_object
from optimizely_api.services.http.made_once import made_once
from optimizely_api.services.http.query import path_id, read_at, read_boolean, read_integer, read_integers
from optimizely_api.services.http.responses import JSONResponse


async def list_experiments(request: web.Request) -> web.Response:
    """Experiments, by id, account, project and campaign, archived or not; classic ones only when asked for."""
    filters: dict[str, Any] = _filters(request, account_id="account_id", campaign_id="layer_id")
    for name in ("id", "project_id"):
        if numbers := read_integers(request, name):
            filters[name] = numbers
    archived, classic = read_boolean(request, "archived"), read_boolean(request, "include_classic") or False
    return await page_response(
        request,
        lambda connection, page: store.list_experiments(connection, filters, archived, classic, page, _now()),
    )


async def list_labels(request: web.Request) -> web.Response:
    """Names and states of the experiments of the query's `id`, as far as they are its `account_id`'s."""
    account_id, ids = read_integer(request, "account_id"), read_integers(request, "id")
    if account_id is None or not ids:
        raise bad_request("account_id and id are required")
    return await page_response(
        request, lambda connection, page: store.list_labels(connection, account_id, ids, page, _now())
    )


async def create_experiment(request: web.Request) -> web.Response:
    """A new experiment, in a new layer unless `campaign_id` names one."""
    action = states.read_action(request.query.get("action"), states.CREATE_ACTIONS)
    given, at = EXPERIMENT.read(await read_object(request)), read_at(request)
    level = await level_of_project(request, store.project_that_sets_the_level(given, action))
    async with request.app[DATABASE].transaction() as connection:
        made = await made_once(
            request, connection, lambda: store.create_experiment(connection, given, action, at, level)
        )
    return JSONResponse(made, status=201)


async def get_experiment(request: web.Request) -> web.Response:
    """One experiment, archived or not."""
    return await entity_response(
        request, "experiment_id", lambda connection, number: store.get_experiment(connection, number, _now())
    )


async def update_experiment(request: web.Request) -> web.Response:
    """Changes to an experiment and, by `action`, to its state; what cannot be changed is ignored."""
    experiment_id = path_id(request, "experiment_id")
    action = states.read_action(request.query.get("action"), states.UPDATE_ACTIONS)
    changes, at = EXPERIMENT_UPDATE.read(await read_object(request)), read_at(request)
    async with request.app[DATABASE].snapshot() as connection:
        project_id = await store.project_to_ask(connection, experiment_id, changes, action)
    level = await level_of_project(request, project_id)
    async with request.app[DATABASE].transaction() as connection:
        experiment = await store.update_experiment(
            connection, experiment_id, changes, action, at, level, if_match(request)
        )
    return JSONResponse(experiment)


async def delete_experiment(request: web.Request) -> web.Response:
    """Into the archive."""
    experiment_id = path_id(request, "experiment_id")
    async with request.app[DATABASE].transaction() as connection:
        await store.archive_experiment(connection, experiment_id, read_at(request), if_match(request))
    return web.Response(status=204)


async def list_layers(request: web.Request) -> web.Response:
    """Layers, by account, project and type, archived or not."""
    filters: dict[str, Any] = _filters(request, account_id="account_id", project_id="project_id")
    if layer_type := request.query.get("type"):
        filters["type"] = layer_type
    archived = read_boolean(request, "archived")
    return await page_response(
        request, lambda connection, page: store.list_layers(connection, filters, archived, page, _now())
    )


async def create_layer(request: web.Request) -> web.Response:
    """A new layer without experiments."""
    action = states.read_action(request.query.get("action"), states.LAYER_CREATE_ACTIONS)
    return await created_response(
        request, LAYER.read, lambda connection, given, at: store.create_layer(connection, given, action, at)
    )


async def get_layer(request: web.Request) -> web.Response:
    """One layer."""
    return await entity_response(
        request, "layer_id", lambda connection, number: store.get_layer(connection, number, _now())
    )


async def update_layer(request: web.Request) -> web.Response:
    """Changes to a layer and, by `action`, to its state."""
    layer_id = path_id(request, "layer_id")
    action = states.read_action(request.query.get("action"), states.UPDATE_ACTIONS)
    changes, at = LAYER_UPDATE.read(await read_object(request)), read_at(request)
    async with request.app[DATABASE].transaction() as connection:
        layer = await store.update_layer(connection, layer_id, changes, action, at, if_match(request))
    return JSONResponse(layer)


async def delete_layer(request: web.Request) -> web.Response:
    """Into the archive, with all experiments."""
    layer_id = path_id(request, "layer_id")
    async with request.app[DATABASE].transaction() as connection:
        await store.archive_layer(connection, layer_id, read_at(request), if_match(request))
    return web.Response(status=204)


def _filters(request: web.Request, **columns: str) -> dict[str, int]:
    values = {column: read_integer(request, name) for name, column in columns.items()}
    return {column: value for column, value in values.items() if value is not None}


def if_match(request: web.Request) -> str:
    """The versions that a change is meant for; empty means any."""
    return request.headers.get("If-Match", "")


def _now() -> datetime:
    return datetime.now(UTC)


ROUTES = [
    web.get("/changes", list_changes),
    web.get("/changes/feed", feed_changes),
    web.get("/search", search),
    web.post("/datafiles", register_environments),
    web.get("/datafiles/{sdk_key}", get_datafile),
    web.get("/datafile-revisions", list_revisions),
    web.post("/snippets", snippets.register_projects),
    web.post("/snippet-revisions", snippets.list_revisions),
    *routes(ATTRIBUTES),
    *routes(AUDIENCES),
    *routes(LIST_ATTRIBUTES),
    *routes(EXTENSIONS),
    *routes(PAGES, where=where_listed),
    *routes(EVENTS, reads=False),
    web.get("/events", list_events),
    web.get("/events/{event_id}", get_event),
    *routes(FEATURES),
    *routes(GROUPS),
    *routes(SECTIONS, further=("experiment_id",)),
    web.get("/experiments", list_experiments),
    web.post("/experiments", create_experiment),
    web.get("/experiments/{experiment_id}", get_experiment),
    web.patch("/experiments/{experiment_id}", update_experiment),
    web.delete("/experiments/{experiment_id}", delete_experiment),
    web.get("/experiment_labels", list_labels),
    web.get("/layers", list_layers),
    web.post("/layers", create_layer),
    web.get("/layers/{layer_id}", get_layer),
    web.patch("/layers/{layer_id}", update_layer),
    web.delete("/layers/{layer_id}", delete_layer),
    *whitelists.ROUTES,
]

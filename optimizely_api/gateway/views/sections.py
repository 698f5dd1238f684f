"""Sections: the parts of a multivariate experiment, whose variations are combined."""

from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.resource import Resource, operation
from optimizely_api.gateway.views.experiments import EXPERIMENTS

SECTIONS = Resource("Section", "experiments")


@operation
async def get_experiment_sections(request: Request) -> list[Any]:
    return await SECTIONS.list(request, **await _of_experiment(request))


@operation
async def create_section(request: Request) -> dict[str, Any]:
    experiment = await EXPERIMENTS.visible(request)
    owners = {"project_id": experiment["project_id"], "experiment_id": experiment["id"]}
    return await SECTIONS.create(request, **owners)


@operation
async def get_section(request: Request) -> dict[str, Any]:
    return await SECTIONS.get(request, **await _of_experiment(request))


@operation
async def update_section(request: Request) -> dict[str, Any]:
    return await SECTIONS.update(request, **await _of_experiment(request))


@operation
async def delete_section(request: Request) -> None:
    await SECTIONS.archive(request, **await _of_experiment(request))


async def _of_experiment(request: Request) -> dict[str, Any]:
    """What makes a section one of the experiment in the address."""
    experiment = await EXPERIMENTS.visible(request)
    return {"experiment_id": experiment["id"]}

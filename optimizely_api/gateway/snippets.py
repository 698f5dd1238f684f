"""Snippets in the gateway: naming projects for the web to the service that builds what is in their script."""

from collections.abc import Iterable, Mapping
from typing import Any

from pyramid.request import Request

from optimizely_api.contract.definitions import writable_part
from optimizely_api.gateway.resource import Entity
from optimizely_api.upstream import calls


async def snippets_of(request: Request, projects: Iterable[Mapping[str, Any]]) -> dict[int, Entity]:
    """Return {project id: `code_revision` and `js_file_size`} of those of the projects that are for the web."""
    named = [_registration(project) for project in projects if "web_snippet" in project]
    if not named:
        return {}
    built = await request.fetch(calls.register_projects(named))
    return {
        one["project_id"]: {"code_revision": one["revision"], "js_file_size": one["size"]}
        for one in built["items"]
    }


def _registration(project: Mapping[str, Any]) -> Entity:
    return {
        "account_id": project["account_id"],
        "project_id": project["id"],
        "version": project["last_modified"],
        "settings": writable_part("WebSnippet", project["web_snippet"]),
    }

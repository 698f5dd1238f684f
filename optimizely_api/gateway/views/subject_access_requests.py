"""Subject access requests: what persons ask of an account, to see or to delete the data about them."""

from base64 import b64decode
from typing import Any

from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.gateway.resource import Resource, operation
from optimizely_api.upstream import calls

REQUESTS = Resource("SubjectAccessRequest", "projects", noun="request", path="/subject_access_requests")


@operation
async def list_sar_requests_by_account(request: Request) -> list[Any]:
    return await REQUESTS.list(request)


@operation
async def create_sar_request(request: Request) -> dict[str, Any]:
    return await REQUESTS.create(request)


@operation
async def get_sar_request(request: Request) -> dict[str, Any]:
    return await REQUESTS.get(request)


@operation
async def get_sar_export(request: Request) -> Response:
    sar = await REQUESTS.visible(request)
    export = await request.fetch(calls.get_export(sar["id"]))
    response = Response(b64decode(export["content"]), content_type="application/zip")
    response.headers["Content-Disposition"] = f'attachment; filename="subject-access-request-{sar["id"]}.zip"'
    response.headers["Cache-Control"] = "no-store"  # it is to be gone in 7 days, everywhere
    return response

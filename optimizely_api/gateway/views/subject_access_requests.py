"""Subject access requests: what persons ask of an account, to see or to delete the data about them."""

from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.resource import Resource, operation

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

"""What only projects of some platforms have: the project of a new entity decides."""

from pyramid.request import Request

from optimizely_api.gateway.errors import BadRequest
from optimizely_api.gateway.resource import named_project, visible_project

WEB = "web"


async def platform_of_body(request: Request) -> str:
    """The platform of the project that a body names for something new; raises BadRequest when it cannot be used."""
    project = await named_project(request, request.swagger_data["body"]["project_id"])
    platform: str = project.get("platform", WEB)
    return platform


async def check_for_the_web(request: Request) -> None:
    """Raise BadRequest for something new that only projects for the web have, in another project."""
    platform = await platform_of_body(request)
    if platform != WEB:
        problem = f"names a project of platform {platform}; only those for the web have this"
        raise BadRequest(f"project_id {problem}.", {"/body/project_id": problem})


async def check_address_for_the_web(request: Request, project_id: int) -> None:
    """Raise BadRequest for something new that only projects for the web have, whose address is of another project."""
    project = await visible_project(request, project_id)
    platform = project.get("platform", WEB)
    if platform != WEB:
        (parameter,) = request.matchdict
        problem = f"is of a project of platform {platform}; only those for the web have this"
        raise BadRequest(f"{parameter} {problem}.", {f"/path/{parameter}": problem})

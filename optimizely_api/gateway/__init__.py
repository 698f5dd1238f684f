"""The application between socket and services: what a request meets on its way to a view, in one list.

`config.include("optimizely_api.gateway")` sets up everything that the asyncio gateway and the blocking application of
`legacy/` have in common; each adds its own way to call the services, and its views.
"""

from pyramid.config import Configurator
from pyramid.tweens import EXCVIEW, INGRESS, MAIN

BLOCKING = "optimizely_api.blocking"  # set on the registry of an application with plain views

PYRAMID_SWAGGER = "pyramid_swagger.tween.validation_tween_factory"
RESPONSE_CHECK = f"{__name__}.contract.responses.response_check_tween_factory"

# From the outside in. A request goes down this list, its response up.
TWEENS = (
    # Outside everything, so that it counts what was sent.
    f"{__name__}.access_log.access_log_tween_factory",
    # Outside everything that makes a response: errors and 304 carry the CORS headers too.
    f"{__name__}.cors.cors_tween_factory",
    # ETag, 304, Vary and coding. Outside the response check, which judges the 200 itself.
    f"{__name__}.finishing.finishing_tween_factory",
    # Outside the response check: what is kept for a repeated request is what was sent.
    f"{__name__}.idempotency.keeping_tween_factory",
    # Outside the exception views, so that no error escapes it.
    RESPONSE_CHECK,
    # Pyramid's own: exceptions become responses of the one error shape.
    EXCVIEW,
    # Before anything is done for a request that has waited for too long to begin.
    f"{__name__}.overdue.overdue_tween_factory",
    # Before the token is looked at: a body that is too large costs nothing.
    f"{__name__}.body_limit.body_limit_tween_factory",
    # Before validation: who has no token learns nothing about the contract's checks.
    f"{__name__}.identity.identity_tween_factory",
    # The compiled readers of parameters, around pyramid_swagger, which decides what they are not sure of.
    f"{__name__}.contract.compiled.validation_tween_factory",
    PYRAMID_SWAGGER,
    # Not a real tween: remembers the handler below pyramid_swagger, so that the compiled path can skip it.
    f"{__name__}.contract.compiled.behind_tween_factory",
    # Behind validation: who may not do it at all learns that before what is kept for a repeated request.
    f"{__name__}.roles.roles_tween_factory",
    # Behind validation: a request that breaks the contract claims no key.
    f"{__name__}.idempotency.claiming_tween_factory",
)

ROOMS = (
    "access_log",
    "cors",
    "finishing",
    "errors",
    "overdue",
    "body_limit",
    "identity",
    "contract",
    "roles",
    "idempotency",
    "admission",
)


def add_tween(config: Configurator, name: str) -> None:
    """Add a tween of `TWEENS` in its place, whichever of the others this application has."""
    place = TWEENS.index(name)
    config.add_tween(name, under=(*TWEENS[:place][::-1], INGRESS), over=(*TWEENS[place + 1 :], MAIN))


def includeme(config: Configurator) -> None:
    """Set up the tweens, exception views, routes and documents of the contract."""
    for room in ROOMS:
        config.include(f"{__name__}.{room}")

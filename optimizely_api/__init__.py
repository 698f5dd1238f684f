"""The Optimizely v2 REST API as an asyncio gateway in front of three services."""

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyramid.router import Router

# Pyramid imports pkg_resources; setup.py has the pin of setuptools and its reason. gunicorn's master imports Pyramid
# with the worker class, before it loads the application, and the warning would be lines of the log that are no JSON.
warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)


def main(global_config: dict[str, str], **settings: Any) -> "Router":
    """Make the gateway: coroutine views under aiopyramid, for the gunicorn worker of `runtime/`.

    `global_config` is the ini file's [DEFAULT], `settings` the application's section, whose keys
    `gateway/settings.py` lists.
    """
    # Imported here: the services import this package too and must not import Pyramid and the runtime.
    from pyramid.config import Configurator

    from optimizely_api.gateway.contract.routes import EVENTS_PATH, route_namer
    from optimizely_api.gateway.settings import read
    from optimizely_api.gateway.upstreams import GatewayRequest
    from optimizely_api.runtime import RuntimeOptions
    from optimizely_api.runtime.server.other_workers import refuse_other_workers

    refuse_other_workers(global_config)
    typed = read({**global_config, **settings})
    config = Configurator(settings=settings)
    config.registry["settings"] = typed
    config.include(".runtime")
    config.set_runtime_options(
        RuntimeOptions(
            max_request_body_bytes=typed.max_request_body_bytes,
            larger_bodies={EVENTS_PATH: typed.max_event_batch_bytes},
            request_bodies_bytes=typed.request_bodies_bytes,
            max_request_line_bytes=typed.max_request_line_bytes,
            max_header_section_bytes=typed.max_header_section_bytes,
            max_header_fields=typed.max_header_fields,
            header_timeout_seconds=typed.header_timeout_seconds,
            body_timeout_seconds=typed.body_timeout_seconds,
            write_timeout_seconds=typed.write_timeout_seconds,
            stall_warning_seconds=typed.stall_warning_seconds,
            overload_wait_seconds=typed.overload_wait_seconds,
            account_in_flight_share=typed.account_in_flight_share,
        )
    )
    config.set_route_namer(route_namer(config.registry))
    config.include(".gateway")
    config.include(".gateway.upstreams")
    config.set_request_factory(GatewayRequest)
    config.include(".gateway.views")
    return config.make_wsgi_app()

"""The applications to compare: the real ones, with two additional views for two of the scenarios.

`GET /compare/cpu?iterations=N` computes; no worker class makes that faster. `GET /compare/blocking?ms=N` blocks the
event loop by sleeping, like a forgotten synchronous call.
"""

import os
import time
from pathlib import Path
from typing import Any

from pyramid.config import Configurator
from pyramid.config.views import DefaultViewMapper
from pyramid.request import Request
from pyramid.router import Router

from optimizely_api import legacy
from optimizely_api import main as gateway
from optimizely_api.comparison.rig.workloads import BLOCKING_PATH, CPU_PATH, compute

READY_FOLDER = "comparison.ready_folder"


def coroutines(global_config: dict[str, str], **settings: Any) -> Router:
    """The gateway, for the asyncio worker."""
    return _with_more_views(gateway(global_config, **settings), settings)


def blocking(global_config: dict[str, str], **settings: Any) -> Router:
    """The blocking application, for the sync, gthread and gevent workers."""
    return _with_more_views(legacy.main(global_config, **settings), settings)


def cpu(context: Any, request: Request) -> dict[str, int]:
    return {"value": compute(int(request.GET["iterations"]))}


def hold_the_loop(context: Any, request: Request) -> dict[str, bool]:
    # On purpose: this view demonstrates the mistake.
    time.sleep(float(request.GET["ms"]) / 1000)
    return {"blocked": True}


def _with_more_views(router: Router, settings: dict[str, Any]) -> Router:
    config = Configurator(registry=router.registry)
    for path, view in ((CPU_PATH, cpu), (BLOCKING_PATH, hold_the_loop)):
        config.add_route(path, path)
        config.add_view(view, route_name=path, renderer="json", mapper=DefaultViewMapper)
    config.commit()
    # The rig counts these files to know how many workers can serve.
    Path(settings[READY_FOLDER], str(os.getpid())).touch()
    return router

"""How long a request waits for results that are being computed, before its response is a 202.

`results_wait_seconds`, or what the caller prefers (`Prefer: wait=N`, RFC 7240), up to a part of the time limits of the
results service, of the request and of the caller (`X-Request-Timeout-Ms`): within them the response must come.
"""

import time

from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.gateway.settings import Settings
from optimizely_api.http.preferences import preferred_wait, wait_preference

SHARE_OF_LIMITS = 0.8


def wait_seconds(request: Request) -> float:
    """The wait; the response to a caller with a preference gets `Preference-Applied`."""
    settings: Settings = request.registry["settings"]
    seconds_left: float = request.call_context.deadline - time.monotonic()
    longest = SHARE_OF_LIMITS * max(0.0, min(settings.results_timeout_seconds, seconds_left))
    preferred = preferred_wait(request.environ.get("HTTP_PREFER"))
    if preferred is None:
        return min(longest, settings.results_wait_seconds)
    wait = min(longest, preferred)

    def add_header(request: Request, response: Response) -> None:
        response.headers["Preference-Applied"] = wait_preference(wait)

    request.add_response_callback(add_header)
    return wait

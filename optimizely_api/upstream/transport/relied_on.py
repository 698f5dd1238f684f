"""What the connections to the services rely on of aiohttp's client, and of asyncio.

`ResponseHandler` is what aiohttp's connector expects of a protocol: `is_connected()`, `should_close`, `close()`,
`abort()`, `closed`. `TCPConnector` reads of the `ClientRequest` given to `connect()` only where it leads.
"""

import asyncio
import functools

from aiohttp import TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from optimizely_api.foreign_names import PYTHON, Reliance

RELIANCE = Reliance(
    "aiohttp",
    "install aiohttp==3.14.*",  # as in setup.py
    used={
        TCPConnector: {
            "_acquired": "knowing the busy connections",
            "_acquired_per_host": "knowing the busy connections to a service",
            "_cleanup_handle": "having idle connections closed in time",
            "_closed": "keeping no connection after the end",
            "_conns": "taking an idle connection, with the time since when it is idle",
            "_factory": "making protocols of ours",
            "_loop": "the time, and timers",
            "_release": "giving a connection back, or having it closed",
            "_release_waiter": "letting the next call have a connection that another no longer waits for",
            "_waiters": "knowing whether a call waits for a connection",
        },
        Connection: {"_protocol": "using a connection without the object that aiohttp puts around it"},
        ResponseHandler: {
            "_drop_timeout": "ending the timer of a response that is whole",
            "_loop": "futures and timers",
            "_parser": "leaving aiohttp no parser of a response that is whole",
            "_payload": "telling aiohttp whether a response is whole",
            "_read_timeout_handle": "having the timer end with the connection",
            "_should_close": "keeping a connection from being used again",
        },
    },
    overridden={
        TCPConnector: {
            "_create_connection": "closing an idle connection where a new one would be one too many",
            "_resolve_host": "leaving out the addresses that rest",
            "_wait_for_available_connection": "knowing that a call no longer waits for a connection",
            "_wrap_create_connection": "the deadline for connecting, and knowing which addresses fail",
        },
        ResponseHandler: {"_on_read_timeout": "the deadline of a call"},
    },
)
ASYNCIO = Reliance(
    PYTHON,
    "run this on Python 3.11 to 3.14",
    used={asyncio.Timeout: {"_timeout_handler": "connecting under an event loop that is late"}},
    overridden={asyncio.Timeout: {"_on_timeout": "connecting under an event loop that is late"}},
)


@functools.cache
def check() -> None:
    """Raise ReleaseDoesNotFit where a name is gone; once in a process."""
    RELIANCE.check()
    ASYNCIO.check()

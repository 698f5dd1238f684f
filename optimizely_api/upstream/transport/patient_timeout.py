"""A timeout that does not blame the service when our own event loop was late."""

import asyncio

ONE_TURN_SECONDS = 0.001
# From a connected socket to a transport: the task wakes up, requests the transport and gets it; and two to spare.
TURNS = 5


class PatientTimeout(asyncio.Timeout):  # type: ignore[misc]  # final, but only a subclass can move its timer
    """`asyncio.timeout_at`, but the task gets a few more turns of the event loop before it is cancelled.

    After a block, a loop first polls its sockets, which completes the future that the task awaits, and then runs the
    timers that are due. An ordinary timeout would cancel the task although its result is there.
    """

    def __init__(self, when: float) -> None:
        super().__init__(when)
        self._turns = TURNS

    def _on_timeout(self) -> None:
        if not self._turns:
            super()._on_timeout()  # type: ignore[misc]
        else:
            self._turns -= 1
            loop = asyncio.get_running_loop()
            self._timeout_handler = loop.call_later(ONE_TURN_SECONDS, self._on_timeout)

"""A time limit that an event loop which comes late does not lay at a service's door."""

import asyncio

ONE_TURN_SECONDS = 0.001
# From a socket that is connected to a transport that is made: the task wakes up, asks for it, and is told.
TURNS = 5


class PatientTimeout(asyncio.Timeout):  # type: ignore[misc]  # final, but its timer is our matter
    """`asyncio.timeout_at` that lets the task wake up before it cancels it.

    A loop that was held looks at its sockets, and sets the future that the task waits for, and then runs the timers
    that are due: the task has what it waited for, and would be cancelled all the same. Here it has a few turns more.
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

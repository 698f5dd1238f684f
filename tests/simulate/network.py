"""Connections in memory between the gateway's client and the simulated services."""

import asyncio
from typing import Any

from tests.simulate.services import Service
from tests.simulate.virtual_loop import Address, VirtualLoop

TRIP_SECONDS = 0.0005


class Connections:
    """The network of a loop: which service listens at which address."""

    def __init__(self) -> None:
        self.services: dict[Address, Service] = {}
        self.loop: VirtualLoop

    async def connect(self, address: Address) -> None:
        """Return when the service has taken a connection, which may be never; raises ConnectionRefusedError."""
        service = self.services[address]
        if service.has("silent"):
            await self.loop.create_future()
        await asyncio.sleep(TRIP_SECONDS)
        if service.has("gone"):
            service.attempts += 1
            raise ConnectionRefusedError(111, "Connection refused")

    def open(self, address: Address, protocol: asyncio.Protocol) -> asyncio.Transport:
        return Connection(self.loop, address, self.services[address], protocol)


class Connection(asyncio.Transport):
    """The gateway's end of a connection."""

    def __init__(
        self, loop: VirtualLoop, address: Address, service: Service, protocol: asyncio.Protocol
    ) -> None:
        super().__init__()
        self._loop, self._address, self._service, self._protocol = loop, address, service, protocol
        self.is_open = True
        service.connections[self] = None
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._address if name == "peername" else default

    def is_closing(self) -> bool:
        return not self.is_open

    def write(self, data: Any) -> None:
        if self.is_open:
            self._service.receive(self, data)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            del self._service.connections[self]
            self._loop.call_soon(self._protocol.connection_lost, None)

    abort = close

    def pause_reading(self) -> None:
        """Nothing to do: no response is so large."""

    def resume_reading(self) -> None:
        """Nothing to do."""

    def deliver(self, data: bytes) -> None:
        """Bytes of the service have arrived."""
        if self.is_open:
            self._protocol.data_received(data)

    def close_by_service(self, error: Exception | None = None) -> None:
        if self.is_open:
            self.is_open = False
            del self._service.connections[self]
            self._protocol.connection_lost(error)

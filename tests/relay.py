"""A UDP relay in user space: it keeps and drops what two sides exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from tests.endpoints import HOST

__all__ = ["Relay", "relay"]

Address = tuple[str, int]


class _Leg(asyncio.DatagramProtocol):
    """One socket of the relay; what it receives goes to ``received``."""

    def __init__(self, received: Callable[[bytes, Address], None]) -> None:
        self._received = received
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._received(data, addr)


class Relay:
    """Passes datagrams between one client and one server.

    Attributes:
        pass_from: Whether a client's address is listened to.
        pass_up: Whether a datagram of the client goes on to the server.
        pass_down: Whether one of the server goes on to the client.
        up: Datagrams the client has sent so far.
        down: Datagrams the server has sent so far.
    """

    def __init__(self, server: Address) -> None:
        self._server = server
        self._client: Address | None = None
        self._front = _Leg(self._from_client)
        self._back = _Leg(self._from_server)
        self.pass_from: Callable[[Address], bool] = lambda address: True
        self.pass_up: Callable[[bytes], bool] = lambda data: True
        self.pass_down: Callable[[bytes], bool] = lambda data: True
        self.up: list[bytes] = []
        self.down: list[bytes] = []

    @property
    def address(self) -> Address:
        """Where the client sends to."""
        assert self._front.transport is not None
        host, port = self._front.transport.get_extra_info("sockname")[:2]
        return str(host), int(port)

    def black_hole(self) -> None:
        """From now on nothing passes in either direction."""
        self.pass_up = self.pass_down = lambda data: False

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for leg in (self._front, self._back):
            await loop.create_datagram_endpoint(
                lambda leg=leg: leg,  # type: ignore[misc]
                local_addr=(HOST, 0),
            )

    def close(self) -> None:
        for leg in (self._front, self._back):
            if leg.transport is not None:
                leg.transport.close()

    def _from_client(self, data: bytes, address: Address) -> None:
        if not self.pass_from(address):
            return
        self._client = address
        self.up.append(data)
        if self.pass_up(data):
            assert self._back.transport is not None
            self._back.transport.sendto(data, self._server)

    def _from_server(self, data: bytes, address: Address) -> None:
        self.down.append(data)
        if self.pass_down(data) and self._client is not None:
            assert self._front.transport is not None
            self._front.transport.sendto(data, self._client)


@asynccontextmanager
async def relay(server: Address) -> AsyncIterator[Relay]:
    """A relay in front of ``server``."""
    made = Relay(server)
    await made.open()
    try:
        yield made
    finally:
        made.close()

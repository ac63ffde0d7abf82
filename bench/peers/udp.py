"""Raw UDP echo on uvloop: the floor for a datagram there and back.

Driven by ``asyncio.DatagramProtocol`` callbacks and ``transport.sendto``; the client's
socket is connected. Ping-pong only: nothing here is reliable.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

from bench.peers.adapter import HOST, Bytes, Link, Peer, Received, Session, Write
from bench.peers.certificate import Certificate

__all__ = ["PEER", "UdpPeer"]

type Address = tuple[str, int]


class _Server(asyncio.DatagramProtocol):
    """One socket for all clients; a session is made for each address."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._received: dict[Address, Received] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sendto = cast(asyncio.DatagramTransport, transport).sendto

    def datagram_received(self, data: bytes, addr: Address) -> None:
        received = self._received.get(addr)
        if received is None:
            received = self._session(partial(self._answer, addr))
            self._received[addr] = received
        received(data)

    def _answer(self, addr: Address, data: Bytes) -> None:
        self._sendto(data, addr)


class _Client(asyncio.DatagramProtocol):
    """One connected socket; it is the ``Link`` too."""

    def __init__(self, received: Received) -> None:
        self._received = received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.write: Write = self._transport.sendto

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._received(data)

    def flush(self) -> None:
        """Nothing to do: the datagram has left."""

    async def send_all(self, block: bytes, count: int) -> None:
        for _ in range(count):
            self.write(block)

    def close(self) -> None:
        self._transport.close()


class UdpPeer(Peer):
    """UDP datagrams, one a ping."""

    name = "udp"
    phases = frozenset({"rtt"})

    def __init__(self, certificate: Certificate) -> None:
        super().__init__(certificate)
        self._transports: list[asyncio.DatagramTransport] = []

    async def serve(self, session: Session) -> int:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Server(session), local_addr=(HOST, 0)
        )
        self._transports.append(transport)
        port = transport.get_extra_info("sockname")[1]
        assert isinstance(port, int)
        return port

    async def connect(self, port: int, received: Received) -> Link:
        transport, link = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Client(received), remote_addr=(HOST, port)
        )
        self._transports.append(transport)
        return link

    async def close(self) -> None:
        for transport in self._transports:
            transport.close()


PEER = UdpPeer

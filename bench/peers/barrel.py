"""Barrel P2P: this project's QUIC engine through ``carrier.Endpoint``, on uvloop.

Driven by ``stream.on_data`` callbacks and ``write_nowait`` on both sides; bulk and
messages await ``wait_writable`` when ``write_nowait`` reports no room. One endpoint, so
one UDP socket, per process, whatever the number of connections. All settings are the
defaults; the client checks the signature of the server's handshake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from barrel_p2p.carrier.connection import Connection
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import NotStarted
from bench.peers.adapter import HOST, Link, Peer, Received, Session, Write
from bench.peers.certificate import Certificate

__all__ = ["PEER", "BarrelPeer"]


class _Link:
    """A dialled connection and its first stream."""

    def __init__(self, connection: Connection, received: Received) -> None:
        self._stream = connection.open_stream()
        self._stream.on_data = partial(_pass_on, received)
        self.write: Write = self._stream.write_nowait
        self.close: Callable[[], None] = connection.close

    def flush(self) -> None:
        """Nothing to do: the endpoint sends at the end of the loop's turn."""

    async def send_all(self, block: bytes, count: int) -> None:
        write, stream = self._stream.write_nowait, self._stream
        for _ in range(count):
            if not write(block):
                await stream.wait_writable()


class BarrelPeer(Peer):
    """Barrel P2P client and server."""

    name = "barrel"
    package = "barrel-p2p"
    phases = frozenset({"rtt", "msgs", "bulk", "handshake", "idle"})

    def __init__(self, certificate: Certificate) -> None:
        super().__init__(certificate)
        self._endpoint: Endpoint | None = None
        self._accepting: asyncio.Task[None] | None = None

    async def serve(self, session: Session) -> int:
        endpoint = await self._open()
        self._accepting = asyncio.ensure_future(_accept(endpoint, session))
        return endpoint.address[1]

    async def connect(self, port: int, received: Received) -> Link:
        endpoint = self._endpoint or await self._open()
        return _Link(await endpoint.connect(HOST, port), received)

    async def close(self) -> None:
        if self._endpoint is not None:
            await self._endpoint.close()
        if self._accepting is not None:
            await self._accepting

    async def _open(self) -> Endpoint:
        self._endpoint = await Endpoint.open(HOST, 0, certificate=self.certificate)
        return self._endpoint


async def _accept(endpoint: Endpoint, session: Session) -> None:
    try:
        while True:
            connection = await endpoint.accept()
            connection.on_stream = partial(_serve_stream, session)
    except NotStarted:
        return  # The endpoint was closed.


def _serve_stream(session: Session, stream: Stream) -> None:
    stream.on_data = partial(_pass_on, session(stream.write_nowait))


def _pass_on(received: Received, chunk: bytes, fin: bool) -> None:
    received(chunk)


PEER = BarrelPeer

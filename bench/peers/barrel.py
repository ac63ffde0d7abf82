"""Barrel P2P: this project's QUIC engine through ``carrier.Endpoint``, on uvloop.

Driven by ``stream.on_data`` callbacks and ``write_nowait`` on both sides; bulk and
messages await ``wait_writable`` when ``write_nowait`` reports no room. One endpoint, so
one UDP socket, per process, whatever the number of connections. All settings are the
defaults; the client checks the signature of the server's handshake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial

from barrel_p2p.carrier.connection import Connection
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.errors import NotStarted, PeerUnreachable
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
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, session: Session) -> int:
        endpoint = await self._open()
        self._start(_accept(endpoint, session, self._start))
        return endpoint.address[1]

    async def connect(self, port: int, received: Received) -> Link:
        endpoint = self._endpoint or await self._open()
        return _Link(await endpoint.connect(HOST, port), received)

    async def close(self) -> None:
        if self._endpoint is not None:
            await self._endpoint.close()
        await asyncio.gather(*self._tasks)

    async def _open(self) -> Endpoint:
        self._endpoint = await Endpoint.open(HOST, 0, certificate=self.certificate)
        return self._endpoint

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _accept(
    endpoint: Endpoint,
    session: Session,
    start: Callable[[Coroutine[None, None, None]], None],
) -> None:
    try:
        while True:
            start(_serve_stream(await endpoint.accept(), session))
    except NotStarted:
        return  # The endpoint was closed.


async def _serve_stream(connection: Connection, session: Session) -> None:
    """Hand the connection's first stream to a session, callback style from then on."""
    try:
        stream = await connection.accept_stream()
        first = await stream.read()
    except PeerUnreachable:
        return
    received = session(stream.write_nowait)
    stream.on_data = partial(_pass_on, received)
    received(first)


def _pass_on(received: Received, chunk: bytes, fin: bool) -> None:
    received(chunk)


PEER = BarrelPeer

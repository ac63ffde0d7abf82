"""Raw TCP on uvloop: the floor for a reliable stream, without encryption.

Driven by ``asyncio.Protocol`` callbacks and ``transport.write`` on both sides; bulk and
messages stop at ``pause_writing`` and go on at ``resume_writing``. All settings are
uvloop's defaults (TCP_NODELAY is among them); larger write buffers gain nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import ClassVar, cast

from bench.peers.adapter import HOST, Link, Peer, Received, Session, Write
from bench.peers.certificate import Certificate

__all__ = ["PEER", "TcpPeer"]


class _Server(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._received = self._session(cast(asyncio.Transport, transport).write)

    def data_received(self, data: bytes) -> None:
        self._received(data)


class _Client(asyncio.Protocol):
    """One dialled connection; it is the ``Link`` too."""

    def __init__(self, received: Received) -> None:
        self._received = received
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.write: Write = self._transport.write

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._writable.set()
        self.closed.set_result(None)

    def flush(self) -> None:
        """Nothing to do: uvloop writes at the end of the loop's turn."""

    async def send_all(self, block: bytes, count: int) -> None:
        write, writable = self.write, self._writable
        for _ in range(count):
            write(block)
            if not writable.is_set():
                await writable.wait()

    def close(self) -> None:
        self._transport.close()


class TcpPeer(Peer):
    """TCP; a subclass with contexts makes it TLS."""

    name = "tcp"
    phases = frozenset({"rtt", "msgs", "bulk"})
    share: ClassVar[Mapping[str, int]] = {"msgs_single": 4}
    server_context: ssl.SSLContext | None = None
    client_context: ssl.SSLContext | None = None

    def __init__(self, certificate: Certificate) -> None:
        super().__init__(certificate)
        self._server: asyncio.Server | None = None
        self._links: set[_Client] = set()

    async def serve(self, session: Session) -> int:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Server(session), HOST, 0, ssl=self.server_context, backlog=1024
        )
        port = self._server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    async def connect(self, port: int, received: Received) -> Link:
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(
            lambda: _Client(received), HOST, port, ssl=self.client_context
        )
        self._links.add(link)
        link.closed.add_done_callback(lambda _: self._links.discard(link))
        return link

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        links = list(self._links)
        for link in links:
            link.close()
        await asyncio.gather(*(link.closed for link in links))


PEER = TcpPeer

"""The demo's two transports as one kind of link: a QUIC stream, a TCP connection.

Both are driven by callbacks, the fastest way either has, and both stop a writer at a
megabyte that was not taken yet.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

from barrel_p2p.carrier.connection import Connection
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import PeerUnreachable

__all__ = ["HOST", "Link", "QuicLink", "TcpLink"]

HOST = "127.0.0.1"

_WRITE_BUFFER_BYTES = 1 << 20

Received = Callable[[bytes], None]


class Link(ABC):
    """One way to exchange bytes with the other process.

    Attributes:
        write: Queues bytes. A false result means: await ``wait_writable`` before the
            next call.
    """

    write: Callable[[bytes | memoryview], object]

    @abstractmethod
    def receive(self, received: Received) -> None:
        """Call ``received`` with everything that arrives."""

    @abstractmethod
    async def wait_writable(self) -> None:
        """Wait for room.

        Raises:
            PeerUnreachable: The connection has ended.
        """

    @abstractmethod
    def close(self) -> None:
        """End the link once everything was exchanged."""

    @abstractmethod
    def _lost(self) -> asyncio.Future[str]:
        """Done when the connection has ended; says how."""

    async def unless_lost(self, answer: asyncio.Future[bytes]) -> bytes:
        """Wait for ``answer``, or for the end of the connection.

        Raises:
            PeerUnreachable: The connection ended first.
        """
        lost = self._lost()

        def give_up(_: object) -> None:
            if not answer.done():
                answer.set_exception(
                    PeerUnreachable(f"the connection ended early: {lost.result()}")
                )

        lost.add_done_callback(give_up)
        try:
            return await answer
        finally:
            lost.remove_done_callback(give_up)


class QuicLink(Link):
    """A two-way stream of ``connection``."""

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self._stream = stream
        self._closed = asyncio.ensure_future(_wait_closed(connection))
        self.write = stream.write_nowait

    def receive(self, received: Received) -> None:
        """Call ``received`` with everything that arrives."""
        self._stream.on_data = lambda chunk, fin: received(chunk)

    async def wait_writable(self) -> None:
        """Wait for room."""
        await self._stream.wait_writable()

    def close(self) -> None:
        """Finish the stream; the connection stays."""
        self._closed.cancel()
        self._stream.finish()

    def _lost(self) -> asyncio.Future[str]:
        return self._closed


async def _wait_closed(connection: Connection) -> str:
    return str(await connection.wait_closed())


class TcpLink(asyncio.Protocol, Link):
    """A TCP connection, either end of it."""

    def __init__(self) -> None:
        self._received: Received | None = None
        self._transport: asyncio.Transport | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Protocol callback."""
        stream = cast("asyncio.Transport", transport)
        stream.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._transport = stream
        send, has_room = stream.write, self._room.is_set

        def write(data: bytes | memoryview) -> bool:
            send(data)
            return has_room()

        self.write = write

    def data_received(self, data: bytes) -> None:
        """Protocol callback."""
        if self._received is not None:
            self._received(data)

    def pause_writing(self) -> None:
        """Protocol callback."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Protocol callback."""
        self._room.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Protocol callback."""
        self._room.set()
        if not self._closed.done():
            self._closed.set_result(str(error or "closed"))

    def receive(self, received: Received) -> None:
        """Call ``received`` with everything that arrives."""
        self._received = received

    async def wait_writable(self) -> None:
        """Wait for room."""
        await self._room.wait()
        if self._closed.done():
            raise PeerUnreachable("the TCP connection has ended")

    def close(self) -> None:
        """Close the connection, if there is one yet."""
        if self._transport is not None:
            self._transport.close()

    def _lost(self) -> asyncio.Future[str]:
        return self._closed

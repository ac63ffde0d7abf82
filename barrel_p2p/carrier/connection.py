"""A QUIC connection as awaitables: streams both ways, how it ended, its path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from barrel_p2p.carrier.inbound import FrameSink, InboundStream
from barrel_p2p.carrier.stream import WRITE_BYTES, Stream
from barrel_p2p.errors import InvalidValue, NotConnected, PeerUnreachable
from barrel_p2p.quic.pump import CODE_MAX, RawConnection, RawStream
from barrel_p2p.wire.limits import FRAME_BYTES_MAX

if TYPE_CHECKING:
    from barrel_p2p.quic.engine import Engine, PathStats

__all__ = [
    "CODE_BUSY",
    "OPENED_MAX",
    "PRIORITY_MAX",
    "Closed",
    "ClosedBy",
    "Connection",
]

CODE_BUSY = 0x102
"""Close code when nobody takes or reads what the peer sends: the queue is full."""

OPENED_MAX = 1_024
"""Streams that may wait for ``accept_stream``; one more ends the connection."""

PRIORITY_MAX = 255
"""The priority of streams that go last."""


class ClosedBy(StrEnum):
    """Why a connection is over. The order is that of BP_CLOSED_* in engine.h."""

    LOCAL = "local"
    APPLICATION = "application"
    TRANSPORT = "transport"
    RESET = "reset"
    IDLE = "idle"
    UNREACHABLE = "unreachable"
    HANDSHAKE = "handshake"


_ACCEPTOR_OPENED = 0x1  # bits of a stream id (RFC 9000, 2.1)
_ONE_WAY = 0x2

_BY_NUMBER = [ClosedBy.LOCAL, *ClosedBy]


@dataclass(frozen=True, slots=True)
class Closed:
    """How a connection ended.

    Attributes:
        by: What ended it.
        code: The application's code when an application closed it, else the QUIC
            transport error code (RFC 9000, 20.1), 0 when there is none.
    """

    by: ClosedBy
    code: int

    def __str__(self) -> str:
        return f"{self.by} (code {self.code:#x})"


class Connection(RawConnection):
    """One connection of an ``Endpoint``, dialled or accepted.

    Attributes:
        dialled: Whether we opened it.
        sink: When set, each one-way stream that the peer opens from now on becomes an
            ``InboundStream`` of it, and ``accept_stream`` does not see it.
        frame_bytes_max: Greatest frame on such a stream.
        peer: Whom its errors blame.
        on_closed: Called once, from the loop's callback, when the connection is over.
    """

    # A node holds many of these, most of them idle.
    __slots__ = (
        "__weakref__",
        "_down",
        "_engine",
        "_moved",
        "_on_down",
        "_on_stream",
        "_on_up",
        "_opened",
        "_piece_bytes",
        "_remote",
        "_stream_waiters",
        "_unread",
        "_up",
        "dialled",
        "frame_bytes_max",
        "on_closed",
        "peer",
        "sink",
    )

    def __init__(self, engine: Engine, *, dialled: bool) -> None:
        self.dialled = dialled
        self.sink: FrameSink | None = None
        self.frame_bytes_max: int = FRAME_BYTES_MAX
        self.peer: str | None = None
        self.on_closed: Callable[[Closed], None] | None = None
        self._remote: tuple[str, int] | None = None
        self._on_stream: Callable[[Stream], None] | None = None
        self._engine = engine
        # Below its high-water mark a stream always has room for one piece.
        settings = engine.settings
        headroom = settings.send_max - settings.send_high + 1
        self._piece_bytes = min(WRITE_BYTES, headroom)
        self._opened: list[Stream] = []
        self._unread = 0  # bytes of streams that the engine has released
        self._stream_waiters: list[asyncio.Future[None]] = []
        loop = asyncio.get_running_loop()
        self._up: asyncio.Future[None] | None = (
            loop.create_future() if dialled else None
        )
        self._down: asyncio.Future[Closed] = loop.create_future()
        self._moved: asyncio.Future[bool] | None = None
        self._on_up: Callable[[Connection], None] | None = None
        self._on_down: Callable[[Connection], None] | None = None

    @property
    def on_stream(self) -> Callable[[Stream], None] | None:
        """When set, called with every stream the peer opens, before its first data.

        Streams that were waiting for ``accept_stream`` are handed over at once.
        """
        return self._on_stream

    @on_stream.setter
    def on_stream(self, handler: Callable[[Stream], None] | None) -> None:
        self._on_stream = handler
        while handler is not None and self._opened:
            handler(self._opened.pop(0))

    @property
    def remote(self) -> tuple[str, int]:
        """The address that was dialled, or else the peer's when first asked for.

        Raises:
            NotConnected: The connection was accepted and ended before anyone asked.
        """
        if self._remote is None:
            self._remote = self.stats().remote
        return self._remote

    @property
    def is_up(self) -> bool:
        """Whether the handshake is complete and the connection not over."""
        return (self._up is None or self._up.done()) and not self.closed

    @property
    def how_closed(self) -> Closed | None:
        """How it ended, or None while it is open."""
        return self._down.result() if self._down.done() else None

    @property
    def certificate(self) -> bytes | None:
        """The peer's certificate (DER); None on the accepting side.

        Raises:
            NotConnected: The connection is closed.
        """
        return self._engine.certificate(self.handle)

    def exporter(self, label: str, size: int = 32) -> bytes:
        """Keying material that only the two ends of this connection share.

        Args:
            label: Names the use; ASCII.
            size: Bytes wanted, 1 to 255.

        Raises:
            InvalidValue: An argument is out of range.
            NotConnected: The connection is closed.

        Source:
            RFC 8446, 7.5; RFC 9266 for its use as a channel binding.
        """
        return self._engine.export(self.handle, label, size)

    def stats(self) -> PathStats:
        """Round-trip times (us), congestion window and losses of the path in use.

        Raises:
            NotConnected: The connection is closed.
        """
        return self._engine.path_stats(self.handle)

    @property
    def in_flight(self) -> int:
        """Bytes sent and not yet acknowledged; 0 once it is closed."""
        try:
            return self.stats().in_flight
        except NotConnected:
            return 0

    def open_stream(self, *, uni: bool = False, priority: int | None = None) -> Stream:
        """Open a stream. The peer sees it with its first byte or its end.

        Args:
            uni: One-way, from us to the peer.
            priority: 0 (first) to 255; strict between levels; an even number takes
                turns with its equals. None leaves the library's 9.

        Raises:
            InvalidValue: ``priority`` is out of range.
            PeerUnreachable: The connection is closed.
            Busy: The engine's ``streams_max`` is reached.
        """
        if priority is not None and not 0 <= priority <= PRIORITY_MAX:
            raise InvalidValue(f"priority={priority} is outside 0 to {PRIORITY_MAX}")
        stream = cast("Stream", self.open_raw_stream(uni))
        if uni:
            stream.write_only()
        if priority is not None:
            stream.set_priority(priority)
        return stream

    async def accept_stream(self) -> Stream:
        """The next stream the peer opens, in order of arrival.

        At most ``OPENED_MAX`` can be waiting: a peer that sends and ends one short
        stream after the other gets room for new ones, taken or not. When it opens one
        too many, the connection is closed with ``CODE_BUSY``.

        Raises:
            PeerUnreachable: The connection has ended.
        """
        while not self._opened:
            if self.closed:
                raise PeerUnreachable(f"the connection is closed: {self.how_closed}")
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._stream_waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if self._opened:  # This waiter's turn, which it cannot take.
                    self._wake_stream_waiters()
                raise
        return self._opened.pop(0)

    def close(self, code: int = 0, reason: str = "") -> None:
        """Tell the peer ``code`` and end the connection. Unsent bytes are dropped.

        Args:
            code: Application error code, 0 to 2**62 - 1.
            reason: For the peer's log; cut at 127 bytes.

        Raises:
            InvalidValue: ``code`` is out of range.
        """
        if not 0 <= code <= CODE_MAX:
            raise InvalidValue(f"code={code} is outside 0 to {CODE_MAX}")
        if not self.closed and self.handle:
            self._engine.close_connection(self.handle, code, reason)

    def close_after(self, seconds: float, code: int = 0, reason: str = "") -> None:
        """Close, once the peer has had ``seconds`` to read what was written and close.

        Whoever gets the last word, such as a refusal, closes as soon as it has read it.
        """
        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, self.close, code, reason)
        self.call_when_closed(timer.cancel)

    def call_when_closed(self, callback: Callable[[], None]) -> None:
        """Call ``callback()`` soon after the connection is over, or soon if it is."""
        self._down.add_done_callback(lambda _: callback())

    def abort(self) -> None:
        """End the connection without a word to the peer."""
        if not self.closed and self.handle:
            self._engine.abort_connection(self.handle)

    async def wait_connected(self) -> None:
        """Wait until the handshake is complete.

        Raises:
            PeerUnreachable: It failed.
        """
        if self._up is not None:
            await asyncio.shield(self._up)

    async def wait_closed(self) -> Closed:
        """Wait until it is over; returns how it ended."""
        return await asyncio.shield(self._down)

    async def migrate(self, socket: int, *, timeout: float = 5.0) -> bool:
        """Move to local socket ``socket``; returns False if the peer did not answer.

        Streams and calls go on, on the old path until the new one is proved.

        Args:
            socket: An index from ``Endpoint.add_socket``.
            timeout: Seconds to wait for the peer's answer.

        Raises:
            MigrationDisabled: The peer does not allow it.
            MigrationsExhausted: No connection id is left to move with.
            NotConnected: Closed, accepted rather than dialled, or already moving.
            PeerUnreachable: The connection ended meanwhile.
        """
        self._engine.migrate(self.handle, socket, timeout)
        self._moved = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._moved)

    def make_stream(self, handle: int, stream_id: int) -> RawStream:
        """Engine callback."""
        if self.sink is not None and stream_id & _ONE_WAY:
            by_peer = bool(stream_id & _ACCEPTOR_OPENED) == self.dialled
            if by_peer:
                return InboundStream(
                    self,
                    handle,
                    stream_id,
                    self.sink,
                    self.frame_bytes_max,
                    self.peer,
                )
        return Stream(self, handle, stream_id, self._piece_bytes)

    def connected(self) -> None:
        """Engine callback."""
        if self._up is not None and not self._up.done():
            self._up.set_result(None)
        if self._on_up is not None:
            self._on_up(self)

    def stream_opened(self, stream: RawStream) -> None:
        """Engine callback."""
        if isinstance(stream, InboundStream):
            return
        opened = cast("Stream", stream)
        if self._on_stream is not None:
            self._on_stream(opened)
            return
        if len(self._opened) >= OPENED_MAX:
            self.close(CODE_BUSY, "too many streams wait to be accepted")
            return
        self._opened.append(opened)
        self._wake_stream_waiters()

    def hold_unread(self, change: int) -> None:
        """Count bytes of ended streams that wait to be read.

        The engine has forgotten such streams and gives the peer room for new ones, so
        flow control does not bound them: beyond ``connection_window`` bytes the
        connection is closed with ``CODE_BUSY``.
        """
        self._unread += change
        if self._unread > self._engine.settings.connection_window:
            self.close(CODE_BUSY, "too many ended streams wait to be read")

    def connection_closed(
        self, why: int, local: int, remote: int, application: int
    ) -> None:
        """Engine callback."""
        if self._down.done():
            return
        by = _BY_NUMBER[why]
        code = application if by is ClosedBy.APPLICATION else remote or local
        if by is ClosedBy.LOCAL and local == 0:
            code = application
        closed = Closed(by, code)
        self._down.set_result(closed)
        if self._on_down is not None:
            self._on_down(self)
        for waiting in (self._up, self._moved):
            if waiting is not None and not waiting.done():
                waiting.set_exception(
                    PeerUnreachable(f"the connection ended: {closed}")
                )
                waiting.exception()  # Whoever asked may have given up waiting.
        self._wake_stream_waiters()
        if self.on_closed is not None:
            on_closed, self.on_closed = self.on_closed, None
            on_closed(closed)

    def path_changed(self, path_id: int, moved: bool) -> None:
        """Engine callback."""
        if moved and self._moved is not None and not self._moved.done():
            self._moved.set_result(True)

    def path_failed(self) -> None:
        """Engine callback."""
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(False)

    def _wake_stream_waiters(self) -> None:
        while self._stream_waiters:
            waiter = self._stream_waiters.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                if not self.closed:
                    return

"""A QUIC stream as awaitables: read, write, finish, reset.

Received bytes wait here until they are read, and only what was read is credited to
the peer, so a reader that stops stops the sender after ``stream_window`` bytes. A
writer waits when its queue in the engine is at the high-water mark.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Buffer, Callable
from typing import Protocol, cast

from barrel_p2p.errors import InvalidValue, PeerUnreachable, StreamClosed, StreamReset
from barrel_p2p.quic.pump import RawConnection, RawStream

__all__ = ["WRITE_BYTES", "Stream"]

WRITE_BYTES = 262_144
"""Larger writes are queued in pieces of this size, each waiting for room."""

DataHandler = Callable[[bytes, bool], None]
_Ended = StreamClosed | StreamReset | PeerUnreachable


class _Holder(Protocol):
    def hold_unread(self, change: int) -> None: ...


class Stream(RawStream):
    """One stream of a ``Connection``. One task may read while another one writes.

    Attributes:
        on_stop: When set, called with the peer's code once it has stopped reading.
    """

    __slots__ = (
        "__weakref__",
        "_at_end",
        "_chunks",
        "_finished",
        "_on_data",
        "_piece_bytes",
        "_read_error",
        "_readable",
        "_room",
        "_unread",
        "_write_error",
        "on_stop",
    )

    def __init__(
        self,
        connection: RawConnection,
        handle: int,
        stream_id: int,
        piece_bytes: int = WRITE_BYTES,
    ) -> None:
        super().__init__(connection, handle, stream_id)
        self._piece_bytes = piece_bytes
        self._on_data: DataHandler | None = None
        self.on_stop: Callable[[int], None] | None = None
        self._chunks: deque[bytes] = deque()
        self._at_end = False
        self._readable: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._read_error: _Ended | None = None
        self._write_error: _Ended | None = None
        self._finished = False
        self._unread = 0  # bytes in _chunks that the connection counts, once released

    def __del__(self) -> None:
        self._read_off(getattr(self, "_unread", 0))

    @property
    def on_data(self) -> DataHandler | None:
        """When set, called with every chunk and whether it is the last.

        The call comes from the loop's callback, and the chunk is credited when it
        returns. Chunks that were waiting for ``read`` are handed over at once.
        """
        return self._on_data

    @on_data.setter
    def on_data(self, handler: DataHandler | None) -> None:
        self._on_data = handler
        if handler is None or not (self._chunks or self._at_end):
            return
        waiting = b"".join(self._chunks)
        self._chunks.clear()
        self._read_off(self._unread)
        self.data_received(waiting, self._at_end)

    async def read(self) -> bytes:
        """The bytes that have arrived, at least one; ``b""`` at the end of the stream.

        Raises:
            StreamReset: The peer gave up sending; bytes before that were returned.
            StreamClosed: We stopped reading, or the stream is for writing only.
            PeerUnreachable: The connection ended before the stream did.
        """
        while not self._chunks:
            if self._at_end:
                return b""
            if self._read_error is not None:
                raise self._read_error
            await self._wait_readable()
        if len(self._chunks) == 1:
            data = self._chunks.popleft()
        else:
            data = b"".join(self._chunks)
            self._chunks.clear()
        self._use(len(data))
        return data

    async def readexactly(self, n: int) -> bytes:
        """Exactly ``n`` bytes.

        Raises:
            InvalidValue: ``n`` is negative.
            asyncio.IncompleteReadError: The stream ended before; it holds what came.
            StreamReset: The peer gave up sending.
            StreamClosed: We stopped reading, or the stream is for writing only.
            PeerUnreachable: The connection ended.
        """
        if n < 0:
            raise InvalidValue(f"readexactly({n}): the count must not be negative")
        parts: list[bytes] = []
        missing = n
        while missing > 0:
            while not self._chunks:
                if self._at_end:
                    raise asyncio.IncompleteReadError(b"".join(parts), n)
                if self._read_error is not None:
                    raise self._read_error
                await self._wait_readable()
            chunk = self._chunks.popleft()
            if len(chunk) > missing:
                self._chunks.appendleft(chunk[missing:])
                chunk = chunk[:missing]
            parts.append(chunk)
            missing -= len(chunk)
            self._use(len(chunk))
        return b"".join(parts)

    async def write(self, data: Buffer) -> None:
        """Queue ``data``, waiting while the queue is at its high-water mark.

        Returns once the bytes are queued, not once they have arrived.

        Raises:
            StreamClosed: The stream was finished, reset, or is for reading only.
            StreamReset: The peer asked us to stop sending.
            PeerUnreachable: The connection has ended.
        """
        view = memoryview(data).cast("B")
        step = self._piece_bytes
        for start in range(0, max(len(view), 1), step):
            while self.blocked:
                await self.wait_writable()
            if self._write_error is not None:
                raise self._write_error
            self.write_nowait(view[start : start + step])

    async def wait_writable(self) -> None:
        """Wait for room after ``write_nowait`` returned 0.

        Raises:
            StreamReset: The peer asked us to stop sending.
            PeerUnreachable: The connection has ended.
        """
        if self._write_error is not None:
            raise self._write_error
        if self.released or not self.blocked:
            return
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._room)

    def finish(self) -> None:
        """End the stream after what was written (FIN). Reading goes on. Idempotent.

        Raises:
            StreamClosed: The stream was reset or is for reading only.
            PeerUnreachable: The connection has ended.
        """
        if self._finished:
            return
        if self._write_error is not None:
            raise self._write_error
        self.write_nowait(b"", fin=True)
        self._finished = True

    def reset(self, error_code: int = 0) -> None:
        """Give up both directions with ``error_code``; what was not sent is dropped.

        Args:
            error_code: For the peer's application, 0 to 2**62 - 1.

        Raises:
            InvalidValue: ``error_code`` is out of range; nothing has changed.
        """
        self.reset_nowait(error_code)
        self.stop_sending(error_code)
        if self._write_error is None:
            self._write_error = StreamClosed(f"stream {self.id} was reset here")
        self._finished = False
        self._fail_room()

    def stop_sending(self, error_code: int) -> None:
        """Stop reading, and ask the peer to give up sending, with ``error_code``.

        What has arrived and was not read is dropped.

        Raises:
            InvalidValue: ``error_code`` is out of range; nothing has changed.
        """
        super().stop_sending(error_code)
        self._chunks.clear()
        self._read_off(self._unread)
        self._end_reading(StreamClosed(f"reading of stream {self.id} was stopped here"))

    def write_only(self) -> None:
        """Refuse reading: nothing can arrive on a one-way stream of our own."""
        self._end_reading(StreamClosed(f"stream {self.id} is for writing only"))

    def data_received(self, chunk: bytes, fin: bool) -> None:
        """Engine callback."""
        if self._on_data is not None:
            try:
                self._on_data(chunk, fin)
            finally:
                self.consumed(len(chunk))
        elif chunk:
            self._chunks.append(chunk)
        if fin:
            self._at_end = True
        self._wake(self._readable)

    def writable(self) -> None:
        """Engine callback."""
        self._wake(self._room)
        self._room = None

    def reset_received(self, error_code: int) -> None:
        """Engine callback."""
        text = f"the peer reset stream {self.id} with code {error_code:#x}"
        self._end_reading(StreamReset(text, error_code=error_code))

    def stop_received(self, error_code: int) -> None:
        """Engine callback."""
        if self._write_error is None:
            self._write_error = StreamReset(
                f"the peer stopped reading stream {self.id} with code {error_code:#x}",
                error_code=error_code,
            )
        self._fail_room()
        if self.on_stop is not None:
            self.on_stop(error_code)

    def stream_released(self) -> None:
        """Engine callback."""
        if self.connection.closed:
            gone = PeerUnreachable(f"the connection of stream {self.id} is closed")
            if self._write_error is None:
                self._write_error = gone
            self._end_reading(gone)
        elif self._chunks:
            self._unread = sum(map(len, self._chunks))
            cast("_Holder", self.connection).hold_unread(self._unread)
        self._fail_room()

    def _use(self, count: int) -> None:
        if self._unread > 0:
            self._read_off(count)
        else:
            self.consumed(count)

    def _read_off(self, count: int) -> None:
        if count > 0:
            self._unread -= count
            cast("_Holder", self.connection).hold_unread(-count)

    def _end_reading(self, error: _Ended) -> None:
        """Readers get what is there, then ``error``, unless the end had come before."""
        if not self._at_end and self._read_error is None:
            self._read_error = error
        self._wake(self._readable)

    async def _wait_readable(self) -> None:
        if self._readable is not None:
            raise StreamClosed(
                f"stream {self.id} is already being read by another task"
            )
        self._readable = asyncio.get_running_loop().create_future()
        try:
            await self._readable
        finally:
            self._readable = None

    def _fail_room(self) -> None:
        room, self._room = self._room, None
        if room is None or room.done():
            return
        if self._write_error is None:
            room.set_result(None)
        else:
            room.set_exception(self._write_error)
            room.exception()  # Whoever waited may have been cancelled.

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

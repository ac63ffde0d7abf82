"""Raw TCP on uvloop with the least protocol that carries messages: the baseline.

Frames have a 4-byte length. The receiver of one-way messages parses them in Python,
puts each in a deque and wakes a task through a Future. A call carries a 4-byte id as
well; the server echoes bytes without looking at them, the client parses the answers and
finds the caller in a dict of Futures. All settings are uvloop's defaults (TCP_NODELAY
is among them).

One-way messages are one call of ``transport.write`` each, or, in phase ``batched``, one
for 64 frames.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import ClassVar, cast

from bench.message_peers.adapter import (
    HOST,
    MESSAGE_BYTE,
    QUERY,
    Info,
    Link,
    Peer,
    Tally,
)

__all__ = ["PEER", "Frames", "TcpPeer"]

FRAMES_A_WRITE = 64
_LENGTH = struct.Struct(">I")
_CALL = struct.Struct(">II")
_ID_BYTES = 4


class Frames:
    """Splits what arrives at 4-byte lengths; hands each body to ``put``."""

    def __init__(self, put: Callable[[bytes], object]) -> None:
        self._put = put
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Take the next piece of the stream, cut anywhere."""
        if self._tail:
            data = self._tail + data
        put, length_at = self._put, _LENGTH.unpack_from
        start, size = 0, len(data)
        while size - start >= _LENGTH.size:
            stop = start + _LENGTH.size + length_at(data, start)[0]
            if stop > size:
                break
            put(data[start + _LENGTH.size : stop])
            start = stop
        self._tail = data[start:]


class _Mailbox:
    """A deque, and a Future for the one task that waits for it to fill."""

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.put = self._items.append

    def wake(self) -> None:
        if self._waiter is not None and self._items and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> bytes:
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._items.popleft()


class _Echo(asyncio.Protocol):
    """Sends back whatever arrives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        self._write(data)


class _Receiver(asyncio.Protocol):
    """Counts messages in a task of its own."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._mailbox = _Mailbox()
        self._frames = Frames(self._mailbox.put)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.Transport, transport).write
        self._counting = asyncio.ensure_future(self._count())

    def data_received(self, data: bytes) -> None:
        self._frames.feed(data)
        self._mailbox.wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._counting.cancel()

    async def _count(self) -> None:
        tally, receive = self._tally, self._mailbox.receive
        while True:
            message = await receive()
            if message[0] == MESSAGE_BYTE:
                tally.count += 1
            elif message[_ID_BYTES:] == QUERY:
                answer = message[:_ID_BYTES] + tally.report()
                self._write(_LENGTH.pack(len(answer)) + answer)
            else:
                tally.end(message)


class _Client(asyncio.Protocol, Link):
    """One dialled connection."""

    def __init__(self, frames_a_write: int) -> None:
        self._frames_a_write = frames_a_write
        self._frames = Frames(self._answered)
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._last_id = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._frames.feed(data)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._writable.set()
        lost = ConnectionResetError("the server closed the connection")
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(lost)
        self.closed.set_result(None)

    def _answered(self, body: bytes) -> None:
        waiting = self._pending.pop(_LENGTH.unpack_from(body)[0])
        if not waiting.done():
            waiting.set_result(body[_ID_BYTES:])

    async def call(self, message: object) -> object:
        assert isinstance(message, bytes)
        # Ids stay below 2**24, so that no call begins like a message.
        self._last_id = call_id = (self._last_id + 1) & 0xFFFFFF
        answer = self._pending[call_id] = self._loop.create_future()
        self._transport.write(_CALL.pack(_ID_BYTES + len(message), call_id) + message)
        return await answer

    async def send_all(self, message: object, count: int, end: bytes) -> None:
        assert isinstance(message, bytes)
        frame = _LENGTH.pack(len(message)) + message
        writes, rest = divmod(count, self._frames_a_write)
        await self._write_all(frame * self._frames_a_write, writes)
        await self._write_all(frame, rest)
        self._transport.write(_LENGTH.pack(len(end)) + end)

    async def _write_all(self, block: bytes, count: int) -> None:
        write, writable = self._transport.write, self._writable
        for _ in range(count):
            write(block)
            if not writable.is_set():
                await writable.wait()

    def close(self) -> None:
        self._transport.close()


class TcpPeer(Peer):
    """Length-prefixed messages over TCP."""

    name = "tcp"
    phases = Peer.phases | {"batched"}
    share: ClassVar[Mapping[str, int]] = {"calls64": 2, "oneway": 10, "oneway8": 10}

    _server: asyncio.Server | None = None
    _client: _Client | None = None

    async def serve(self, phase: str, tally: Tally) -> Info:
        echoes = phase in ("call", "calls", "first", "boot")
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Echo() if echoes else _Receiver(tally), HOST, 0
        )
        port = self._server.sockets[0].getsockname()[1]
        frames = FRAMES_A_WRITE if phase == "batched" else 1
        return {"port": port, "frames": frames}

    async def connect(self, info: Info) -> Link:
        frames, port = info["frames"], info["port"]
        assert isinstance(frames, int)
        assert isinstance(port, int)
        _, self._client = await asyncio.get_running_loop().create_connection(
            lambda: _Client(frames), HOST, port
        )
        return self._client

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._client is not None:
            self._client.close()
            await self._client.closed


PEER = TcpPeer

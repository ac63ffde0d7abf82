"""What the demo exchanges, and how both ends know that it arrived whole.

A link carries one piece of work: a header that names it, the bytes, the digest that the
sender made of them, and the receiver's answer: whether it made the same one, and which.
Of round trips the pings are the answer.

A receiver holds no more than a torn frame, bounded by ``FRAME_BYTES_MAX``.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from os import urandom

from xxhash import xxh3_128

from barrel_p2p.cli.demo_links import Link
from barrel_p2p.cli.demo_stock import DIGEST_BYTES, KIND_END, Stock
from barrel_p2p.errors import WireError
from barrel_p2p.wire import frames

__all__ = [
    "PING_BYTES",
    "Exchange",
    "Receiver",
    "exchange_messages",
    "exchange_stream",
    "round_trips",
    "same_digest",
]

PING_BYTES = 64

_PIECES_PER_TURN = 64
"""A link that always has room must not keep the loop from everything else."""

_HEADER = struct.Struct(">BQ")  # What it is, how much of it.
_ANSWER = struct.Struct(f">?{DIGEST_BYTES}s")  # Whether they agree, the receiver's own.


class _Kind(IntEnum):
    ROUND_TRIPS = 1
    MESSAGES = 2
    STREAM = 3


@dataclass(frozen=True, slots=True)
class Exchange:
    """One piece of work, done: how long it took, and whether both ends agree."""

    seconds: float
    verified: bool


def same_digest(ours: bytes, theirs: bytes) -> bool:
    """Whether two ends have hashed the same bytes. Both ends decide with this call."""
    return len(ours) == DIGEST_BYTES and ours == theirs


async def exchange_messages(link: Link, stock: Stock) -> Exchange:
    """Send all messages of ``stock``; returns once the receiver has answered."""
    digest = stock.messages_digest
    head = _HEADER.pack(_Kind.MESSAGES, stock.message_count)
    tail = frames.encode(KIND_END, 0, digest)
    return await _exchange(link, head, stock.batches(), tail, digest)


async def exchange_stream(link: Link, stock: Stock) -> Exchange:
    """Send the stream of ``stock``; returns once the receiver has answered."""
    digest = stock.stream_digest
    head = _HEADER.pack(_Kind.STREAM, stock.stream_bytes)
    return await _exchange(link, head, stock.blocks(), digest, digest)


async def _exchange(
    link: Link,
    head: bytes,
    pieces: Iterator[bytes | memoryview],
    tail: bytes,
    digest: bytes,
) -> Exchange:
    inbox = _Inbox(_ANSWER.size)
    link.receive(inbox.received)
    write = link.write
    start_s = time.perf_counter()
    write(head)
    for number, piece in enumerate(pieces):
        if not write(piece):
            await link.wait_writable()
        elif number % _PIECES_PER_TURN == 0:
            await asyncio.sleep(0)
    write(tail)
    agreed, theirs = _ANSWER.unpack(await link.unless_lost(inbox.complete))
    seconds = time.perf_counter() - start_s
    return Exchange(seconds, agreed and same_digest(digest, theirs))


async def round_trips(link: Link, count: int) -> list[int]:
    """Send ``count`` pings, each when the last is back; their times in nanoseconds."""
    pinger = _Pinger(link, count)
    link.receive(pinger.received)
    link.write(_HEADER.pack(_Kind.ROUND_TRIPS, count))
    pinger.send()
    await link.unless_lost(pinger.complete)
    return pinger.laps_ns


class _Inbox:
    """Collects exactly ``size`` bytes."""

    def __init__(self, size: int) -> None:
        self.complete: asyncio.Future[bytes] = _future()
        self._size = size
        self._bytes = b""

    def received(self, chunk: bytes) -> None:
        self._bytes += chunk
        if len(self._bytes) > self._size:
            self._fail()
        elif len(self._bytes) == self._size and not self.complete.done():
            self.complete.set_result(self._bytes)

    def _fail(self) -> None:
        if not self.complete.done():
            self.complete.set_exception(
                WireError(
                    f"an answer of {len(self._bytes)} bytes, {self._size} at most"
                )
            )


class _Pinger:
    """Sends the next ping from the call that brings the last one back."""

    def __init__(self, link: Link, count: int) -> None:
        self.laps_ns: list[int] = []
        self.complete: asyncio.Future[bytes] = _future()
        self._ping = urandom(PING_BYTES)
        self._write = link.write
        self._left = count
        self._missing = 0
        self._sent_ns = 0

    def send(self) -> None:
        self._missing = PING_BYTES
        self._sent_ns = time.perf_counter_ns()
        self._write(self._ping)

    def received(self, chunk: bytes) -> None:
        now_ns = time.perf_counter_ns()
        self._missing -= len(chunk)
        if self._missing > 0 or self.complete.done():
            return
        self.laps_ns.append(now_ns - self._sent_ns)
        self._left -= 1
        if self._left > 0:
            self.send()
        else:
            self.complete.set_result(b"")


class Receiver:
    """The other end of one link: sends pings back, hashes the rest and answers.

    Args:
        write: Where the answer goes.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._head = b""
        self._take = self._take_head

    def received(self, chunk: bytes) -> None:
        """The link's next bytes.

        Raises:
            WireError: They name no known work.
        """
        self._take(chunk)

    def _take_head(self, chunk: bytes) -> None:
        self._head += chunk
        if len(self._head) < _HEADER.size:
            return
        kind, amount = _HEADER.unpack_from(self._head)
        rest, self._head = self._head[_HEADER.size :], b""
        if kind == _Kind.ROUND_TRIPS:
            self._take = self._write_back
        elif kind == _Kind.MESSAGES:
            self._take = _MessageCheck(amount, self._answer).received
        elif kind == _Kind.STREAM:
            self._take = _StreamCheck(amount, self._answer).received
        else:
            raise WireError(f"no work of kind {kind} is known")
        if rest:
            self._take(rest)

    def _write_back(self, chunk: bytes) -> None:
        self._write(chunk)

    def _answer(self, ours: bytes, theirs: bytes) -> None:
        self._write(_ANSWER.pack(same_digest(ours, theirs), ours))


_Answer = Callable[[bytes, bytes], None]


class _MessageCheck:
    """Splits frames, hashes their bodies, and answers at the closing one."""

    def __init__(self, count: int, answer: _Answer) -> None:
        self._left = count
        self._answer = answer
        self._splitter: frames.Splitter | None = frames.Splitter()
        self._digest = xxh3_128()

    def received(self, chunk: bytes) -> None:
        if self._splitter is None:
            return  # What followed a frame that was refused.
        try:
            found = self._splitter.feed(chunk)
        except WireError:
            self._splitter = None
            self._answer(self._digest.digest(), b"")
            return
        announced = None
        if found and found[-1].kind == KIND_END:
            announced = found.pop().body
        self._digest.update(b"".join([frame.body for frame in found]))
        self._left -= len(found)
        if announced is not None:
            ours = self._digest.digest()
            self._answer(ours, announced if self._left == 0 else b"")


class _StreamCheck:
    """Hashes ``count`` bytes and compares with the digest that follows them."""

    def __init__(self, count: int, answer: _Answer) -> None:
        self._left = count
        self._answer = answer
        self._digest = xxh3_128()
        self._announced = b""

    def received(self, chunk: bytes) -> None:
        if len(chunk) <= self._left:
            self._digest.update(chunk)
            self._left -= len(chunk)
            return
        self._digest.update(memoryview(chunk)[: self._left])
        self._announced += chunk[self._left :]
        self._left = 0
        if len(self._announced) >= DIGEST_BYTES:
            self._answer(self._digest.digest(), self._announced)


def _future() -> asyncio.Future[bytes]:
    return asyncio.get_running_loop().create_future()

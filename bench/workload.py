"""What both ends do in each phase, the same for every system.

Ping-pong: 64 bytes there and back, the next one sent from the callback that received
the last. One-way: blocks of bytes, then an end marker that says how many bytes came
before it; the receiver counts, compares and answers, and only the answer stops the
clock. The first pass over a connection carries random bytes that both ends hash; it is
not timed, and warms the connection up.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.harness import percentile, rss_bytes
from bench.peers.adapter import Bytes, Link, Peer, Received, Session, Write

__all__ = ["Figures", "Work", "WorkFailed", "perform", "session_of"]

type Figures = dict[str, float]

PING = bytes(range(64))
FRAME = struct.pack(">I", 100) + bytes(100)
BLOCK_BYTES = 64 << 10

_END = struct.Struct(">I16sQ76x")
_END_MARK = b"\xffEND OF THE RUN\xff"
_ANSWER = struct.Struct(">?Q32s")
_WARM_PINGS_MAX = 500
_WARM_BLOCKS = 64
_SETTLE_SECONDS = 0.3


class WorkFailed(RuntimeError):
    """What arrived is not what was sent."""


@dataclass(frozen=True, slots=True)
class Work:
    """One phase and how much of it.

    Attributes:
        phase: One of ``bench.peers.adapter.PHASES``.
        size: Pings, frames, bytes or connections, whichever the phase counts.
        batch: Frames handed over in one call, or connections opened at a time.
    """

    phase: str
    size: int
    batch: int = 1


def session_of(phase: str) -> Session:
    """Return what a server does with a connection's bytes in ``phase``."""
    return _echo if phase == "rtt" else _receive


def _echo(write: Write) -> Received:
    return write


def _receive(write: Write) -> Received:
    return _Receiver(write).received


class _Receiver:
    """Counts bytes up to an end marker and answers whether the count is right.

    Hashes everything up to the first marker, and nothing after it.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._tail = b""
        self._total = 0
        self._hash: hashlib._Hash | None = hashlib.sha256()

    def received(self, data: Bytes) -> None:
        if self._hash is not None:
            self._hash.update(data)
        self._total += len(data)
        if len(data) >= _END.size:
            self._tail = bytes(data[-_END.size :])
        else:
            self._tail = (self._tail + bytes(data))[-_END.size :]
        if self._tail[4:20] == _END_MARK:
            self._answer()

    def _answer(self) -> None:
        _, _, announced = _END.unpack(self._tail)
        counted = self._total - _END.size
        digest = self._hash.digest() if self._hash is not None else bytes(32)
        self._hash, self._total, self._tail = None, 0, b""
        self._write(_ANSWER.pack(counted == announced, counted, digest))


async def perform(peer: Peer, work: Work, port: int, server_pid: int) -> Figures:
    """Do ``work`` as the client of the server at ``port``; return what was measured.

    Raises:
        WorkFailed: The other end counted or hashed something else than was sent.
    """
    match work.phase:
        case "rtt":
            return await _ping_pong(peer, work, port)
        case "msgs":
            blocks = work.size // work.batch
            seconds = await _one_way(peer, FRAME * work.batch, blocks, port)
            return {"per_s": blocks * work.batch / seconds}
        case "bulk":
            blocks = work.size // BLOCK_BYTES
            seconds = await _one_way(peer, os.urandom(BLOCK_BYTES), blocks, port)
            return {"mb_s": blocks * BLOCK_BYTES / 1e6 / seconds}
        case "handshake":
            return await _handshakes(peer, work, port)
        case "idle":
            return await _idle(peer, work, port, server_pid)
        case _:
            raise ValueError(f"unknown phase {work.phase!r}")


class _Pinger:
    """Sends a ping, and on its whole echo the next one, until it has enough laps."""

    def __init__(self) -> None:
        self.laps_ns: list[int] = []
        self.done = asyncio.Event()
        self._left = self._missing = self._sent_ns = 0

    def start(self, link: Link, count: int) -> None:
        self._write = link.write
        self.laps_ns = []
        self.done.clear()
        self._left = count
        self._send()
        link.flush()

    def _send(self) -> None:
        self._missing = len(PING)
        self._sent_ns = time.perf_counter_ns()
        self._write(PING)

    def received(self, data: Bytes) -> None:
        now_ns = time.perf_counter_ns()
        self._missing -= len(data)
        if self._missing > 0:
            return
        self.laps_ns.append(now_ns - self._sent_ns)
        self._left -= 1
        if self._left:
            self._send()
        else:
            self.done.set()


async def _ping_pong(peer: Peer, work: Work, port: int) -> Figures:
    pinger = _Pinger()
    link = await peer.connect(port, pinger.received)
    for count in (min(_WARM_PINGS_MAX, work.size), work.size):
        pinger.start(link, count)
        await pinger.done.wait()
    return {
        "p50_us": percentile(pinger.laps_ns, 0.50) / 1e3,
        "p99_us": percentile(pinger.laps_ns, 0.99) / 1e3,
    }


class _Answers:
    """Collects the receiver's answers, one at a time."""

    def __init__(self) -> None:
        self._pending = b""
        self._complete = asyncio.Event()

    def received(self, data: Bytes) -> None:
        self._pending += bytes(data)
        if len(self._pending) >= _ANSWER.size:
            self._complete.set()

    async def next(self) -> tuple[bool, int, bytes]:
        await self._complete.wait()
        self._complete.clear()
        right, counted, digest = _ANSWER.unpack(self._pending)
        self._pending = b""
        return right, counted, digest


async def _one_way(peer: Peer, block: bytes, count: int, port: int) -> float:
    """Send ``block`` ``count`` times; return the seconds until it was all counted."""
    answers = _Answers()
    link = await peer.connect(port, answers.received)
    sample = os.urandom(BLOCK_BYTES)
    digest = await _pass(link, answers, sample, _WARM_BLOCKS)
    end = _end_marker(len(sample) * _WARM_BLOCKS)
    if digest != hashlib.sha256(sample * _WARM_BLOCKS + end).digest():
        raise WorkFailed(f"{peer.name} delivered other bytes than were sent")
    start = time.perf_counter()
    await _pass(link, answers, block, count)
    return time.perf_counter() - start


async def _pass(link: Link, answers: _Answers, block: bytes, count: int) -> bytes:
    await link.send_all(block, count)
    await link.send_all(_end_marker(len(block) * count), 1)
    right, counted, digest = await answers.next()
    if not right:
        raise WorkFailed(f"{len(block) * count} bytes were sent, {counted} arrived")
    return digest


def _end_marker(total: int) -> bytes:
    return _END.pack(_END.size - 4, _END_MARK, total)


async def _handshakes(peer: Peer, work: Work, port: int) -> Figures:
    """Time connections one after another, then ``batch`` at a time.

    Rates include the call that begins to close each connection, not the end of closing.
    """
    laps: list[float] = []
    await peer.connect(port, _ignore)
    start = time.perf_counter()
    for _ in range(work.size):
        before = time.perf_counter()
        link = await peer.connect(port, _ignore)
        laps.append(time.perf_counter() - before)
        link.close()
    sequential_s = time.perf_counter() - start
    rounds = max(1, work.size // work.batch)
    start = time.perf_counter()
    for _ in range(rounds):
        links = await asyncio.gather(
            *(peer.connect(port, _ignore) for _ in range(work.batch))
        )
        for link in links:
            link.close()
    concurrent_s = time.perf_counter() - start
    return {
        "p50_us": percentile(laps, 0.50) * 1e6,
        "p99_us": percentile(laps, 0.99) * 1e6,
        "sequential_per_s": work.size / sequential_s,
        "concurrent_per_s": rounds * work.batch / concurrent_s,
    }


async def _idle(peer: Peer, work: Work, port: int, server_pid: int) -> Figures:
    """Hold ``size`` connections; report how much each added to either process."""
    rss: Callable[[], tuple[int, int]] = lambda: (  # noqa: E731
        rss_bytes(os.getpid()),
        rss_bytes(server_pid),
    )
    # The first connections pay for what all of them share.
    links = [await peer.connect(port, _ignore) for _ in range(work.batch)]
    await asyncio.sleep(_SETTLE_SECONDS)
    client_before, server_before = rss()
    for _ in range(work.size // work.batch):
        links += await asyncio.gather(
            *(peer.connect(port, _ignore) for _ in range(work.batch))
        )
    await asyncio.sleep(_SETTLE_SECONDS)
    client_after, server_after = rss()
    opened = len(links) - work.batch
    return {
        "connections": opened,
        "client_bytes": (client_after - client_before) / opened,
        "server_bytes": (server_after - server_before) / opened,
    }


def _ignore(data: Bytes) -> None:
    """Nothing is sent while connections are only counted."""

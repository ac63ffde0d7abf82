"""A pass counts only when every byte of it arrived, and arrived as it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.peers.adapter import Bytes, Link, Peer, Received, Session, Write
from bench.peers.certificate import Certificate
from bench.workload import Work, WorkFailed, perform, session_of

type Spoil = Callable[[bytes, int], list[bytes]]
"""What arrives, in pieces, of a block and its number."""


class MemoryLink:
    """Hands every block to the session in the same process, spoiled or not."""

    def __init__(self, session: Session, received: Received, spoil: Spoil) -> None:
        loop = asyncio.get_running_loop()
        self._received = session(lambda data: loop.call_soon(received, data))
        self._spoil = spoil
        self._blocks = 0
        self.write: Write = self._deliver
        self.flush = self.close = lambda: None

    def _deliver(self, data: Bytes) -> None:
        self._blocks += 1
        for piece in self._spoil(bytes(data), self._blocks):
            self._received(piece)

    async def send_all(self, block: bytes, count: int) -> None:
        for _ in range(count):
            self._deliver(block)


class MemoryPeer(Peer):
    """A system without a network."""

    name = "memory"
    phases = frozenset({"rtt", "msgs", "bulk", "handshake"})

    def __init__(self, work: Work, spoil: Spoil) -> None:
        super().__init__(Certificate(Path()))
        self._session = session_of(work.phase)
        self._spoil = spoil

    async def serve(self, session: Session) -> int:
        return 0

    async def connect(self, port: int, received: Received) -> Link:
        return MemoryLink(self._session, received, self._spoil)

    async def close(self) -> None:
        """Nothing is open."""


def faithful(data: bytes, block: int) -> list[bytes]:
    return [data]


def one_byte_short(block: int) -> Spoil:
    return lambda data, seen: [data[1:] if seen == block else data]


def one_byte_flipped(block: int) -> Spoil:
    def flip(data: bytes, seen: int) -> list[bytes]:
        return [bytes([data[0] ^ 1]) + data[1:] if seen == block else data]

    return flip


async def figures(work: Work, spoil: Spoil) -> dict[str, float]:
    return await perform(MemoryPeer(work, spoil), work, 0, 0)


@pytest.mark.parametrize(
    ("work", "keys"),
    [
        (Work("rtt", 10), {"p50_us", "p99_us"}),
        (Work("msgs", 100), {"per_s"}),
        (Work("msgs", 128, batch=64), {"per_s"}),
        (Work("bulk", 1 << 20), {"mb_s"}),
        (
            Work("handshake", 10, batch=5),
            {"p50_us", "p99_us", "sequential_per_s", "concurrent_per_s"},
        ),
    ],
)
async def test_what_arrives_whole_is_measured(work: Work, keys: set[str]) -> None:
    measured = await figures(work, faithful)
    assert measured.keys() == keys
    assert all(value > 0 for value in measured.values())


# 64 blocks and their end marker warm the connection up; the timed pass follows.
@pytest.mark.parametrize("block", [1, 64, 66, 69])
async def test_a_lost_byte_fails_the_pass(block: int) -> None:
    with pytest.raises(WorkFailed, match="arrived"):
        await figures(Work("bulk", 4 * 65_536), one_byte_short(block))


async def test_a_flipped_byte_fails_the_first_pass() -> None:
    with pytest.raises(WorkFailed, match="other bytes"):
        await figures(Work("bulk", 65_536), one_byte_flipped(7))


async def test_a_ping_whose_echo_comes_in_two_pieces_is_one_lap() -> None:
    sent: list[int] = []

    def halve(data: bytes, block: int) -> list[bytes]:
        sent.append(block)
        return [data[:20], data[20:]]

    await figures(Work("rtt", 3), halve)
    assert len(sent) == 3 + 3  # As many again warm the connection up.


async def test_an_unknown_phase_is_refused() -> None:
    with pytest.raises(ValueError, match="lunch"):
        await figures(Work("lunch", 1), faithful)

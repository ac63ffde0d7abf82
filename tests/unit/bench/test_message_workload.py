"""A rate counts only when every message arrived, and a call when it came back whole."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.message_peers.adapter import (
    MESSAGE,
    MESSAGE_BYTE,
    Counted,
    Info,
    Link,
    Peer,
    Tally,
    end_marker,
)
from bench.message_peers.tcp import Frames
from bench.message_peers.workload import cpu_s, perform
from bench.workload import Work, WorkFailed

PID_MAX = 2**22  # One more than the largest that Linux gives.
SPIN = ("sha256", b"", b"", 10_000)

type Spoil = Callable[[int], int]
"""How often message number so-and-so arrives."""


class MemoryLink(Link):
    """Hands messages to a tally in the same process, spoiled or not."""

    def __init__(self, tally: Tally, spoil: Spoil) -> None:
        self._tally = tally
        self._spoil = spoil
        self._sent = 0

    async def call(self, message: object) -> object:
        assert isinstance(message, bytes)
        await asyncio.sleep(0)
        return self._tally.answer(message)

    async def send_all(self, message: object, count: int, end: bytes) -> None:
        assert isinstance(message, bytes)
        for _ in range(count):
            self._sent += 1
            self._tally.count += self._spoil(self._sent)
            await asyncio.sleep(0)
        self._tally.end(end)


class MemoryPeer(Peer):
    """A system without a network."""

    name = "memory"

    def __init__(self, spoil: Spoil) -> None:
        super().__init__(Path())
        self._spoil = spoil

    async def serve(self, phase: str, tally: Tally) -> Info:
        return {}

    async def connect(self, info: Info) -> Link:
        return MemoryLink(Tally(), self._spoil)

    async def close(self) -> None:
        """Nothing is open."""

    async def disconnect_ms(self, info: Info) -> float:
        return 3.0


def faithful(number: int) -> int:
    return 1


def counted(tally: Tally) -> Counted:
    return Counted.unpack(tally.report())


async def figures(work: Work, spoil: Spoil = faithful) -> dict[str, float]:
    return await perform(lambda: MemoryPeer(spoil), work, {})


@pytest.mark.parametrize(
    ("work", "keys"),
    [
        (Work("call", 10), {"p50_us", "p99_us"}),
        (Work("calls", 128), {"per_s", "cpu_us"}),
        (Work("oneway", 100), {"per_s", "cpu_us"}),
        (Work("oneway", 80, batch=8), {"per_s", "cpu_us"}),
        (Work("batched", 128), {"per_s", "cpu_us"}),
        (Work("big", 5), {"mb_s"}),
        (Work("first", 3), {"p50_ms", "max_ms"}),
        (Work("aged", 100), {"fresh_per_s", "aged_per_s", "aged_vs_fresh"}),
        (Work("disconnect", 2), {"p50_ms", "max_ms"}),
    ],
)
async def test_what_arrives_whole_is_measured(work: Work, keys: set[str]) -> None:
    measured = await figures(work)
    assert measured.keys() == keys
    assert all(value > 0 for key, value in measured.items() if key != "cpu_us")


# 20 messages warm the link up, as many are timed.
@pytest.mark.parametrize("number", [1, 20, 21, 40])
@pytest.mark.parametrize("times", [0, 2])
async def test_a_lost_or_doubled_message_fails_the_pass(
    number: int, times: int
) -> None:
    with pytest.raises(WorkFailed, match="20 messages were sent"):
        await figures(Work("oneway", 20), lambda seen: times if seen == number else 1)


async def test_an_answer_that_is_not_the_request_fails_the_call() -> None:
    class Liar(MemoryPeer):
        async def connect(self, info: Info) -> Link:
            link = MemoryLink(Tally(), faithful)
            link.message = b"?"  # Answered with a report instead of an echo.
            return link

    for work in (Work("call", 3), Work("calls", 64), Work("first", 1)):
        with pytest.raises(WorkFailed, match="not what was sent"):
            await perform(lambda: Liar(faithful), work, {})


async def test_an_unknown_phase_is_refused() -> None:
    with pytest.raises(ValueError, match="lunch"):
        await figures(Work("lunch", 1))


def test_the_cpu_time_of_a_process_is_that_of_all_its_threads() -> None:
    before_s, ours_s = cpu_s(os.getpid()), time.process_time()
    spinner = threading.Thread(target=hashlib.pbkdf2_hmac, args=SPIN)
    spinner.start()
    spinner.join()
    used_s = time.process_time() - ours_s
    assert used_s > 0
    assert cpu_s(os.getpid()) - before_s >= used_s
    with pytest.raises(OSError, match="Invalid argument"):
        cpu_s(PID_MAX)


def test_a_pass_ends_with_the_marker_of_its_last_sender() -> None:
    tally = Tally()
    tally.count = 30
    tally.end(end_marker(10, 2))
    assert counted(tally).passes == 0
    tally.end(end_marker(20, 2))
    first = counted(tally)
    assert (first.passes, first.right, first.count) == (1, True, 30)
    tally.count = 9
    tally.end(end_marker(10, 1))
    second = counted(tally)
    assert (second.passes, second.right, second.count) == (2, False, 9)
    assert second.at_ns >= first.at_ns > 0


def test_no_message_looks_like_an_end_marker() -> None:
    assert MESSAGE[0] == MESSAGE_BYTE != end_marker(1, 1)[0]
    for odd in (b"", b"?", MESSAGE, b"\xff" * len(end_marker(1, 1))):
        with pytest.raises(ValueError, match="no end marker"):
            Tally().end(odd)


@given(st.lists(st.binary(max_size=40), max_size=12), st.data())
def test_frames_are_the_same_wherever_the_stream_is_cut(
    bodies: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    cuts = data.draw(st.lists(st.integers(0, len(stream))).map(sorted))
    found: list[bytes] = []
    frames = Frames(found.append)
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        frames.feed(stream[start:stop])
    assert found == bodies

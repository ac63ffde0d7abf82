"""What a client does in each phase, the same for every system.

Rates of one-way messages end when the receiver has counted the last end marker, by the
receiver's own clock; the count must be what the markers announced. Every connection
carries some messages that are not timed first.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence

from bench.harness import percentile
from bench.message_peers.adapter import (
    BIG_MESSAGE,
    Counted,
    Info,
    Link,
    Peer,
    end_marker,
)
from bench.workload import Figures, Work, WorkFailed

__all__ = ["cpu_s", "perform"]

IN_FLIGHT = 64
AGED_PASSES = 5
AGED_PASS_SHARE = 20
"""A timed pass before and after ageing carries this part of the ageing messages."""

WARM_CALLS_MAX = 500
WARM_MESSAGES_MAX = 2_000
QUERY_EVERY_SECONDS = 0.001
PASS_SECONDS_MAX = 90.0
_CPUCLOCK_SCHED = 2


async def perform(make: Callable[[], Peer], work: Work, info: Info) -> Figures:
    """Do ``work`` as a client of the server that ``info`` describes.

    Args:
        make: Returns a new client of the system.
        work: Its ``batch`` is the number of senders in one-way phases.
        info: What the server said, with the process ids of all but ourselves.

    Raises:
        WorkFailed: A wrong answer, or a wrong count at the receiver.
    """
    if work.phase == "first":
        return await _first_messages(make, work.size, info)
    peer = make()
    await peer.open()
    try:
        if work.phase == "disconnect":
            return await _disconnects(peer, work.size, info)
        link = await peer.connect(info)
        return await _on_link(link, work, info)
    finally:
        await peer.close()


async def _on_link(link: Link, work: Work, info: Info) -> Figures:
    match work.phase:
        case "call":
            return await _one_call_at_a_time(link, work.size)
        case "calls":
            return await _many_calls(link, work.size, info)
        case "oneway" | "batched":
            return await _one_way(link, work, info)
        case "big":
            flow = _Flow(link, work.batch)
            await flow.warm_up(work.size)
            rate = await flow.rate(link.big_message, work.size)
            return {"mb_s": rate * len(BIG_MESSAGE) / 1e6}
        case "aged":
            return await _aged(link, work)
        case _:
            raise ValueError(f"unknown phase {work.phase!r}")


async def _checked_calls(link: Link, count: int) -> None:
    for _ in range(count):
        if await link.call(link.message) != link.message:
            raise WorkFailed("an answer is not what was sent")


async def _one_call_at_a_time(link: Link, count: int) -> Figures:
    await _checked_calls(link, min(WARM_CALLS_MAX, count))
    call, message, clock_ns = link.call, link.message, time.perf_counter_ns
    laps_ns: list[int] = []
    for _ in range(count):
        before_ns = clock_ns()
        await call(message)
        laps_ns.append(clock_ns() - before_ns)
    return {
        "p50_us": percentile(laps_ns, 0.50) / 1e3,
        "p99_us": percentile(laps_ns, 0.99) / 1e3,
    }


async def _many_calls(link: Link, count: int, info: Info) -> Figures:
    await _in_flight(link, min(WARM_CALLS_MAX, count))
    pids = _pids(info)
    cpu_before_s, start_s = _our_cpu_s(pids), time.perf_counter()
    made = await _in_flight(link, count)
    wall_s, cpu_after_s = time.perf_counter() - start_s, _our_cpu_s(pids)
    return {
        "per_s": made / wall_s,
        "cpu_us": (cpu_after_s - cpu_before_s) / made * 1e6,
    }


async def _in_flight(link: Link, count: int) -> int:
    """Make ``count`` calls, rounded to a multiple of ``IN_FLIGHT``; return how many."""
    each = max(1, count // IN_FLIGHT)
    await asyncio.gather(*(_checked_calls(link, each) for _ in range(IN_FLIGHT)))
    return each * IN_FLIGHT


class _Flow:
    """One-way passes over one link, by as many senders as ``senders``."""

    def __init__(self, link: Link, senders: int) -> None:
        self._link = link
        self._senders = senders
        self._passes = 0

    async def warm_up(self, count: int) -> None:
        await self.rate(self._link.message, min(WARM_MESSAGES_MAX, count))

    async def rate(self, message: object, count: int) -> float:
        """Send ``message`` about ``count`` times; return how many a second."""
        each = max(1, count // self._senders)
        end = end_marker(each, self._senders)
        start_ns = time.perf_counter_ns()
        await asyncio.gather(
            *(self._link.send_all(message, each, end) for _ in range(self._senders))
        )
        self._passes += 1
        counted = await self._wait()
        sent = each * self._senders
        if not counted.right or counted.count != sent:
            raise WorkFailed(f"{sent} messages were sent, {counted.count} arrived")
        return sent / ((counted.at_ns - start_ns) / 1e9)

    async def _wait(self) -> Counted:
        counted: Counted | None = None
        try:
            async with asyncio.timeout(PASS_SECONDS_MAX):
                while True:
                    counted = await self._link.query()
                    if counted.passes >= self._passes:
                        return counted
                    await asyncio.sleep(QUERY_EVERY_SECONDS)
        except TimeoutError as error:
            arrived = "nothing" if counted is None else counted.count
            raise WorkFailed(
                f"no end after {PASS_SECONDS_MAX:g} s: {arrived} arrived"
            ) from error


async def _one_way(link: Link, work: Work, info: Info) -> Figures:
    flow, pids = _Flow(link, work.batch), _pids(info)
    await flow.warm_up(work.size)
    before_s = _our_cpu_s(pids)
    per_s = await flow.rate(link.message, work.size)
    cpu_used_s = _our_cpu_s(pids) - before_s
    return {"per_s": per_s, "cpu_us": cpu_used_s / work.size * 1e6}


async def _aged(link: Link, work: Work) -> Figures:
    flow = _Flow(link, work.batch)
    size = max(1, work.size // AGED_PASS_SHARE)
    await flow.warm_up(work.size)
    fresh = [await flow.rate(link.message, size) for _ in range(AGED_PASSES)]
    for _ in range(AGED_PASS_SHARE):
        await flow.rate(link.message, size)
    aged = [await flow.rate(link.message, size) for _ in range(AGED_PASSES)]
    return {
        "fresh_per_s": statistics.median(fresh),
        "aged_per_s": statistics.median(aged),
        "aged_vs_fresh": statistics.median(aged) / statistics.median(fresh),
    }


async def _first_messages(make: Callable[[], Peer], count: int, info: Info) -> Figures:
    """Time from knowing an address to the answer of the first call over it."""
    laps_s: list[float] = []
    for _ in range(count):
        peer = make()
        await peer.open()
        try:
            before_s = time.perf_counter()
            link = await peer.connect(info)
            answer = await link.call(link.message)
            laps_s.append(time.perf_counter() - before_s)
        finally:
            await peer.close()
        if answer != link.message:
            raise WorkFailed("an answer is not what was sent")
    return {
        "p50_ms": percentile(laps_s, 0.50) * 1e3,
        "max_ms": max(laps_s) * 1e3,
    }


async def _disconnects(peer: Peer, count: int, info: Info) -> Figures:
    laps_ms = [await peer.disconnect_ms(info) for _ in range(count)]
    return {"p50_ms": percentile(laps_ms, 0.50), "max_ms": max(laps_ms)}


def _pids(info: Info) -> list[int]:
    pids = info.get("pids", [])
    assert isinstance(pids, list)
    return pids


def _our_cpu_s(others: Sequence[int]) -> float:
    return time.process_time() + sum(cpu_s(pid) for pid in others)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, ended threads included.

    Raises:
        OSError: There is no such process.

    Source: clock_getcpuclockid(3); Linux include/linux/posix-timers_types.h has the
        layout of the clock's id.
    """
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)

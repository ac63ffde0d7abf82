"""A process that does not read stops its senders, and costs nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid
from barrel_p2p.node.node import Node
from barrel_p2p.quic.settings import EngineSettings
from barrel_p2p.runtime.limits import MAILBOX_SLACK
from barrel_p2p.runtime.process import Process
from tests.cluster.node_process import ECHO, Echo, NodeProcess, node_process
from tests.endpoints import eventually
from tests.tools import DEEP, rounds
from tests.unit.node.nodes import node

pytestmark = pytest.mark.timeout(900 if DEEP else 60)

A, PRESSED, QUIET = "a@127.0.0.1", "pressed@127.0.0.1", "quiet@127.0.0.1"
LIMIT = 1_000
BYTES = 1_024
ROUNDS = rounds(15, whole=60)
CALLS = rounds(300, whole=2_000)
RSS_GROWTH_MAX = 4 << 20
P99_RATIO_MAX = 2.0
FLOODED_RATIO_MAX = 10.0
"""A call waits for one batch of the flood; behind its backlog it would wait for 100."""
FLOOD_MIN = 1_000


class Flood:
    """Processes of one node that send to one pid as fast as they may."""

    def __init__(self, own: Node, to: Pid, senders: int) -> None:
        self.sent = 0
        self.may_go_on = True
        for _ in range(senders):
            own.spawn(self._run, to)

    async def _run(self, me: Process, to: Pid) -> None:
        message = bytes(BYTES)
        while self.may_go_on:
            await to.send(message)
            self.sent += 1

    async def blocked(self) -> int:
        """Wait until nothing is sent any more; how much was."""
        async with asyncio.timeout(60.0):
            while True:
                before = self.sent
                await asyncio.sleep(0.3)  # not synchronisation: nothing must happen
                if self.sent == before > 0:
                    return before


@contextlib.asynccontextmanager
async def three(tmp_path: Path) -> AsyncIterator[tuple[Node, NodeProcess, NodeProcess]]:
    async with (
        node(tmp_path, A, strict_messages=False) as a,
        node_process(tmp_path, PRESSED) as pressed,
        node_process(tmp_path, QUIET) as quiet,
    ):
        for other in (pressed, quiet):
            await a.connect(other.ref)
        yield a, pressed, quiet


async def round_trip_ns(echo: Echo) -> int:
    started_ns = time.perf_counter_ns()
    assert await echo.echo("x") == "x"
    return time.perf_counter_ns() - started_ns


def p99(samples: list[int]) -> float:
    return statistics.quantiles(samples, n=100)[98]


@pytest.mark.serial
async def test_a_receiver_that_does_not_read_blocks_its_senders_at_the_bound(
    tmp_path: Path,
) -> None:
    """Its node grows no more, and when it reads at last, everything is there."""
    async with three(tmp_path) as (a, pressed, _):
        pid = Pid(*await pressed.ask("reader", limit=LIMIT))
        own = len(a._processes())
        flood = Flood(a, pid, senders=20)
        sent = await flood.blocked()
        queued = EngineSettings().connection_send_high // BYTES
        assert LIMIT <= sent <= 2 * LIMIT + MAILBOX_SLACK + queued
        echo = await a.proxy(Echo, At(ECHO, PRESSED))
        full = pressed.rss_bytes
        for _ in range(3 * CALLS):
            await round_trip_ns(echo)
        assert flood.sent == sent
        assert pressed.rss_bytes - full <= RSS_GROWTH_MAX
        await pressed.ask("read")
        await eventually(lambda: flood.sent > 20 * sent, 60.0)
        assert pressed.rss_bytes - full <= RSS_GROWTH_MAX
        flood.may_go_on = False
        await eventually(lambda: len(a._processes()) <= own)
        await pressed.until("read_so_far", flood.sent)


@pytest.mark.serial
async def test_the_other_pairs_of_that_channel_are_as_quick_as_before(
    tmp_path: Path,
) -> None:
    """Call by call in turn: over the pressed channel, and over one that is quiet."""
    async with three(tmp_path) as (a, pressed, _):
        pid = Pid(*await pressed.ask("reader", limit=LIMIT))
        flood = Flood(a, pid, senders=20)
        sent = await flood.blocked()
        ratios = await compared(a, PRESSED, QUIET)
        assert flood.sent == sent, "the senders were not blocked all the time"
        assert statistics.median(ratios) <= P99_RATIO_MAX, ratios


async def compared(a: Node, one: str, other: str) -> list[float]:
    """p99 of calls to ``one`` over that of calls to ``other``, made in turn."""
    echoes = {name: await a.proxy(Echo, At(ECHO, name)) for name in (one, other)}
    ratios = []
    for _ in range(ROUNDS):
        taken: dict[str, list[int]] = {one: [], other: []}
        for _ in range(CALLS):
            for name, samples in taken.items():
                samples.append(await round_trip_ns(echoes[name]))
        ratios.append(p99(taken[one]) / p99(taken[other]))
    return ratios


@pytest.mark.serial
async def test_a_receiver_that_reads_slowly_slows_nobody_but_its_senders(
    tmp_path: Path,
) -> None:
    """It stops and starts them again and again, as it is full and has room."""
    async with three(tmp_path) as (a, pressed, _):
        reader = Pid(*await pressed.ask("slow_reader", limit=LIMIT, pause_s=0.001))
        flood = Flood(a, reader, senders=20)
        await eventually(lambda: flood.sent > LIMIT)
        before = flood.sent, await pressed.ask("read_so_far")
        ratios: list[float] = []
        async with asyncio.timeout(40.0):
            while flood.sent <= before[0] + LIMIT // 2:
                ratios += await compared(a, PRESSED, QUIET)
        read = await pressed.ask("read_so_far") - before[1]
        flood.may_go_on = False
        assert read > LIMIT // 4, "it did not read"
        assert statistics.median(ratios) <= P99_RATIO_MAX, ratios


@pytest.mark.serial
async def test_a_peer_that_floods_takes_its_share_and_no_more(tmp_path: Path) -> None:
    """One peer sends all that its victim can take. Calls of another, in turn with calls
    while that peer is as busy with itself. The median call, and the quieter rounds: the
    scheduler shares few cores among many processes, and only ever adds.
    """
    async with three(tmp_path) as (a, victim, flooder):
        await flooder.ask("connect", ref=victim.ref)
        reader = await victim.ask("reader", limit=LIMIT)
        own = await flooder.ask("reader", limit=LIMIT)
        for one in (victim, flooder):
            await one.ask("read")
        echo = await a.proxy(Echo, At(ECHO, victim.name))
        ratios = []
        for _ in range(ROUNDS):
            medians = []
            for flooded in (own, reader):
                before = await flooder.ask("flooded")
                await flooder.ask("flood", pid=flooded, size=100)
                taken = [await round_trip_ns(echo) for _ in range(CALLS)]
                await flooder.ask("end_flood")
                assert await flooder.ask("flooded") - before > FLOOD_MIN, "no flood"
                medians.append(statistics.median(taken))
            ratios.append(medians[1] / medians[0])
        assert statistics.quantiles(ratios, n=4)[0] <= FLOODED_RATIO_MAX, ratios

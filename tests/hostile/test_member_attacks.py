"""A member that turned: what it does to a node ends with its own connection."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from barrel_p2p.carrier.connection import Closed, ClosedBy
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import BarrelError
from barrel_p2p.node.node import Node
from barrel_p2p.runtime.process import Process
from barrel_p2p.wire.frames import encode
from barrel_p2p.wire.kinds import Kind
from barrel_p2p.wire.limits import FRAME_BYTES_MAX
from tests.cluster.node_process import Echo
from tests.endpoints import eventually, within
from tests.malicious_members import CREATION, EVIL, Member, fuzz, member
from tests.tools import DEEP, rounds
from tests.unit.node.nodes import nodes

pytestmark = pytest.mark.timeout(900 if DEEP else 60)

A, C = "a@127.0.0.1", "c@127.0.0.1"
BROKE_A_RULE = Closed(ClosedBy.APPLICATION, 0x101)
SEQUENCES = rounds(400, whole=1_000_000)
MEMBERS = 8  # At once: each waits most of the time for the other side.
RSS_GROWTH_MAX = 32 << 20


class Bystanders:
    """A victim, an honest node beside it, and all that went wrong at either."""

    def __init__(self, victim: Node, honest: Node) -> None:
        self.victim = victim
        self.honest = honest
        self.unhandled: list[dict[str, Any]] = []
        self._safe: Echo | None = None
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: self.unhandled.append(context)
        )

    async def start(self) -> None:
        await self.victim.start_server(Echo, name="safe")
        self._safe = await self.honest.proxy(Echo, At("safe", A))

    async def are_well(self) -> None:
        """The honest node's channel carries calls, and nothing went unhandled."""
        assert self._safe is not None
        assert await self._safe.echo("well?") == "well?"
        assert self.unhandled == []
        assert self.victim._channels().dispatcher.failed == 0


@asynccontextmanager
async def attacked(tmp_path: Path) -> AsyncIterator[tuple[Bystanders, Member]]:
    async with nodes(tmp_path, A, C) as (a, c), member() as evil, c.events() as events:
        both = Bystanders(a, c)
        await both.start()
        yield both, evil
        await both.are_well()
        assert c.nodes() == [A]
        assert not events._events, "the honest node lost its channel meanwhile"


async def until_idle(me: Process) -> None:
    """Reads nothing, and minds no exit signal but ``kill``."""
    me.trap_exit = True
    await asyncio.Event().wait()


async def reads_all(me: Process) -> None:
    async for _ in me:
        pass


async def tied(me: Process, to: str) -> None:
    """Linked to processes that the member has or has not, and monitors them."""
    me.trap_exit = True
    for process in range(4):
        me.link(Pid(to, process, CREATION))
        me.monitor(Pid(to, process, CREATION))
    async for _ in me:
        pass


async def asks(me: Process, whom: str, surprises: list[BaseException]) -> None:
    """Calls the member, which answers with whatever it likes, or not."""
    for process in range(3):
        try:
            await Pid(whom, process, CREATION).call("?", timeout=0.02)
        except BarrelError:
            continue
        except Exception as error:  # noqa: BLE001 -- the test is told
            surprises.append(error)


@pytest.mark.parametrize("role", [1, 2, 3])
@pytest.mark.parametrize(
    "announced",
    [0xFFFF_FFFF, 0x8000_0000, 0x7FFF_FFFF, FRAME_BYTES_MAX + 1, 1, 0],
)
async def test_a_frame_too_large_is_refused_from_its_first_four_bytes(
    tmp_path: Path, role: int, announced: int
) -> None:
    """X4: on any stream of an admitted member, and only its own connection ends."""
    async with attacked(tmp_path) as (both, evil):
        channel = await evil.connect(both.victim)
        header = announced.to_bytes(4)
        if role == 1:
            channel._own[StreamRole.CONTROL].write_nowait(header)
        else:
            evil.stream(channel, role).write_nowait(header)
        end = await within(channel.connection.wait_closed())
        assert end == BROKE_A_RULE
        await eventually(lambda: EVIL not in both.victim.nodes())


async def test_announced_bytes_cost_no_memory_until_they_come(tmp_path: Path) -> None:
    """X4: frames of the greatest size, of which little ever comes, 64 at once."""
    rng = random.Random(4)
    me = psutil.Process()
    async with attacked(tmp_path) as (both, evil):
        before = me.memory_info().rss
        for _ in range(8):
            channel = await evil.connect(both.victim)
            for _ in range(8):
                stream = evil.stream(channel, 3)
                stream.write_nowait(FRAME_BYTES_MAX.to_bytes(4) + rng.randbytes(100))
            await eventually(lambda: channel.connection.in_flight == 0)  # noqa: B023
            channel.connection.close()
            await eventually(lambda: EVIL not in both.victim.nodes())
        assert me.memory_info().rss - before < RSS_GROWTH_MAX


@pytest.mark.parametrize(
    ("role", "kind", "flags"),
    [
        (3, 127, 1),
        (3, 200, 0),
        (3, Kind.SESSION, 0),
        (3, Kind.BYE, 0),
        (3, Kind.PAUSE, 0),
        (2, Kind.SEND, 0),
        (1, Kind.SEND, 0),
        (1, Kind.CALL, 0),
    ],
)
async def test_a_kind_out_of_its_place_ends_the_connection(
    tmp_path: Path, role: int, kind: int, flags: int
) -> None:
    """QUI-04: an unknown operation, and one that came on another kind of stream."""
    async with attacked(tmp_path) as (both, evil):
        channel = await evil.connect(both.victim)
        body = struct.pack(">QIQI", 1, CREATION, 1, both.victim.creation) + b"j"
        if role == 1:
            channel._own[StreamRole.CONTROL].write_nowait(encode(kind, flags, body))
        else:
            evil.stream(channel, role).write_nowait(encode(kind, flags, body))
        end = await within(channel.connection.wait_closed())
        assert end == BROKE_A_RULE


LENGTHS_THAT_LIE = [
    b"l" + struct.pack(">I", 0xFFFF_FFFF),
    b"m" + struct.pack(">I", 0xFFFF_FFFF) + b"short",
    b"m" + struct.pack(">I", 0x7FFF_FFFF),
    b"i" + struct.pack(">I", 0xFFFF_FFFF),
    b"t" + struct.pack(">I", 0xFFFF_FFFF),
    b"o" + struct.pack(">I", 0xFFFF_FFFF) + b"\0",
    b"l" + struct.pack(">I", 2) + b"m" + struct.pack(">I", 0x8000_0000),
    b"h\xff",
    b"",
]


@pytest.mark.parametrize("term", LENGTHS_THAT_LIE)
async def test_lengths_inside_a_frame_are_believed_no_more_than_its_own(
    tmp_path: Path, term: bytes
) -> None:
    """X4: nested lengths."""
    async with attacked(tmp_path) as (both, evil):
        pid = both.victim.spawn(until_idle)
        channel = await evil.connect(both.victim)
        pair = struct.pack(">QIQI", 1, CREATION, pid.id, pid.creation)
        evil.write(channel, 0, encode(Kind.SEND, 0, pair + term))
        end = await within(channel.connection.wait_closed())
        assert end == BROKE_A_RULE


async def test_a_killed_process_that_was_just_woken_is_no_crash(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Or a member could fill the log with the ends of processes that it kills."""
    async with nodes(tmp_path, A) as (a,):
        before = a.stats().processes
        pids = [a.spawn(reads_all) for _ in range(10)]
        for pid in pids:
            await a.send(pid, "first")
        await eventually(lambda: a.stats().processes == before + len(pids))
        for pid in pids:
            pid.send_nowait("second")
            await pid.exit("kill")
        await eventually(lambda: a.stats().processes == before)
    assert crashes(caplog) == []


def crashes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.exc_info or r.levelno >= 40]


@dataclass
class Assault:
    """One member that sends sequence after sequence, and what came of it."""

    both: Bystanders
    evil: Member
    ended: int = 0
    surprises: list[BaseException] = field(default_factory=list)
    _targets: list[Pid] = field(default_factory=list)

    async def run(self, seeds: range) -> None:
        for seed in seeds:
            await self._sequence(random.Random(seed))
            await self.both.are_well()
        channel = await self.evil.connect(self.both.victim)
        channel.connection.close()

    async def _sequence(self, rng: random.Random) -> None:
        victim, name = self.both.victim, self.evil.name
        await self.evil.connect(victim)
        short = [
            victim.spawn(tied, name),
            victim.spawn(asks, name, self.surprises),
        ]
        ids = [pid.id for pid in self._living() + short]
        channel = await fuzz(self.evil, victim, ids, rng)
        await short[0].exit("kill")
        if not channel.is_up:
            self.ended += 1
            await eventually(lambda: name not in victim.nodes())

    def _living(self) -> list[Pid]:
        # Whoever may send an exit signal has ended the one of before.
        victim, kinds = self.both.victim, (until_idle, reads_all)
        if not self._targets:
            self._targets = [victim.spawn(k, mailbox_limit=50) for k in kinds]
        for index, kind in enumerate(kinds):
            if victim._running().switch.box_of(self._targets[index].id) is None:
                self._targets[index] = victim.spawn(kind, mailbox_limit=50)
        return self._targets


@pytest.mark.timeout(3 * 3600 if DEEP else 60)
async def test_legal_frames_in_any_order_harm_no_connection_but_their_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """X8: sequences of every kind of frame, on the streams of members of one node."""
    async with attacked(tmp_path) as (both, _), AsyncExitStack() as stack:
        victim = both.victim
        await victim.start_server(Echo, name="echo")
        before = victim.stats().processes
        assaults = [
            Assault(both, await stack.enter_async_context(member(f"evil{i}@127.0.0.1")))
            for i in range(MEMBERS)
        ]
        async with asyncio.TaskGroup() as group:
            for i, assault in enumerate(assaults):
                group.create_task(assault.run(range(i, SEQUENCES, MEMBERS)))
        ended = sum(assault.ended for assault in assaults)
        assert ended > SEQUENCES // 20, "nothing was ever refused"
        assert ended < SEQUENCES, "nothing was ever legal"
        await eventually(lambda: victim.nodes() == [C])
        await eventually(lambda: victim.stats().calls_waiting == 0)
        await eventually(lambda: victim.stats().processes <= before + 2 * MEMBERS)
        assert [one for assault in assaults for one in assault.surprises] == []
    assert crashes(caplog) == []

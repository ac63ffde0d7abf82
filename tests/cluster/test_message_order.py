"""Messages of a pair of processes arrive in order, and none is missing in between."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from barrel_p2p.core.events import Down
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import PeerUnreachable
from barrel_p2p.node.node import Node
from barrel_p2p.runtime.process import Process
from tests.endpoints import eventually, within
from tests.tools import DEEP, rounds
from tests.unit.node.nodes import nodes

pytestmark = pytest.mark.timeout(900 if DEEP else 60)

A, B = "a@127.0.0.1", "b@127.0.0.1"
PAIRS = 100
MESSAGES = rounds(1_000, whole=10_000)
DROPS = 20
DEADLINE_S = 300.0

type Got = int | str
"""A number that arrived, or the reason of a monitor that fired between two."""


@dataclass
class Receiver:
    """What one process of b got, in its order, and the sender that it watches."""

    got: list[Got] = field(default_factory=list)
    watched: Pid | None = None
    done: bool = False

    async def run(self, me: Process) -> None:
        async for message in me:
            match message:
                case Down(reason=reason):
                    self.got.append(str(reason))
                    assert self.watched is not None
                    me.monitor(self.watched)
                case Pid():
                    self.watched = message
                    me.monitor(message)
                case "done":
                    self.done = True
                    return  # Before its sender's end is seen.
                case number:
                    self.got.append(number)

    def since_down(self) -> int:
        """How many numbers came after the last monitor that fired."""
        count = 0
        for one in reversed(self.got):
            if isinstance(one, str):
                break
            count += 1
        return count


def assert_gaps_only_after(got: list[Got], reason: str) -> int:
    """Every gap in ``got`` stands right behind ``reason``; how many gaps there are."""
    gaps, last, may = 0, -1, False
    for one in got:
        if isinstance(one, str):
            assert one == reason
            may = True
            continue
        assert one > last, "a number came twice, or too late"
        if one != last + 1:
            assert may, f"{one} came after {last}, and the channel lived"
            gaps += 1
        last, may = one, False
    return gaps


async def test_a_hundred_pairs_keep_their_order_without_a_gap(tmp_path: Path) -> None:
    """Both ways at once: half of the senders are on either node."""
    async with nodes(tmp_path, A, B) as (a, b):
        receivers = [Receiver() for _ in range(PAIRS)]

        async def send(me: Process, to: Pid) -> None:
            for number in range(MESSAGES):
                await to.send(number)

        for index, receiver in enumerate(receivers):
            near, far = (a, b) if index % 2 else (b, a)
            near.spawn(send, far.spawn(receiver.run))
        await eventually(
            lambda: all(len(r.got) == MESSAGES for r in receivers), DEADLINE_S
        )
        expected = list(range(MESSAGES))
        assert all(r.got == expected for r in receivers)


async def test_a_gap_appears_only_where_the_channel_dropped(tmp_path: Path) -> None:
    """Twenty disconnects, from either side; every monitor fires at each of them."""
    async with nodes(tmp_path, A, B) as (a, b):
        receivers = [Receiver() for _ in range(PAIRS)]
        sent = [0] * PAIRS
        fired: list[int] = [0] * PAIRS
        stop = asyncio.Event()

        async def send(me: Process, index: int, to: Pid) -> None:
            await to.send(me.pid)
            me.monitor(to)
            while not stop.is_set():
                number, sent[index] = sent[index], sent[index] + 1
                try:
                    await to.send(number)
                except PeerUnreachable:
                    continue  # It may have arrived or not; the next one dials again.
                await asyncio.sleep(0)  # not synchronisation: the others' turn
                fired[index] += await watched(me, to)
            await to.send("done")

        async def watched(me: Process, to: Pid) -> int:
            try:
                down = await me.receive(Down, timeout=0)
            except TimeoutError:
                return 0
            assert down.reason == "noconnection"
            me.monitor(to)
            return 1

        for index, receiver in enumerate(receivers):
            a.spawn(send, index, b.spawn(receiver.run))
        for drop in range(DROPS):
            # Each pair has a new monitor and has used the new channel.
            await eventually(
                lambda drop=drop: all(  # type: ignore[misc]
                    r.since_down() > 20 and f == drop
                    for r, f in zip(receivers, fired, strict=True)
                ),
                DEADLINE_S,
            )
            await one_drop(*((a, b) if drop % 2 else (b, a)))
        await eventually(lambda: all(r.since_down() > 20 for r in receivers), 60.0)
        stop.set()
        await eventually(lambda: all(r.done for r in receivers), DEADLINE_S)
        for receiver, asked in zip(receivers, sent, strict=True):
            assert_gaps_only_after(receiver.got, "noconnection")
            assert receiver.got.count("noconnection") == DROPS
            numbers = [one for one in receiver.got if isinstance(one, int)]
            assert len(numbers) <= asked
            assert numbers[-1] == asked - 1
        assert fired == [DROPS] * PAIRS


async def one_drop(one: Node, other: Node) -> None:
    async with other.events() as events:
        assert one.disconnect(other)
        assert await within(events.next()) == NodeDown(one.name, "disconnect")
        assert await within(events.next()) == NodeUp(one.name)


def test_the_check_for_gaps_finds_one() -> None:
    """Negative control."""
    down = "noconnection"
    assert assert_gaps_only_after([0, 1, down, 2, down, 7, 8], down) == 1
    for wrong in ([0, 2], [0, down, 1, 3], [0, 0], [1, 0], [0, "noproc", 1]):
        try:
            assert_gaps_only_after(wrong, down)  # type: ignore[arg-type]
        except AssertionError:
            continue
        raise AssertionError(wrong)

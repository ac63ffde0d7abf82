"""A stalled loop, a mesh, and loops that come and go."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from itertools import permutations

import pytest
import uvloop

from barrel_p2p.carrier.channel import Channel
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.wire.frames import Frame, encode
from tests.channel_nodes import (
    CONTROL_KIND,
    DATA_KIND,
    ChannelNode,
    connected,
    node,
    pair_of_nodes,
)
from tests.endpoints import eventually, within

NAMES = ["a@h", "b@h", "c@h", "d@h", "e@h"]


class Lively:
    """A node in a thread of its own, whose loop never stalls."""

    def __init__(self) -> None:
        self.ref = ""
        self.events: list[NodeUp | NodeDown] = []
        self.heard = 0
        self._ready = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._main, name="lively")

    def __enter__(self) -> Lively:
        self._thread.start()
        assert self._ready.wait(20.0)
        return self

    def __exit__(self, *unused: object) -> None:
        self._end.set()
        self._thread.join(20.0)
        assert not self._thread.is_alive()

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with node("b@h") as own:
            self.ref, self.events = own.ref, own.events
            self._ready.set()
            while not self._end.is_set():
                for name in own.channels.nodes():
                    channel = own.channels.get(name)
                    if channel is not None:
                        channel.send_control(CONTROL_KIND, b"tick")
                self.heard = len(own.frames)
                await asyncio.sleep(0.05)  # not synchronisation: the beat


@pytest.mark.serial
async def test_a_loop_that_is_blocked_for_three_seconds_loses_no_channel() -> None:
    with Lively() as lively:
        async with node("a@h") as a:
            near = await within(a.channels.connect(lively.ref))
            await eventually(lambda: len(a.frames) > 0)
            time.sleep(3.0)  # not synchronisation: a blocked loop  # noqa: ASYNC251
            before = len(a.frames)
            await eventually(lambda: len(a.frames) > before + 40)
            near.send_control(CONTROL_KIND, b"still there")
            await eventually(lambda: lively.heard == 1)
            assert near.is_up
            assert a.events == [NodeUp("b@h")]
            assert lively.events == [NodeUp("a@h")]


async def test_five_nodes_form_a_mesh_and_talk_on_all_pairs() -> None:
    """QUI-23: all dial all at once, then each sends to each, and round a ring."""
    async with (
        node(NAMES[0]) as a,
        node(NAMES[1]) as b,
        node(NAMES[2]) as c,
        node(NAMES[3]) as d,
        node(NAMES[4]) as e,
    ):
        nodes = {one.name: one for one in (a, b, c, d, e)}
        await within(
            asyncio.gather(
                *(x.channels.connect(y.ref) for x, y in permutations(nodes.values(), 2))
            )
        )
        for one in nodes.values():
            assert sorted(one.channels.nodes()) == [n for n in NAMES if n != one.name]
        for x, y in permutations(NAMES, 2):
            channel = nodes[x].channels.get(y)
            assert channel is not None
            channel.open_data_stream(0).write_nowait(
                encode(DATA_KIND, 0, f"{x} to {y}".encode())
            )
        await eventually(lambda: all(len(n.frames) == 4 for n in nodes.values()))
        for one in nodes.values():
            assert sorted(one.frames, key=lambda got: got[0]) == [
                (name, Frame(DATA_KIND, 0, f"{name} to {one.name}".encode()))
                for name in NAMES
                if name != one.name
            ]
            assert one.downs == []


async def test_a_channel_that_is_over_is_not_kept_alive() -> None:
    async with pair_of_nodes() as (a, b):
        seen: list[weakref.ref[Channel]] = []
        for _ in range(5):
            near, far = await connected(a, b)
            near.open_data_stream(0).write_nowait(encode(DATA_KIND, 0, b"x"))
            await eventually(lambda: len(b.frames) == 1)
            b.frames.clear()
            seen += [weakref.ref(near), weakref.ref(far)]
            a.channels.disconnect("b@h")
            await eventually(lambda: not b.channels.nodes())
            del near, far
        await eventually(lambda: not a.endpoint.connections)
        await eventually(lambda: not b.endpoint.connections)
        await asyncio.sleep(0)  # not synchronisation: callbacks let go of the last
        gc.collect()
        assert [one for one in seen if one() is not None] == []


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.SelectorEventLoop])
def test_loops_that_come_and_go_leave_nothing_behind(
    factory: type[asyncio.SelectorEventLoop],
) -> None:
    async def life() -> weakref.ref[ChannelNode]:
        async with pair_of_nodes() as (a, b):
            await connected(a, b)
            asyncio.ensure_future(a.channels.connect("b@h")).cancel()
            remembered = weakref.ref(a)
        tasks = asyncio.all_tasks()
        assert len(tasks) == 1
        return remembered

    lives = []
    threads = threading.active_count()
    for _ in range(5):
        with asyncio.Runner(loop_factory=factory) as runner:
            lives.append(runner.run(life()))
    gc.collect()
    assert [one for one in lives if one() is not None] == []
    assert threading.active_count() <= threads

"""A topic costs something for as long as somebody hears it, and nothing after."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from barrel_p2p import Broadcasted, InvalidValue, Node, NoProc, Pid, Process
from barrel_p2p.node.topics import Topics
from tests.endpoints import eventually, within
from tests.unit.node.nodes import nodes


def _topics(node: Node) -> tuple[Topics, Callable[[], list[str]]]:
    """The topics of a node, and for which of them it listens to broadcasts."""
    parts = node._running()
    listeners = parts.broadcast._listeners
    others = set(listeners)
    return parts.topics, lambda: [topic for topic in listeners if topic not in others]


def _has_ended(node: Node, pid: Pid) -> bool:
    return node._processes().switch.box_of(pid.id) is None


async def _idle(process: Process) -> None:
    await process.receive()


async def test_the_last_subscriber_to_go_takes_the_topic_along(tmp_path: Path) -> None:
    async with nodes(tmp_path, "a@127.0.0.1") as (a,):
        topics, heard = _topics(a)
        first, second = a.spawn(_idle), a.spawn(_idle)
        stream = topics.stream("t", 8)
        topics.add("t", first)
        topics.add("t", first)
        topics.add("t", second)
        assert heard() == ["t"]
        topics.remove("t", first)
        topics.remove("t", first)
        stream.close()
        assert heard() == ["t"]
        topics.remove("t", second)
        assert heard() == []
        assert len(topics) == 0
        topics.add("t", second)
        assert heard() == ["t"]


async def test_a_subscriber_that_ends_takes_its_topics_along(tmp_path: Path) -> None:
    async with nodes(tmp_path, "a@127.0.0.1") as (a,):
        topics, heard = _topics(a)
        quits, killed, stays = a.spawn(_idle), a.spawn(_idle), a.spawn(_idle)
        async with a.mailbox() as me:
            topics.add("of a block", me.pid)
            for topic in ("x", "y", "z"):
                topics.add(topic, quits)
            topics.add("y", stays)
            topics.add("z", killed)
            await quits.send("end")
            await killed.exit("kill")
            await eventually(lambda: heard() == ["of a block", "y"])
        assert heard() == ["y"]
        assert len(topics) == 1


async def test_whoever_cannot_subscribe_leaves_nothing_behind(tmp_path: Path) -> None:
    async with nodes(tmp_path, "a@127.0.0.1") as (a,):
        topics, heard = _topics(a)
        async with a.mailbox() as me:
            ended = me.pid
        with pytest.raises(NoProc):
            topics.add("t", ended)
        with pytest.raises(InvalidValue, match="no process of"):
            topics.add("t", Pid("b@127.0.0.1", 1, 1))
        with pytest.raises(InvalidValue, match="maxsize=0"):
            topics.stream("t", 0)
        with pytest.raises(InvalidValue, match="a topic is a str"):
            topics.stream("", 1)
        assert len(topics) == 0
        assert heard() == []


async def test_a_process_of_another_node_unsubscribes_nobody(tmp_path: Path) -> None:
    async with nodes(tmp_path, "a@127.0.0.1") as (a,):
        topics, heard = _topics(a)
        pid = a.spawn(_idle)
        topics.add("t", pid)
        topics.remove("t", Pid("b@127.0.0.1", pid.id, pid.creation))
        assert heard() == ["t"]


async def test_a_topic_is_heard_again_after_it_was_dropped(tmp_path: Path) -> None:
    async with nodes(tmp_path, "a@127.0.0.1") as (a,):
        topics, heard = _topics(a)
        for payload in (1, 2):
            async with a.broadcasts("t") as stream:
                await within(a.broadcast("t", payload))
                event = await within(stream.next())
                assert isinstance(event, Broadcasted)
                assert event.payload == payload
            assert heard() == []
        assert len(topics) == 0


async def test_stopping_ends_the_streams(tmp_path: Path) -> None:
    async with nodes(tmp_path, "a@127.0.0.1") as (a,):
        stream = a.broadcasts("t")
    with pytest.raises(StopAsyncIteration):
        await within(stream.next())


async def test_thousands_of_topics_that_were_heard_once_take_no_memory(
    tmp_path: Path,
) -> None:
    async def reader(process: Process, numbers: range) -> None:
        for number in numbers:
            await process.node.subscribe_broadcasts(f"process {number}")

    async def turn(a: Node, numbers: range) -> None:
        for number in numbers:
            a.broadcasts(f"stream {number}").close()
        for start in range(numbers.start, numbers.stop, 50):
            pid = a.spawn(reader, range(start, start + 50))
            await eventually(partial(_has_ended, a, pid))

    async with nodes(tmp_path, "a@127.0.0.1") as (a,):
        topics, heard = _topics(a)
        await turn(a, range(500))
        tracemalloc.start()
        try:
            await turn(a, range(500, 1_000))
            before, _ = tracemalloc.get_traced_memory()
            await turn(a, range(1_000, 6_000))
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(topics) == 0
        assert heard() == []
        assert after - before < 100_000

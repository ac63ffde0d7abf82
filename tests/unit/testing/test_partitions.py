"""A partition loses every datagram between two groups, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from barrel_p2p import InvalidValue, Node, NodeDown, NotStarted, PeerUnreachable
from barrel_p2p.testing import cluster, eventually, partition


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Node]]:
    async with cluster(4, directory=tmp_path) as made:
        yield made


def seen(nodes: list[Node]) -> list[list[str]]:
    return [node.members() for node in nodes]


async def test_two_halves_part_and_come_together_again(nodes: list[Node]) -> None:
    left, right = nodes[:2], nodes[2:]
    names = [node.name for node in nodes]
    with partition(left, right):
        await eventually(
            lambda: seen(left) == [names[:2]] * 2 and seen(right) == [names[2:]] * 2
        )
        assert nodes[0].name in nodes[1].nodes()
        pid = await left[0].start_service_holder("s")
        assert await left[1].whereis_service("s", timeout=5) == pid
        assert right[0].lookup("s") == []
    await eventually(lambda: seen(nodes) == [names] * 4)
    await eventually(lambda: right[0].lookup("s"))


async def test_neither_side_can_dial_the_other(nodes: list[Node]) -> None:
    a, b = nodes[:2]
    with partition(a, b, noticed=True):
        assert b.name not in a.nodes()
        assert a.name not in b.nodes()
        for one, other in ((a, b), (b, a)):
            with pytest.raises(PeerUnreachable):
                await one.connect(other, timeout=0.3)
    assert await a.connect(b, timeout=10) == b.name


async def test_the_silence_of_a_cut_is_noticed_in_a_while_only(
    nodes: list[Node],
) -> None:
    a, b = nodes[:2]
    await a.connect(b)
    async with a.events() as events:
        with partition(a, b):
            assert b.name in a.nodes()
            lost = NodeDown(b.name, "idle_timeout")
            assert await events.until(lambda e: e == lost, timeout=10) == lost


async def test_a_one_way_cut_loses_what_one_side_sends(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path, join=False) as (a, b):
        with partition(a, b, one_way=True):
            received = a.stats().engine.datagrams_in
            deaf = b.stats().engine.datagrams_in
            with pytest.raises(PeerUnreachable):
                await a.connect(b, timeout=0.3)
            assert b.stats().engine.datagrams_in == deaf
            with pytest.raises(PeerUnreachable):
                await b.connect(a, timeout=0.3)
            assert a.stats().engine.datagrams_in > received


async def test_cuts_overlap_and_heal_each_on_its_own(tmp_path: Path) -> None:
    async with cluster(3, directory=tmp_path, join=False) as (a, b, c):
        with partition(a, [b, c]):
            with partition(a, b):
                pass
            with pytest.raises(PeerUnreachable):
                await a.connect(b, timeout=0.3)
            assert await b.connect(c) == c.name
        assert await a.connect(b, timeout=10) == b.name


async def test_a_cut_heals_when_the_block_raises(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path, join=False) as (a, b):
        with pytest.raises(ZeroDivisionError), partition(a, b):
            _ = 1 / 0
        assert await a.connect(b, timeout=10) == b.name


async def test_a_node_may_stop_while_it_is_cut_off(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path, join=False) as (a, b):
        with partition(a, b):
            await b.stop()
        assert a.nodes() == []


async def test_nobody_is_on_both_sides_and_all_run(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path, join=False) as (a, b):
        with pytest.raises(InvalidValue, match=a.name), partition([a, b], a):
            pass
        await b.stop()
        with pytest.raises(NotStarted), partition(a, b):
            pass

"""What nodes of a cluster may rely on, whatever their views look like."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p import Left, Node, NodeDown, PeerDown, PeerUnreachable, PeerUp
from barrel_p2p.errors import UnavailableError
from barrel_p2p.testing import cluster, eventually

BUSY: dict[str, Any] = {
    "shuffle_period": 100,
    "contact_retry_ms": 100,
    "base_backoff_ms": 20,
}


async def test_nodes_that_prove_who_they_are_become_each_other_s_peers(
    tmp_path: Path,
) -> None:
    """AUC-09: and each has the key of the others pinned, as it is."""
    async with cluster(3, directory=tmp_path, timeout=15) as nodes:
        for node in nodes:
            assert node.config.auth_enabled
            assert node.active_view()
        for one, other in permutations(nodes, 2):
            await one.connect(other)
            assert one.keys.lookup_pin(other.name) == other.public_key


async def test_a_peer_that_was_evicted_is_still_connected(tmp_path: Path) -> None:
    """CAR-06: the view is full with two; the channel outlives the place in it."""
    async with cluster(4, directory=tmp_path, join=False, active_size=2) as nodes:
        b, c, *first = nodes
        for node in first:
            await node.join(b)
        assert len(b.active_view()) == 2
        async with b.events() as events:
            await c.join(b)
            told: list[object] = []
            while not told or not isinstance(told[-1], PeerDown):
                told.append(await events.next(timeout=5))
        (a,) = (node for node in first if node.name == told[-1].node)
        assert not [e for e in told if isinstance(e, NodeDown)]
        assert a.name in b.nodes()
        async with a.mailbox() as mine:
            await b.send(mine.pid, "still here")
            assert await mine.receive(timeout=5) == "still here"


async def test_services_of_two_nodes_are_listed_on_both(tmp_path: Path) -> None:
    """CLU-04, CLU-05, CLU-06: the replica of the registry runs on either side."""
    async with cluster(2, directory=tmp_path) as (a, b):
        assert a.list_services() == b.list_services() == []
        of_a = await a.start_service_holder("of a")
        of_b = await b.start_service_holder("of b")
        both = ["of a", "of b"]
        await eventually(lambda: a.list_services() == b.list_services() == both)
        for node in (a, b):
            assert [entry.pid for entry in node.lookup("of a")] == [of_a]
            assert [entry.pid for entry in node.lookup("of b")] == [of_b]


async def test_shuffles_make_nodes_known_to_each_other(tmp_path: Path) -> None:
    """CLU-09: also to nodes that are nobody's neighbours, and none of them breaks."""
    async with cluster(6, directory=tmp_path, active_size=2, **BUSY) as nodes:

        def known(node: Node) -> int:
            return len({*node.active_view(), *node.passive_view()})

        await eventually(lambda: all(known(node) == 5 for node in nodes), timeout=20)
        assert all(len(node.members()) == 6 for node in nodes)


async def test_who_has_left_stays_out_until_it_joins_again(tmp_path: Path) -> None:
    """E2: every former neighbour is told, and the leaver's own subscribers are."""
    async with (
        cluster(4, directory=tmp_path, **BUSY) as nodes,
        AsyncExitStack() as all_,
    ):
        *others, leaver = nodes
        heard = [await all_.enter_async_context(n.events()) for n in others]
        mine = await all_.enter_async_context(leaver.events())
        await eventually(lambda: len(leaver.active_view()) == len(others))
        await leaver.leave()
        for stream in heard:
            await stream.until(lambda e: e == PeerDown(leaver.name, "left"), timeout=5)
        lost = {node.name for node in others}
        left = False
        while lost or not left:
            event = await mine.next(timeout=5)
            left = left or event == Left()
            if isinstance(event, PeerDown):
                lost.remove(event.node)  # KeyError: told twice.

        assert await others[0].connect(leaver) == leaver.name
        with pytest.raises(UnavailableError):
            await others[0].join(leaver, timeout=0.3)
        with pytest.raises(TimeoutError):
            await mine.until(lambda e: isinstance(e, PeerUp), timeout=1)
        assert leaver.active_view() == []
        assert leaver.name not in others[0].members()

        await leaver.join(others[1])
        await eventually(lambda: all(len(node.members()) == 4 for node in nodes))


async def test_every_pair_exchanges_messages_whoever_is_whose_peer(
    tmp_path: Path,
) -> None:
    """SOK-03: with two peers each, most pairs have no channel before they speak."""
    found: dict[str, Any] = {
        "discovery_backends": ("file",),
        "discovery_dir": str(tmp_path / "found"),
    }
    async with (
        cluster(7, directory=tmp_path, join=False, active_size=2, **found) as nodes,
        AsyncExitStack() as stack,
    ):
        first, *others = nodes
        for node in others:
            await node.join(first)
        assert max(len(node.active_view()) for node in nodes) <= 2
        boxes = {n: await stack.enter_async_context(n.mailbox()) for n in nodes}
        for one, other in permutations(nodes, 2):
            await one.send(boxes[other].pid, one.name)
        for node, box in boxes.items():
            told = [await box.receive(timeout=5) for _ in others]
            assert sorted(told) == sorted(n.name for n in nodes if n is not node)


async def test_a_node_that_nobody_answers_is_unreachable(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path, join=False) as (a, b):
        await b.stop()
        with pytest.raises(PeerUnreachable):
            async with asyncio.timeout(5):
                await a.join(b.name, timeout=2)

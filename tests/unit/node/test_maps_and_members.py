"""Maps of real nodes that are cut off, leave and come back in another life."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from barrel_p2p import MapPut, MapRemove
from barrel_p2p.testing import cluster, eventually, partition
from tests.unit.node.nodes import node as one_node

HERE: dict[str, Any] = {"prune_on_peer_down": True}


async def test_what_a_lost_node_wrote_is_hidden_and_comes_back_with_it(
    tmp_path: Path,
) -> None:
    maps = {"here": HERE, "kept": {}}
    async with cluster(3, directory=tmp_path, replicated_maps=maps) as nodes:
        a, _, c = nodes
        for node in nodes:
            await node.map_put("here", node.name, "is here")
            await node.map_put("kept", node.name, 1)
        everyone = {node.name for node in nodes}
        for node in nodes:
            for name in maps:
                await eventually(lambda: set(node.map_keys(name)) == everyone)  # noqa: B023
        async with a.map("here").changes() as told:
            with partition(c, nodes[:2], noticed=True):
                event = await told.next(timeout=10)
                assert event == MapRemove("here", c.name)
                assert set(a.map_keys("here")) == everyone - {c.name}
                assert set(a.map_keys("kept")) == everyone
                await eventually(lambda: set(c.map_keys("here")) == {c.name})
            event = await told.next(timeout=20)
            assert event == MapPut("here", c.name, "is here")
        for node in nodes:
            await eventually(lambda: set(node.map_keys("here")) == everyone)  # noqa: B023
        await c.leave()
        assert c.map_keys("here") == [c.name]
        await eventually(lambda: set(a.map_keys("here")) == everyone - {c.name})
        assert set(c.map_keys("kept")) == everyone


async def test_a_node_that_starts_again_brings_nothing_of_its_life_before(
    tmp_path: Path,
) -> None:
    settings: dict[str, Any] = {
        "replicated_maps": {"here": {**HERE, "persist": True}},
        "member_heartbeat_ms": 500,
        "member_ttl_ms": 2_000,
        "replica_anti_entropy_ms": 500,
    }
    async with one_node(tmp_path, "a@h", **settings) as a:
        here = a.map("here")
        async with one_node(tmp_path, "b@h", **settings) as b:
            await b.join(a.address)
            await b.map_put("here", "first life", 1)
            assert await here.wait_for("first life", timeout=5) == 1
        async with one_node(tmp_path, "b@h", **settings) as b:
            assert b.map_keys("here") == []
            await b.join(a.address)
            await b.map_put("here", "second life", 2)
            await here.wait_for("second life", timeout=5)
            await eventually(lambda: here.items() == [("second life", 2)])
            assert b.map_to_list("here") == [("second life", 2)]
        file = tmp_path / "b@h" / "maps" / "here.db"
        with closing(sqlite3.connect(file)) as store:
            # Nor does it keep what will never count again.
            assert store.execute("SELECT count(*) FROM entry").fetchall() == [(1,)]


async def test_two_halves_that_wrote_apart_end_with_the_same(tmp_path: Path) -> None:
    """D7: of two writes to a shared key one stays; of keys of one's own, every one."""
    async with cluster(2, directory=tmp_path, replicated_maps={"m": {}}) as (a, b):
        with partition(a, b, noticed=True):
            for n in range(20):
                for node in (a, b):
                    await node.map_put("m", n, (node.name, n))
                    await node.map_put("m", (node.name, n), n)
            assert a.map_get("m", 0) == (a.name, 0)
            assert b.map_get("m", 0) == (b.name, 0)
        await asyncio.gather(a.ready(timeout=20), b.ready(timeout=20))
        await eventually(
            lambda: dict(a.map_to_list("m")) == dict(b.map_to_list("m")), timeout=20
        )
        for node in (a, b):
            assert all(
                node.map_get("m", (o.name, n)) == n for o in (a, b) for n in range(20)
            )
        shared = [b.map_get("m", n) for n in range(20)]
        assert [n for _, n in shared] == list(range(20))
        # 40 writes to these keys were acknowledged, and half of them are superseded.
        assert {name for name, _ in shared} <= {a.name, b.name}

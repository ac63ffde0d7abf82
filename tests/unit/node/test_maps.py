"""Replicated maps of real nodes: written on one, read on all."""

from __future__ import annotations

from pathlib import Path

from barrel_p2p import (
    MapPut,
    MapRemove,
)
from barrel_p2p.testing import cluster, eventually


async def test_a_write_is_read_on_every_node(tmp_path: Path) -> None:
    """MAP-16, MAP-17."""
    async with cluster(2, directory=tmp_path) as (a, b):
        of_a, of_b = await a.new_map("flags"), await b.new_map("flags")
        async with of_b.changes() as told:
            await of_a.put("dark", True)
            assert a.map_get("flags", "dark") is True
            assert await told.next(timeout=5) == MapPut("flags", "dark", True)
            assert b.map_get("flags", "dark") is True
            await of_b.remove("dark")
            assert await told.next(timeout=5) == MapRemove("flags", "dark")
        await eventually(lambda: "dark" not in of_a)
        assert a.map_to_list("flags") == b.map_keys("flags") == []

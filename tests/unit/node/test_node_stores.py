"""What a node keeps on its disk is there in its next life."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrel_p2p import StoreCorrupt
from tests.unit.node.nodes import node


async def test_a_map_that_persists_is_there_after_a_restart(tmp_path: Path) -> None:
    async with node(tmp_path, "a@h") as first:
        flags = await first.new_map("flags/1", persist=True)
        await flags.put("dark", True)
        await flags.put("old", 1)
        await flags.remove("old")
    async with node(tmp_path, "a@h") as again:
        assert dict((await again.new_map("flags/1", persist=True)).items()) == {
            "dark": True
        }
    assert (tmp_path / "a@h" / "maps" / "flags%2F1.db").is_file()


async def test_a_damaged_map_is_refused_by_name_and_the_node_goes_on(
    tmp_path: Path,
) -> None:
    async with node(tmp_path, "a@h") as first:
        await (await first.new_map("flags", persist=True)).put("dark", True)
        await (await first.new_map("other", persist=True)).put("k", 1)
    (tmp_path / "a@h" / "maps" / "flags.db").write_bytes(b"")
    async with node(tmp_path, "a@h") as again:
        with pytest.raises(StoreCorrupt, match=r"flags\.db is damaged"):
            await again.new_map("flags", persist=True)
        assert (await again.new_map("other", persist=True)).get("k") == 1

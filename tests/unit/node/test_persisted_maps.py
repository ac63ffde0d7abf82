"""Maps that persist: what was acknowledged is there after a restart, nothing else."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p import (
    InvalidValue,
    MapPut,
    Node,
    NoSuchMap,
    Ref,
    StorageError,
    StoreCorrupt,
)
from barrel_p2p.services.map_owner import MapOwner
from barrel_p2p.testing import eventually
from tests.endpoints import within
from tests.unit.node.nodes import node

KEPT: dict[str, Any] = {
    "replicated_maps": {"m": {"persist": True}},
    "replica_anti_entropy_ms": 500,
}


def _owner(of: Node) -> MapOwner:
    assert of._parts is not None
    owner = of._parts.maps.owner("m")
    assert owner is not None
    return owner


async def test_what_was_put_and_removed_is_so_after_a_restart(tmp_path: Path) -> None:
    values = {"text": "ä", 5: [1, (2, {"x": None})], ("a", b"b"): {1, 2}, "f": 1.5}
    async with node(tmp_path, "a@h", **KEPT) as a:
        for key, value in values.items():
            await a.map_put("m", key, value)
        await a.map_put("m", "gone", 1)
        await a.map_remove("m", "gone")
    async with node(tmp_path, "a@h", **KEPT) as a:
        assert dict(a.map_to_list("m")) == values
        assert {type(v) for v in values.values()} == {
            type(v) for _, v in a.map_to_list("m")
        }
        gone = _owner(a).entries.entry("gone")
        assert gone is not None
        assert gone.is_tombstone
        # A write after the restart is later than all before.
        await a.map_put("m", "gone", 2)
        assert a.map_get("m", "gone") == 2


async def test_the_keys_of_all_are_everywhere_after_all_were_stopped(
    tmp_path: Path,
) -> None:
    """MAP-23."""
    both = {"of a": 1, "of b": 2}
    async with node(tmp_path, "a@h", **KEPT) as a, node(tmp_path, "b@h", **KEPT) as b:
        await a.join(b.address)
        await a.map_put("m", "of a", 1)
        await b.map_put("m", "of b", 2)
        await eventually(lambda: dict(a.map_to_list("m")) == both)
        await eventually(lambda: dict(b.map_to_list("m")) == both)
    async with node(tmp_path, "a@h", **KEPT) as a, node(tmp_path, "b@h", **KEPT) as b:
        assert dict(a.map_to_list("m")) == dict(b.map_to_list("m")) == both
        await a.map_put("m", "apart", 3)
        await a.join(b.address)
        await b.map("m").wait_for("apart", timeout=10)
        assert _owner(a).entries.digest() == _owner(b).entries.digest()


async def test_a_change_is_told_only_once_it_is_on_the_disk(tmp_path: Path) -> None:
    async with node(tmp_path, "a@h", **KEPT) as a:
        made = a.map("m")
        async with made.changes() as told:
            writing = asyncio.ensure_future(made.put("k", 1))
            await asyncio.sleep(0)
            # Handed to the disk: nobody reads it, nobody was told.
            assert "k" not in made
            assert await told.next(timeout=5) == MapPut("m", "k", 1)
            assert made["k"] == 1
            await within(writing)


async def test_a_writer_that_gives_up_does_not_take_the_write_back(
    tmp_path: Path,
) -> None:
    async with node(tmp_path, "a@h", **KEPT) as a:
        made = a.map("m")
        writing = asyncio.ensure_future(made.put("k", 1))
        await asyncio.sleep(0)
        writing.cancel()
        assert await made.wait_for("k", timeout=5) == 1


async def test_writes_of_many_at_once_end_in_the_order_of_their_stamps(
    tmp_path: Path,
) -> None:
    async with node(tmp_path, "a@h", **KEPT) as a:
        made = a.map("m")
        await asyncio.gather(*(made.put("k", n) for n in range(200)))
        assert made["k"] == 199
        await asyncio.gather(made.put("k", 1), made.remove("k"))
        assert "k" not in made
    async with node(tmp_path, "a@h", **KEPT) as a:
        assert a.map_to_list("m") == []


async def test_a_pid_is_kept_in_memory_and_never_on_disk(tmp_path: Path) -> None:

    async with (
        node(tmp_path, "a@h", **KEPT) as a,
        node(tmp_path, "b@h", replicated_maps={"m": {}}) as b,
    ):
        await b.join(a.address)
        async with a.mailbox() as me:
            bad: list[tuple[Any, Any]] = [
                ("k", me.pid),
                ("k", [{"x": (me.pid,)}]),
                ("k", {me.pid: 1}),
                ("k", Ref("a@h", 1, (1, 2, 3))),
                (me.pid, 1),
                (("x", me.pid), 1),
            ]
            for key, value in bad:
                with pytest.raises(InvalidValue):
                    await a.map_put("m", key, value)
            assert a.map_to_list("m") == []
            # Nor one that comes from a node which keeps nothing.
            await b.map_put("m", "pid", me.pid)
            await b.map_put("m", "text", "x")
            await a.map("m").wait_for("text", timeout=5)
            assert a.map_keys("m") == ["text"]
            assert _owner(a).refused >= 1


async def test_what_others_wrote_is_on_this_disk_too(tmp_path: Path) -> None:
    async with node(tmp_path, "a@h", **KEPT) as a:
        b = node(tmp_path, "b@h", **KEPT)
        async with b:
            await b.join(a.address)
            for n in range(100):
                await b.map_put("m", n, n)
            await b.map_remove("m", 0)
            await a.map("m").wait_for(99, timeout=5)
            await eventually(lambda: len(a.map_keys("m")) == 99)
    async with node(tmp_path, "a@h", **KEPT) as a:
        assert sorted(a.map_keys("m")) == list(range(1, 100))


async def test_a_removed_key_is_remembered_over_a_restart(tmp_path: Path) -> None:
    """D6: beyond the horizon, too. Who comes with the value later is told."""
    short = {"m": {"persist": True, "tombstone_ttl_ms": 0, "scan_ms": 20}}
    settings: dict[str, Any] = {"replicated_maps": short}
    async with node(tmp_path, "a@h", **settings) as a:
        await a.map_put("m", "k", "old")
        late = _owner(a).entries.snapshot()
        await a.map_remove("m", "k")
        await eventually(lambda: a.map("m").stats().remembered == 1)
        assert _owner(a).entries.snapshot() == {}
    async with node(tmp_path, "a@h", **settings) as a:
        await eventually(lambda: a.map("m").stats().remembered == 1)
        _owner(a).replica_apply_full_sync("m", late)
        assert a.map_keys("m") == []
        assert a.map("m").stats().told_again == 1


async def test_deleting_a_map_removes_its_file_open_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "a@h" / "maps"
    async with node(tmp_path, "a@h") as a:
        for name in ("open", "closed"):
            made = await a.new_map(name, persist=True)
            await made.put("k", 1)
        await a.delete_map("open")
        with pytest.raises(NoSuchMap):
            a.map("open")
        assert [path.name for path in folder.glob("*.db")] == ["closed.db"]
    async with node(tmp_path, "a@h") as a:
        await a.delete_map("closed")
        await a.delete_map("never there")
        assert list(folder.iterdir()) == []
        again = await a.new_map("closed", persist=True)
        assert again.items() == []


@contextmanager
def _no_file_grows() -> Iterator[None]:
    """Every write beyond a file's first page fails, as on a disk that gave up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_write_that_the_disk_refuses_changes_nothing(tmp_path: Path) -> None:
    """Reading goes on, what others write is seen, and all is kept once it is mended."""
    async with (
        node(tmp_path, "a@h", **KEPT) as a,
        node(tmp_path, "b@h", replicated_maps={"m": {}}) as b,
    ):
        await b.join(a.address)
        made = a.map("m")
        await made.put("k", 1)
        with _no_file_grows():
            async with made.changes() as told:
                for _ in range(2):
                    with pytest.raises(StorageError):
                        await made.put("k", 2)
                with pytest.raises(StorageError):
                    await made.remove("k")
                await b.map_put("m", "of b", 3)
                assert await told.next(timeout=5) == MapPut("m", "of b", 3)
            assert dict(made.items()) == {"k": 1, "of b": 3}
            assert made.stats().disk == "degraded"
            assert made.stats().fault
            assert b.map_get("m", "k") == 1
        await made.reopen()
        assert made.stats().disk == "open"
        await made.put("later", 4)
    async with node(tmp_path, "a@h", **KEPT) as a:
        assert dict(a.map_to_list("m")) | {"k": 1} == {"k": 1, "of b": 3, "later": 4}


async def test_a_damaged_file_is_no_empty_map(tmp_path: Path) -> None:
    async with node(tmp_path, "a@h", **KEPT) as a:
        for n in range(50):
            await a.map_put("m", n, "x" * 1_000)
    (file,) = (tmp_path / "a@h" / "maps").glob("*.db")
    data = bytearray(file.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    file.write_bytes(data)
    with pytest.raises(StoreCorrupt, match=r"m\.db"):
        await node(tmp_path, "a@h", **KEPT).start()

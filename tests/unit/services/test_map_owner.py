"""The owner of a map: what it takes, what it shows, and what it never lets back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from barrel_p2p import Busy, InvalidValue, MapPut, MapRemove, NotEncodable, StorageError
from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.core.ormap import TOMBSTONE, Entry, OrMap
from barrel_p2p.services import map_owner, map_removed, write_behind
from barrel_p2p.services.map_lives import REFUSE_MS, UNKNOWN_MS
from barrel_p2p.storage.replica_log import Log
from barrel_p2p.testing.nodes.disk import Fault, SimDisk, SimStores
from tests.map_net import MapNet, MapNode

HOUR_MS = 3_600_000


def _same_bytes(*nodes: MapNode) -> bool:
    return len({node.owner.entries.digest() for node in nodes}) == 1


async def test_an_event_is_told_when_readers_see_something_else() -> None:
    net = MapNet()
    a, b = net.add("a@h"), net.add("b@h")
    for value in (1, 1, True, [1], [True], [True], (1,), 1.0, 1):
        a.put("k", value)
    a.remove("k")
    a.remove("k")
    a.remove("never there")
    told = [1, True, [1], [True], (1,), 1.0, 1]
    assert a.events == [*(MapPut("m", "k", v) for v in told), MapRemove("m", "k")]
    b.hear(a)
    b.hear(a)
    assert b.events == []
    a.put("k", 2)
    b.hear(a)
    b.hear(a)
    assert b.events == [MapPut("m", "k", 2)]


async def test_the_later_of_two_writes_stays_on_both_nodes() -> None:
    """D7: the other one was acknowledged, and is superseded."""
    net = MapNet()
    a, b = net.add("a@h"), net.add("b@h")
    a.put("k", "of a")
    net.clock.advance(1)
    b.put("k", "of b")
    a.hear(b)
    b.hear(a)
    assert a.shown == b.shown == {"k": "of b"}
    assert a.events == [MapPut("m", "k", "of a"), MapPut("m", "k", "of b")]
    assert b.events == [MapPut("m", "k", "of b")]
    assert _same_bytes(a, b)


async def test_writes_of_one_turn_are_told_as_one_delta() -> None:
    net = MapNet()
    a = net.add("a@h")
    for n in range(100):
        a.put("k", n)
        a.put(n, n)
    assert a.written == []
    await asyncio.sleep(0)
    (delta,) = a.written
    assert {entry.key: entry.value for entry in delta.values()} == a.shown


async def test_six_malformed_deltas_are_dropped_and_a_good_one_is_not() -> None:
    """MAP-11: whatever a delta holds, the map and the clock are as they were."""
    net = MapNet()
    a, b = net.add("a@h"), net.add("b@h")
    a.put("good", 1)
    (good,) = a.owner.entries.snapshot().items()
    far = Entry("k", Timestamp(1 << 47, 0), "a@h", 1)
    malformed: list[Any] = [
        None,
        [("k", 1)],
        {"k": 1},
        {b"other bytes": good[1]},
        {good[0]: far},
        {good[0]: Entry(["no key"], good[1].stamp, "a@h", 1)},
    ]
    before = b.owner.entries.clock.now()
    for delta in malformed:
        b.owner.replica_merge_delta("m", delta)
        b.owner.replica_apply_full_sync("m", delta)
    assert b.shown == {}
    assert sum(b.owner.store.refused.values()) == 2 * len(malformed)
    assert b.owner.entries.clock.now().wall_ms == before.wall_ms
    b.owner.replica_merge_delta("m", dict([good]))
    assert b.shown == {"good": 1}


async def test_a_value_that_the_validator_refuses_is_taken_from_nobody() -> None:
    """MAP-09: nor one for which it raises."""
    net = MapNet()
    a = net.add("a@h")
    b = net.add("b@h", validator=lambda value: value % 2 == 0)
    for key, value in (("odd", 1), ("text", "x"), ("even", 2)):
        a.put(key, value)
    before = net.complaints.total
    b.hear(a)
    assert b.shown == {"even": 2}
    assert b.owner.refused == 2
    assert net.complaints.total == before + 2
    with pytest.raises(InvalidValue):
        b.put("odd", 1)
    assert b.owner.entries.entry("odd") is None


# Removed keys.


async def test_a_value_from_before_the_horizon_does_not_come_back() -> None:
    """D6: it was away for longer than the tombstone was told, and learns."""
    net = MapNet()
    a, b, late = net.add("a@h"), net.add("b@h"), net.add("late@h")
    a.put("k", "old")
    b.hear(a)
    late.hear(a)
    net.clock.advance(1)
    a.remove("k")
    b.hear(a)
    net.clock.advance(HOUR_MS)
    for node in (a, b):
        node.collect(HOUR_MS - 1)
        assert node.owner.entries.snapshot() == {}
    late.put("written away", 1)
    assert late.shown == {"k": "old", "written away": 1}

    a.hear(late)
    assert a.shown == {"written away": 1}
    assert a.owner.removed.revived == 1
    assert len(a.owner.entries.snapshot()) == 1
    await asyncio.sleep(0)
    net.gossip(a)
    assert late.shown == a.shown
    assert late.events[-1] == MapRemove("m", "k")
    b.hear(late)
    assert b.shown == a.shown
    assert b.events.count(MapPut("m", "k", "old")) == 1
    late.collect(HOUR_MS - 1)
    assert _same_bytes(a, b, late)


async def test_nodes_that_forget_at_different_times_do_not_teach_each_other() -> None:
    net = MapNet()
    a, b = net.add("a@h"), net.add("b@h")
    a.put("k", 1)
    a.remove("k")
    b.hear(a)
    net.clock.advance(1)
    a.collect()
    a.hear(b)
    assert a.owner.entries.snapshot() == {}
    net.clock.advance(1)
    a.put("k", 2)
    b.hear(a)
    a.hear(b)
    assert a.shown == b.shown == {"k": 2}


async def test_what_can_not_be_remembered_is_refused_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D6: more keys were removed than are remembered; what may be one is refused."""
    monkeypatch.setattr(map_removed, "ASIDE_MAX", 10)
    net = MapNet()
    a, late = net.add("a@h"), net.add("late@h")
    for n in range(20):
        a.put(n, n)
    late.hear(a)
    net.clock.advance(1)
    for n in range(20):
        a.remove(n)
    net.clock.advance(HOUR_MS)
    a.collect(HOUR_MS - 1)
    assert len(a.owner.removed.aside) == 10
    late.put("new", 1)
    before = net.complaints.total
    a.hear(late)
    assert a.shown == {"new": 1}
    assert a.owner.removed.refused == 10
    assert a.owner.removed.revived == 10
    assert net.complaints.total > before


# What is on disk.


async def _opened(net: MapNet, disk: SimDisk) -> Log:
    return await SimStores(disk, HLC(net.clock)).open(Path("m.db"), store="map/m")


async def _restarted(net: MapNet, disk: SimDisk, log: Log) -> MapNode:
    await log.close()
    net.clock.advance(1)
    return net.add("a@h", log=await _opened(net, disk))


async def _written(*writes: asyncio.Future[None] | None) -> None:
    await asyncio.gather(*(write for write in writes if write is not None))


async def test_a_write_is_kept_while_what_was_removed_before_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D3: the row of a removed key is let go just as the key is written anew."""
    monkeypatch.setattr(map_removed, "ASIDE_MAX", 2)
    net, disk = MapNet(persist=True), SimDisk()
    log = await _opened(net, disk)
    a = net.add("a@h", log=log)
    for key in ("k", "other"):
        await _written(a.owner.remove(key))
        net.clock.advance(1)
    a.collect()
    assert len(a.owner.removed.aside) == 2
    await _written(a.owner.remove("last"))
    net.clock.advance(1)
    writes = [a.owner.put("k", n) for n in range(2)]
    a.collect()
    await _written(*writes)
    assert a.shown == {"k": 1}
    await log.sync()
    again = await _restarted(net, disk, log)
    assert again.shown == {"k": 1}


async def _with_a_tombstone_that_is_nowhere_on_disk(
    fault: Fault,
) -> tuple[MapNet, SimDisk, Log, MapNode]:
    net, disk = MapNet(persist=True), SimDisk(Random(1))
    log = await _opened(net, disk)
    a, b = net.add("a@h", log=log), net.add("b@h", log=await _opened(net, SimDisk()))
    await _written(a.owner.put("k", "old"))
    b.hear(a)
    disk.fault = fault
    net.clock.advance(1)
    await _written(b.owner.remove("k"))
    a.hear(b)
    assert a.shown == {}
    with pytest.raises(StorageError):
        await log.sync()
    net.clock.advance(1)
    a.collect()
    assert a.owner.entries.snapshot() == {}
    return net, disk, log, a


async def _mended(disk: SimDisk, log: Log, node: MapNode, *, reopens: bool) -> None:
    disk.fault = None
    if reopens:
        await node.owner.reopen()
    else:
        await log.sync()
        node.collect()
    assert log.state == "open"
    await log.sync()


@pytest.mark.parametrize(
    ("fault", "reopens"), [("broken", True), ("full", True), ("full", False)]
)
async def test_a_key_that_was_removed_while_the_disk_failed_stays_removed(
    fault: Fault, reopens: bool
) -> None:
    """D6: its tombstone is told no more when the disk takes writes again."""
    net, disk, log, a = await _with_a_tombstone_that_is_nowhere_on_disk(fault)
    assert len(a.owner.removed.aside) == 1
    await _mended(disk, log, a, reopens=reopens)
    again = await _restarted(net, disk, log)
    assert again.shown == {}
    assert again.owner.stats().removed == 1


@pytest.mark.parametrize(
    ("fault", "reopens"), [("broken", True), ("full", True), ("full", False)]
)
async def test_a_removal_that_was_forgotten_while_the_disk_failed_stays(
    monkeypatch: pytest.MonkeyPatch, fault: Fault, reopens: bool
) -> None:
    """D6: nothing but the row of the value says that there was such a key."""
    monkeypatch.setattr(map_removed, "ASIDE_MAX", 0)
    net, disk, log, a = await _with_a_tombstone_that_is_nowhere_on_disk(fault)
    assert a.owner.removed.aside == {}
    await _mended(disk, log, a, reopens=reopens)
    again = await _restarted(net, disk, log)
    assert again.shown == {}


async def test_a_write_that_fails_leaves_the_removal_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The row that was not let go for its sake is let go later."""
    monkeypatch.setattr(map_removed, "ASIDE_MAX", 0)
    net, disk = MapNet(persist=True), SimDisk()
    log = await _opened(net, disk)
    a = net.add("a@h", log=log)
    await _written(a.owner.remove("k"))
    net.clock.advance(1)
    disk.fault = "full"
    write = a.owner.put("k", 1)
    a.collect()
    with pytest.raises(StorageError):
        await _written(write)
    await _mended(disk, log, a, reopens=False)
    again = await _restarted(net, disk, log)
    assert again.owner.entries.snapshot() == {}


async def test_what_can_not_be_remembered_is_refused_after_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D6: as many removals are left as are remembered, so there may have been more."""
    monkeypatch.setattr(map_removed, "ASIDE_MAX", 2)
    net, disk = MapNet(persist=True, tombstone_ttl_ms=HOUR_MS), SimDisk()
    log = await _opened(net, disk)
    a, late = net.add("a@h", log=log), net.add("b@h", log=await _opened(net, SimDisk()))
    await _written(late.owner.put("k", "old"))
    a.hear(late)
    for key in ("k", "second", "third"):
        net.clock.advance(1)
        await _written(a.owner.remove(key))
    net.clock.advance(HOUR_MS)
    a.collect(HOUR_MS - 1)
    assert len(a.owner.removed.aside) == 2
    await log.sync()
    again = await _restarted(net, disk, log)
    again.hear(late)
    assert again.shown == {}
    assert again.owner.stats().refused_old == 1
    await _written(late.owner.put("new", 1))
    again.hear(late)
    assert again.shown == {"new": 1}


async def test_removals_that_are_still_told_have_nothing_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None of so many was forgotten: what is older was never removed here."""
    monkeypatch.setattr(map_removed, "ASIDE_MAX", 2)
    net, disk = MapNet(persist=True, tombstone_ttl_ms=HOUR_MS), SimDisk()
    log = await _opened(net, disk)
    a, late = net.add("a@h", log=log), net.add("b@h", log=await _opened(net, SimDisk()))
    await _written(late.owner.put("k", "unseen"))
    for n in range(10):
        net.clock.advance(1)
        await _written(a.owner.remove(n))
    again = await _restarted(net, disk, log)
    again.hear(late)
    assert again.shown == {"k": "unseen"}


async def test_writes_that_wait_for_the_disk_count_among_those_of_a_full_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(map_owner, "STORE_ENTRIES_MAX", 10)
    net = MapNet(persist=True)
    a = net.add("a@h", log=await _opened(net, SimDisk()))
    writes = [a.owner.put(n, n) for n in range(5)]
    writes += [a.owner.remove(n) for n in range(5, 10)]
    with pytest.raises(Busy, match="STORE_ENTRIES_MAX=10"):
        a.owner.put(10, 10)
    with pytest.raises(Busy, match="STORE_ENTRIES_MAX=10"):
        a.owner.remove(10)
    await _written(*writes)
    assert a.owner.stats().keys + a.owner.stats().removed == 10


@pytest.mark.parametrize(
    ("fault", "reopens"), [("broken", True), ("full", True), ("full", False)]
)
async def test_what_a_failed_disk_lacks_is_kept_in_mind_within_bounds(
    monkeypatch: pytest.MonkeyPatch, fault: Fault, reopens: bool
) -> None:
    """D6: others write and remove for long, and all there is is on disk at the end."""
    monkeypatch.setattr(map_removed, "ASIDE_MAX", 2)
    monkeypatch.setattr(write_behind, "UNKEPT_MAX", 20)
    net, disk, log, a = await _with_a_tombstone_that_is_nowhere_on_disk(fault)
    b = OrMap("b@h", HLC(net.clock))
    for n in range(100):
        for delta in (b.add(n, n), b.add(("gone", n), n), b.remove(("gone", n))):
            a.owner.replica_merge_delta("m", delta)
        with pytest.raises(StorageError):
            await log.sync()
        net.clock.advance(1)
        a.collect()
        assert a.owner._rows is not None
        assert a.owner._rows.unkept <= 20
    assert len(a.owner.removed.aside) == 2
    await _mended(disk, log, a, reopens=reopens)
    again = await _restarted(net, disk, log)
    assert again.shown == {n: n for n in range(100)}
    assert again.owner.stats().removed == 2


# Entries that go with their writers.


def _presence() -> tuple[MapNet, MapNode, MapNode, MapNode]:
    net = MapNet(prune_on_peer_down=True)
    a, b, c = (net.add(f"{x}@h") for x in "abc")
    net.acquaint(a, b, c)
    a.put("at a", 1)
    for node in (b, c):
        node.hear(a)
        assert node.shown == {"at a": 1}
    return net, a, b, c


async def test_what_the_dead_wrote_is_hidden_and_shown_when_they_are_not() -> None:
    _, a, b, c = _presence()
    b.member_dead("a@h")
    assert b.shown == {}
    assert len(b.owner.entries) == 1
    b.hear(c)
    assert b.shown == {}
    b.member_up("a@h")
    assert b.shown == {"at a": 1}
    put = MapPut("m", "at a", 1)
    assert b.events == [put, MapRemove("m", "at a"), put]
    assert c.shown == a.shown == b.shown


async def test_what_the_gone_wrote_is_dropped_and_no_laggard_brings_it_back() -> None:
    net, _, b, c = _presence()
    b.member_dead("a@h")
    b.member_gone("a@h")
    assert b.owner.entries.snapshot() == {}
    b.hear(c)
    assert b.owner.entries.snapshot() == {}
    assert b.events[-1] == MapRemove("m", "at a")
    # When that is no longer remembered, it is held unseen, and dropped again.
    net.clock.advance(REFUSE_MS)
    b.lives.sweep(net.clock.now_ms())
    b.hear(c)
    assert b.shown == {}
    b.collect(HOUR_MS)
    assert len(b.owner.entries) == 1
    net.clock.advance(UNKNOWN_MS)
    b.collect(HOUR_MS)
    assert b.owner.entries.snapshot() == {}
    assert b.events[-1] == MapRemove("m", "at a")
    # And so that c, which holds it for longer, cannot keep b at it for ever.
    b.hear(c)
    assert b.owner.entries.snapshot() == {}


async def test_a_verdict_that_was_wrong_is_undone_even_when_it_was_final() -> None:
    _, a, b, c = _presence()
    b.member_dead("a@h")
    b.member_gone("a@h")
    assert b.member_up("a@h")  # So that b asks its neighbours.
    b.hear(a)
    assert b.shown == {"at a": 1}
    assert _same_bytes(a, b, c)


async def test_a_later_life_brings_nothing_of_the_one_before() -> None:
    net, _, b, c = _presence()
    again = net.add("a@h", creation=2)
    again.hear(c)
    assert again.owner.entries.snapshot() == {}
    b.member_dead("a@h")
    b.member_up("a@h", 2)
    assert b.shown == {}
    assert b.owner.entries.snapshot() == {}
    again.put("at a", 2)
    b.hear(again)
    b.hear(c)
    assert b.shown == {"at a": 2}
    b.member_gone("a@h", 1)
    assert b.shown == {"at a": 2}


async def test_only_the_last_writer_counts() -> None:
    net, _, b, c = _presence()
    net.clock.advance(1)
    b.put("at a", "taken over")
    c.hear(b)
    c.member_dead("a@h")
    c.member_gone("a@h")
    assert c.shown == {"at a": "taken over"}
    c.member_dead("b@h")
    assert c.shown == {}


async def test_a_removal_by_the_dead_still_counts() -> None:
    net, a, b, c = _presence()
    net.clock.advance(1)
    b.remove("at a")
    c.hear(b)
    c.member_dead("b@h")
    c.member_gone("b@h")
    c.hear(a)
    assert c.shown == {}


async def test_a_value_that_names_no_life_is_refused() -> None:
    net = MapNet(prune_on_peer_down=True)
    b = net.add("b@h")
    b.member_up("a@h")
    writer = OrMap("a@h", HLC(net.clock))
    for value in ("plain", (0, 1), (1 << 32, 1), (True, 1), (1,), [1, 2]):
        b.owner.replica_merge_delta("m", writer.add("k", value))
    assert b.owner.entries.snapshot() == {}
    assert b.owner.refused == 6
    b.owner.replica_merge_delta("m", writer.add("k", (1, "x")))
    assert b.shown == {"k": "x"}


def test_a_tombstone_is_no_value() -> None:
    net = MapNet()
    a = net.add("a@h")
    with pytest.raises(NotEncodable):
        a.put("k", TOMBSTONE)

"""What a member says about reminders is checked, and costs nobody else theirs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.core.ormap import TOMBSTONE, Delta, Entry
from barrel_p2p.core.terms import Pid, Ref
from barrel_p2p.errors import ClockDrift, InvalidValue
from barrel_p2p.services.reminder_store import REPLICA_NAME
from barrel_p2p.wire.terms import key_bytes
from tests.endpoints import eventually, within
from tests.unit.node.nodes import node

EVIL = "evil@h"
SOON = time.time_ns() // 1_000_000 + 3_600_000

pytestmark = pytest.mark.timeout(60)


def delta(*values: object, key: object = "k", wall_ms: int | None = None) -> Delta:
    stamp = Timestamp(wall_ms or time.time_ns() // 1_000_000, 0)
    named = {}
    for number, value in enumerate(values):
        name = (key, number) if key == "k" else key
        named[key_bytes(name)] = Entry(name, stamp, EVIL, value)
    return named


BAD = [
    None,
    "soon",
    (),
    (SOON,),
    [SOON, "list"],
    ("soon", "x"),
    (True, "x"),
    (-1, "x"),
    (1 << 70, "x"),
    (SOON, "x", 1, 0),
    (SOON, "x", 1_000, 3),
    (SOON, "x", 1_000),
    (SOON, "x", 1_000, 0, 5),
    (SOON, Pid(EVIL, 1, 1)),
    (SOON, {"deep": [Ref(EVIL, 1, (1,))]}),
]


async def test_malformed_gossip_is_dropped_and_a_good_reminder_fires(
    tmp_path: Path,
) -> None:
    """REM-08: neither reminders nor the clock are touched, by delta or by sync."""
    async with node(tmp_path, "a@127.0.0.1") as a, a.reminders() as stream:
        await a.remind_after("mine", 3_600_000, "kept")
        room = a._overlay().reminders
        store: Any = room._store
        bad: list[Any] = [
            delta(*BAD),
            delta((SOON, "far"), wall_ms=time.time_ns() // 1_000_000 + 10**9),
            delta((SOON, "no")),
            {b"not the key": Entry("k", Timestamp(1, 0), EVIL, (SOON, "x"))},
            {"k": "v"},
            {},
            b"\xff",
            None,
            7,
        ]
        bad[2] = {b"another": next(iter(bad[2].values()))}
        before = a.hlc.now()
        for payload in bad:
            store.replica_merge_delta(REPLICA_NAME, payload)
            assert store.replica_apply_full_sync(REPLICA_NAME, payload) is False
        assert [entry.key for entry in a.list_reminders()] == ["mine"]
        assert a.hlc.now().wall_ms - before.wall_ms < 60_000
        assert room.stats().refused >= 2 * len(BAD)
        good = delta((time.time_ns() // 1_000_000, "from afar"), key="good")
        store.replica_merge_delta(REPLICA_NAME, good)
        event: Any = await within(stream.next())
        assert (event.key, event.payload) == ("good", "from afar")


async def test_stamps_at_the_ends_of_their_range_fire_too(tmp_path: Path) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a, a.reminders() as stream:
        store: Any = a._overlay().reminders._store
        for number, counter in enumerate((0, 8_191, 8_192, (1 << 32) - 1)):
            for wall_ms in (0, 1, 1_700_000_000_000):
                name = ("odd", number, wall_ms)
                stamp = Timestamp(wall_ms, counter)
                for value in ((5, "x"), (5, "x", 366 * 86_400_000, 1)):
                    entry = Entry(name, stamp, EVIL, value)
                    store.replica_merge_delta(REPLICA_NAME, {key_bytes(name): entry})
        for _ in range(4 * 3):
            event: Any = await within(stream.next())
            assert 0 < event.fence < 1 << 63


async def test_a_tombstone_of_one_firing_takes_nothing_that_is_newer(
    tmp_path: Path,
) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:
        store: Any = a._overlay().reminders._store
        await a.remind_after("k", 3_600_000, "old")
        old = store.entries.entry("k")
        await a.remind_after("k", 3_600_000, "new")
        gone = Entry("k", old.stamp, old.node, TOMBSTONE)
        store.replica_merge_delta(REPLICA_NAME, {key_bytes("k"): gone})
        assert [entry.payload for entry in a.list_reminders()] == ["new"]


async def test_no_entry_keeps_a_node_from_starting_again(tmp_path: Path) -> None:
    """What comes again every 100 ms since 1970 would go on with a stamp of 2083."""
    wall_ms = time.time_ns() // 1_000_000
    async with node(tmp_path, "a@127.0.0.1") as a, a.reminders():
        room = a._overlay().reminders
        store: Any = room._store
        evil = delta((0, "x", 100, 2), key="evil")
        store.replica_merge_delta(REPLICA_NAME, evil)
        assert a.list_reminders() == []
        assert room.stats().refused == 1
        with pytest.raises(InvalidValue, match="FIRST_BEFORE_MS_MAX"):
            await room.remind("evil", (0, "x", 100, 2))
        far = Timestamp(wall_ms + 10**9, 0)
        ahead = Entry("far", far, EVIL, (SOON, "x", 1_000, 2))
        with pytest.raises(ClockDrift):
            store.put(key_bytes("far"), ahead)
        await a.remind_after("mine", 3_600_000)
    async with node(tmp_path, "a@127.0.0.1") as a:
        assert [entry.key for entry in a.list_reminders()] == ["mine"]


async def test_what_may_not_be_followed_yet_waits_and_is_counted(
    tmp_path: Path,
) -> None:
    """As far as its first time lay before its stamp, its next stamp is ahead."""
    wall_ms = time.time_ns() // 1_000_000
    async with node(tmp_path, "a@127.0.0.1") as a, a.reminders() as stream:
        room = a._overlay().reminders
        store: Any = room._store
        stamp = Timestamp(wall_ms - 524_287 * 1_000, 524_287 * 8_192)
        first_ms = stamp.wall_ms - 3_000_000
        entry = Entry("k", stamp, EVIL, (first_ms, "x", 1_000, 2))
        store.replica_merge_delta(REPLICA_NAME, {key_bytes("k"): entry})
        await eventually(lambda: room.stats().not_durable > 0)
        assert [each.key for each in a.list_reminders()] == ["k"]
        await a.remind_after("mine", 0)
        event: Any = await within(stream.next())
        assert event.key == "mine"


async def test_a_key_that_cannot_be_kept_keeps_no_other_from_the_disk(
    tmp_path: Path,
) -> None:
    """Tombstones too: they have no value, but a key."""
    evil = delta(TOMBSTONE, key=("x", Pid(EVIL, 5, 7)))
    good = delta((SOON, "kept"), key="good")
    also = delta((SOON, "kept"), key="also")
    async with node(tmp_path, "a@127.0.0.1") as a:
        room = a._overlay().reminders
        store: Any = room._store
        store.replica_merge_delta(REPLICA_NAME, {**evil, **good})
        assert store.entries.tombstones == 0
        assert room.stats().refused == 1
        # If one came to be held nonetheless, it would be left out alone.
        store.entries.merge(evil | also)
        store._rows.keep(evil | also)
        assert store._rows.unkept == 0
    async with node(tmp_path, "a@127.0.0.1") as a:
        keys = {entry.key for entry in a.list_reminders()}
        assert keys == {"good", "also"}

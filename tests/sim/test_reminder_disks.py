"""Reminders on disks that fail: the caller is told, and nothing is fired untold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.core.ormap import TOMBSTONE, Entry
from barrel_p2p.errors import Degraded, StoreFull
from barrel_p2p.services.reminder_store import REPLICA_NAME
from barrel_p2p.storage.rows import decode_row
from barrel_p2p.testing.nodes.stages import SimNode
from barrel_p2p.testing.nodes.world import World
from barrel_p2p.wire.terms import key_bytes

type Course = Callable[[SimNode, list[Any]], Awaitable[None]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(1, nodes=1, directory=tmp_path) as made:
        yield made


async def virtual(seconds: float) -> None:
    await asyncio.sleep(seconds)  # not synchronisation: the time is virtual


def run(world: World, course: Course) -> None:
    """``course`` on a node that is alone and hears its reminders."""

    async def whole() -> None:
        await world.start(0)
        told: list[Any] = []

        async def hear() -> None:
            async for event in world.node(0).reminders():
                told.append(event)

        world.spawn(0, hear())
        await virtual(10)
        await world.on(0, _on(course, world.node(0), told))
        await world.stop(0)

    async def _on(course: Course, node: SimNode, told: list[Any]) -> None:
        await course(node, told)

    world.loop.run(whole())


def test_a_disk_that_fails_refuses_and_fires_nothing_until_it_is_reopened(
    world: World,
) -> None:
    disk = world.machines[0].disk

    async def course(node: SimNode, told: list[Any]) -> None:
        await node.remind_after("due", 1_000, "x")
        disk.fault = "broken"
        with pytest.raises(Degraded):
            await node.remind_after("refused", 10)
        await virtual(10)
        assert told == []
        assert [entry.key for entry in node.list_reminders()] == ["due"]
        disk.fault = None
        await virtual(10)
        assert told == []
        await node.reopen_reminders()
        await virtual(5)
        # What a failing flush was given may have been written all the same.
        assert {event.key for event in told} in ({"due"}, {"due", "refused"})
        await node.remind_after("again", 10)
        await virtual(5)
        assert told[-1].key == "again"
        assert node.list_reminders() == []

    run(world, course)


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(world: World) -> None:
    disk = world.machines[0].disk

    async def course(node: SimNode, told: list[Any]) -> None:
        await node.remind_after("due", 1_000, "x")
        disk.fault = "full"
        with pytest.raises(StoreFull):
            await node.remind_after("refused", 10)
        with pytest.raises(StoreFull):
            await node.cancel_reminder("due")
        await virtual(5)
        assert told == []
        disk.fault = None
        await virtual(5)
        assert [event.key for event in told] == ["due"]

    run(world, course)


def test_what_others_wrote_while_the_disk_was_full_is_kept_later(
    world: World,
) -> None:
    machine = world.machines[0]

    async def course(node: SimNode, told: list[Any]) -> None:
        store: Any = node.parts.reminders._store
        at_ms = machine.clock.wall_ms() + 3_600_000
        stamp = Timestamp(machine.clock.wall_ms(), 0)
        machine.disk.fault = "full"
        for key in ("one", "two"):
            entry = Entry(key, stamp, "far@sim", (at_ms, None))
            store.replica_merge_delta(REPLICA_NAME, {key_bytes(key): entry})
        await virtual(1)
        assert len(node.list_reminders()) == 2
        machine.disk.fault = None
        await node.remind("three", at_ms)
        store.replica_collect(REPLICA_NAME, 0)
        await virtual(1)
        kept = machine.disk.files["reminders/reminders.db"].rows
        assert {key_bytes(key) for key in ("one", "two", "three")} == set(kept)

    run(world, course)


def test_what_has_fired_goes_from_disk_after_the_horizon_and_what_is_new_stays(
    world: World,
) -> None:
    machine = world.machines[0]

    async def course(node: SimNode, told: list[Any]) -> None:
        store: Any = node.parts.reminders._store
        for key in range(20):
            await node.remind_after(key, 100)
        await virtual(5)
        assert len(told) == 20
        kept = machine.disk.files["reminders/reminders.db"].rows
        assert len(kept) == 20
        await virtual(3_601)
        again = asyncio.ensure_future(node.remind_after(7, 3_600_000))
        await asyncio.sleep(0)
        store.replica_collect(REPLICA_NAME, 0)
        await again
        await virtual(1)
        store.replica_collect(REPLICA_NAME, 0)
        await virtual(1)
        assert set(kept) == {key_bytes(7)}
        assert [entry.key for entry in node.list_reminders()] == [7]

    run(world, course)


@pytest.mark.parametrize("fault", ["full", "broken"])
def test_what_others_fired_while_the_disk_failed_does_not_come_back(
    world: World, fault: Any
) -> None:
    """Not even where its firing was put aside before the disk took writes again."""
    machine = world.machines[0]

    async def course(node: SimNode, told: list[Any]) -> None:
        store: Any = node.parts.reminders._store
        at_ms = machine.clock.wall_ms() + 7_200_000
        await node.remind("k", at_ms)
        machine.disk.fault = fault
        held = store.entries.entry("k")
        ended = Entry("k", held.stamp, "zz@sim", TOMBSTONE)
        store.replica_merge_delta(REPLICA_NAME, {key_bytes("k"): ended})
        await virtual(3_601)
        store.replica_collect(REPLICA_NAME, 0)
        await virtual(1)
        machine.disk.fault = None
        await node.reopen_reminders()
        store.replica_collect(REPLICA_NAME, 0)
        await virtual(1)
        assert node.list_reminders() == []
        kept = machine.disk.files["reminders/reminders.db"].rows.values()
        assert all(decode_row(row, {}).is_tombstone for row in kept)
        await virtual(7_200)
        assert told == []

    run(world, course)

"""A simulated disk keeps what it acknowledged, and what it did not only by chance."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from barrel_p2p import (
    BarrelError,
    Degraded,
    InvalidValue,
    Pid,
    StorageError,
    StoreFull,
)
from barrel_p2p.testing.nodes.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(7, nodes=2, directory=tmp_path) as made:
        yield made
        assert made.wrong == []


async def _put(world: World, key: object, value: object) -> None:
    node = world.node(0)
    opened = await node.new_map("m", persist=True)
    await opened.put(key, value)


async def _refused(world: World, value: object, error: type[BarrelError]) -> None:
    with pytest.raises(error):
        await _put(world, "k", value)


def test_a_map_is_there_in_the_next_life(world: World) -> None:
    async def lives() -> None:
        await world.start(0)
        for number in range(20):
            await world.on(0, _put(world, number, {"n": number}))
        world.crash(0)
        await world.settle_tasks()
        await world.start(0)
        again = await world.on(0, world.node(0).new_map("m", persist=True))
        assert dict(again.items()) == {n: {"n": n} for n in range(20)}
        before = world.node(0).hlc.now()
        await world.stop(0)
        world.machines[0].clock.step_ms -= 100_000
        await world.start(0)
        assert world.node(0).hlc.now() > before

    world.loop.run(lives())


def test_a_write_that_waits_at_a_crash_is_there_or_is_not(world: World) -> None:
    async def lives() -> list[bool]:
        kept = []
        for number in range(40):
            await world.start(0)
            await world.on(0, world.node(0).new_map("m", persist=True))
            world.spawn(0, _put(world, number, number))
            seconds = world.random.uniform(0, 0.02)
            await asyncio.sleep(seconds)  # not synchronisation: the time is virtual
            acknowledged = world.node(0).map_get("m", number) is not None
            world.crash(0)
            await world.settle_tasks()
            await world.start(0)
            found = await world.on(0, world.node(0).new_map("m", persist=True))
            there = found.get(number) is not None
            assert there or not acknowledged
            if not acknowledged:
                kept.append(there)
            await world.stop(0)
        return kept

    kept = world.loop.run(lives())
    assert len(set(kept)) == 2, "both happen"


def test_a_full_and_a_broken_disk_are_told_to_the_writer(world: World) -> None:
    async def lives() -> None:
        await world.start(0)
        disk = world.machines[0].disk
        await world.on(0, _put(world, "k", 1))
        log = world.node(0).parts.stores.opened()[-1]
        disk.fault = "full"
        await world.on(0, _refused(world, 2, StoreFull))
        assert "no space" in str(log.fault)
        disk.fault = None
        await world.on(0, _put(world, "k", 3))
        assert log.fault is None
        disk.fault = "broken"
        for _ in range(2):
            await world.on(0, _refused(world, 4, Degraded))
        assert world.node(0).map_get("m", "k") == 3
        with pytest.raises(StorageError):
            await log.reopen()
        disk.fault = None
        await log.reopen()
        await world.on(0, _put(world, "k", 5))
        await world.on(0, _refused(world, Pid("a@h", 1, 1), InvalidValue))
        await world.stop(0)

    world.loop.run(lives())

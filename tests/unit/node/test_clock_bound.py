"""The hybrid clock goes on over a restart, and its bound is stored before it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.errors import StorageError
from barrel_p2p.node.clock_bound import LEAD_MS, ClockBound, clock_bound
from barrel_p2p.storage.files import write_atomic
from barrel_p2p.testing import eventually
from tests.unit.node.nodes import node

START_MS = 1_790_000_000_000


class Wall:
    """A wall clock that somebody sets."""

    def __init__(self) -> None:
        self.ms = START_MS

    def wall_ms(self) -> int:
        return self.ms


@pytest.fixture
def disk() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def life(
    directory: Path, wall: Wall, disk: Executor
) -> AbstractAsyncContextManager[HLC]:
    return clock_bound(
        directory / "hlc_bound", node="a@h", clock=wall, disk=disk, max_drift_ms=60_000
    )


def stored_ms(directory: Path) -> int:
    return int((directory / "hlc_bound").read_bytes().split()[0])


def is_above(directory: Path, bound_ms: int) -> bool:
    return stored_ms(directory) > bound_ms


async def test_stamps_grow_over_restarts_though_the_wall_is_set_back(
    tmp_path: Path, disk: Executor
) -> None:
    """D5: strictly increasing per node over any wall-clock behaviour."""
    wall, last = Wall(), Timestamp(0, 0)
    for step_ms in (0, -3_600_000, -1, 86_400_000, -86_400_000):
        wall.ms += step_ms
        async with life(tmp_path, wall, disk) as hlc:
            for _ in range(3):
                stamp = hlc.now()
                assert stamp > last
                last = stamp


async def test_a_life_that_was_killed_is_followed_by_greater_stamps(
    tmp_path: Path, disk: Executor
) -> None:
    wall = Wall()
    async with life(tmp_path, wall, disk) as hlc:
        wall.ms += 3_600_000  # Seen at once, and further than any bound that is stored.
        last = hlc.now()
        assert last.wall_ms < stored_ms(tmp_path)
        killed = (tmp_path / "hlc_bound").read_bytes()
    (tmp_path / "hlc_bound").write_bytes(killed)
    wall.ms = START_MS
    async with life(tmp_path, wall, disk) as again:
        assert again.now() > last


async def test_the_bound_is_on_the_disk_before_the_clock_is_there(
    tmp_path: Path, disk: Executor
) -> None:
    wall = Wall()
    async with life(tmp_path, wall, disk) as hlc:
        for _ in range(5):
            wall.ms += 10_000
            assert hlc.now().wall_ms < stored_ms(tmp_path)
            before = stored_ms(tmp_path)
            await eventually(partial(is_above, tmp_path, before))
        await eventually(lambda: hlc.now().wall_ms == wall.ms)


async def test_a_peer_that_pushes_the_clock_moves_the_bound(
    tmp_path: Path, disk: Executor
) -> None:
    wall = Wall()
    async with life(tmp_path, wall, disk) as hlc:
        hlc.update(Timestamp(START_MS + 50_000, 0))
        await eventually(lambda: stored_ms(tmp_path) > START_MS + 50_000)


async def test_an_orderly_stop_leaves_no_lead(tmp_path: Path, disk: Executor) -> None:
    wall = Wall()
    for _ in range(50):
        async with life(tmp_path, wall, disk) as hlc:
            assert hlc.now().wall_ms == START_MS


async def test_killed_again_and_again_the_clock_does_not_run_away(
    tmp_path: Path, disk: Executor
) -> None:
    wall = Wall()
    for _ in range(50):
        async with life(tmp_path, wall, disk) as hlc:
            ahead_ms = hlc.now().wall_ms - START_MS
            killed = (tmp_path / "hlc_bound").read_bytes()
        (tmp_path / "hlc_bound").write_bytes(killed)
    assert ahead_ms <= 2 * LEAD_MS


async def test_a_disk_that_refuses_does_not_stop_the_clock(
    tmp_path: Path, disk: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    wall = Wall()
    directory = tmp_path / "gone"
    directory.mkdir()
    async with life(directory, wall, disk) as hlc:
        (directory / "hlc_bound").unlink()
        directory.rmdir()
        wall.ms += 3_600_000
        await eventually(lambda: hlc.now().wall_ms == wall.ms)
        assert "a restart may stamp behind" in caplog.text


async def test_a_clock_that_was_set_far_back_is_told(
    tmp_path: Path, disk: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    write_atomic(tmp_path / "hlc_bound", b"1790000100000 5\n")
    with caplog.at_level(logging.WARNING):
        async with life(tmp_path, Wall(), disk) as hlc:
            assert hlc.now() == Timestamp(1790000100000, 6)
    assert "100 s ahead of the clock" in caplog.text


@pytest.mark.parametrize("text", [b"", b"5", b"5 x\n", b"1 2 3", b"9" * 30 + b" 0"])
def test_what_is_no_stamp_is_refused(tmp_path: Path, text: bytes) -> None:
    write_atomic(tmp_path / "hlc_bound", text)
    with pytest.raises(StorageError, match="no stamp"):
        ClockBound.open(tmp_path / "hlc_bound", clock=Wall())


async def test_a_node_goes_on_from_its_bound(tmp_path: Path) -> None:
    async with node(tmp_path, "a@h") as first:
        before = first.hlc.now()
    ahead = before.wall_ms + 30_000
    write_atomic(tmp_path / "a@h" / "hlc_bound", f"{ahead} 0\n".encode())
    async with node(tmp_path, "a@h") as again:
        assert again.hlc.now() > Timestamp(ahead, 0)

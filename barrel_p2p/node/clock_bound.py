"""A stamp that the node's clock stays below, on the disk before the clock gets there.

A hybrid clock grows over a restart only if the wall clock does. So a bound a little
ahead of it is kept in ``hlc_bound``: the next life starts from there, wherever the wall
stands by then. The wall time that the clock is shown is held back below the bound until
a higher one is stored. A peer may push the clock further; that is stored within
``LOOK_MS``. A node that stops in order keeps the stamp itself, and loses nothing.

Where the disk refuses, time goes on without a bound, and the log says so: a node whose
clock stands still is of no use to anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self, final

from barrel_p2p.core.clock import WallClock
from barrel_p2p.core.hlc import HLC, WALL_MS_MAX, Timestamp
from barrel_p2p.errors import InvalidValue, StorageError
from barrel_p2p.storage.files import read_file, write_atomic

__all__ = ["LEAD_MS", "LOOK_MS", "ClockBound", "clock_bound"]

LEAD_MS: Final = 2_500
"""How far the bound is stored ahead. A node that was killed starts so far ahead at
most, which others must not take for a wrong clock: half of ``member_skew_ms``."""

LOOK_MS: Final = 250
"""Between two looks whether the clock has come near."""

# A clock that is held back goes on counting: 8,192 stamps in each of these.
_RESERVE_MS: Final = 500
_NEAR_MS: Final = 1_500
_PUSH_MS: Final = 50
_STANDING_MS: Final = (10, 20)
_BYTES_MAX: Final = 64

_log = logging.getLogger("barrel_p2p.node")


@final
class ClockBound:
    """The wall clock as the hybrid clock may see it: a ``WallClock``.

    Args:
        path: The file.
        clock: The wall clock.
        floor: What the file held: every stamp of the lives before is below it.
    """

    def __init__(self, path: Path, clock: WallClock, floor: Timestamp | None) -> None:
        self.floor = floor
        self._path = path
        self._clock = clock
        # Before the first bound is stored time stands at the floor.
        self._floor_ms = 0 if floor is None else floor.wall_ms
        self._ceiling_ms = self._seen_ms = self._floor_ms
        self._bound_ms = 0

    @classmethod
    def open(cls, path: Path, *, clock: WallClock) -> Self:
        """Read what the life before has left.

        Raises:
            StorageError: The file is unreadable, not private or holds no stamp.
        """
        floor = _stored(path) if os.path.lexists(path) else None
        return cls(path, clock, floor)

    @property
    def bound_ms(self) -> int:
        """What is on the disk, in ms since 1970; 0 before the first time."""
        return self._bound_ms

    def wall_ms(self) -> int:
        """See ``WallClock.wall_ms``; held back below the bound."""
        wall_ms = self._clock.wall_ms()
        return wall_ms if wall_ms < self._ceiling_ms else self._ceiling_ms

    def due_ms(self, hlc: HLC | None) -> int | None:
        """The bound that has to be stored now, or None if there is time.

        Args:
            hlc: The clock that is bounded; None before it is made.
        """
        wall_ms, floor_ms = self._clock.wall_ms(), self._floor_ms
        stamp_ms = floor_ms if hlc is None else hlc.now().wall_ms
        # A clock that leads the wall stands and counts, unless a peer pushes it. Were
        # it given the whole lead each time, a node that is killed again and again
        # would run away.
        pushed = stamp_ms - self._seen_ms >= _PUSH_MS
        self._seen_ms = stamp_ms
        near_ms, lead_ms = (_NEAR_MS, LEAD_MS) if pushed else _STANDING_MS
        bound_ms = self._bound_ms
        if bound_ms - wall_ms >= _NEAR_MS and bound_ms - stamp_ms >= near_ms:
            return None
        return min(max(wall_ms + LEAD_MS, stamp_ms + lead_ms), WALL_MS_MAX)

    def store(self, bound_ms: int) -> None:
        """Put the bound on the disk. It does not hold yet; see ``hold``.

        Raises:
            StorageError: It could not be written.
        """
        write_atomic(self._path, f"{bound_ms} 0\n".encode("ascii"))

    def hold(self, bound_ms: int) -> None:
        """Let time go on up to a bound that is stored."""
        self._bound_ms = bound_ms
        self._ceiling_ms = bound_ms - _RESERVE_MS

    def let_go(self) -> None:
        """Let time go on without a bound."""
        self._ceiling_ms = WALL_MS_MAX

    def store_last(self, last: Timestamp) -> None:
        """Put the last stamp of this life on the disk.

        Raises:
            StorageError: It could not be written; the bound is there.
        """
        write_atomic(self._path, f"{last.wall_ms} {last.counter}\n".encode("ascii"))


@asynccontextmanager
async def clock_bound(
    path: Path, *, node: str, clock: WallClock, disk: Executor, max_drift_ms: int
) -> AsyncIterator[HLC]:
    """Make the node's clock, and keep it bounded; at the end, keep its last stamp.

    Args:
        path: The file.
        node: The node's name.
        clock: The wall clock.
        disk: Where the file is written.
        max_drift_ms: As for ``HLC``.

    Raises:
        StorageError: The file is unreadable or holds no stamp, or cannot be written.
    """
    loop = asyncio.get_running_loop()
    bound = await loop.run_in_executor(disk, lambda: ClockBound.open(path, clock=clock))
    first_ms = bound.due_ms(None)
    assert first_ms is not None
    await loop.run_in_executor(disk, bound.store, first_ms)
    bound.hold(first_ms)
    _warn_of_lead(node, bound.floor, clock.wall_ms(), max_drift_ms)
    hlc = HLC(bound, max_drift_ms=max_drift_ms, floor=bound.floor, node=node)
    keeping = asyncio.create_task(_keep(bound, hlc, node, disk))
    try:
        yield hlc
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
        with contextlib.suppress(StorageError):
            await loop.run_in_executor(disk, bound.store_last, hlc.now())


async def _keep(bound: ClockBound, hlc: HLC, node: str, disk: Executor) -> None:
    loop = asyncio.get_running_loop()
    failed = False
    while True:
        await asyncio.sleep(LOOK_MS / 1_000)
        due_ms = bound.due_ms(hlc)
        if due_ms is None:
            continue
        try:
            await loop.run_in_executor(disk, bound.store, due_ms)
        except StorageError as error:
            bound.let_go()
            if not failed:
                _say(node, f"a restart may stamp behind what this life has: {error}")
            failed = True
        else:
            failed = False
            bound.hold(due_ms)


def _warn_of_lead(
    node: str, floor: Timestamp | None, wall_ms: int, max_drift_ms: int
) -> None:
    if floor is not None and floor.wall_ms - wall_ms > max_drift_ms:
        _say(
            node,
            f"hlc_bound is {(floor.wall_ms - wall_ms) / 1_000:.0f} s ahead of the"
            " clock: it was set back, or had been wrong. Until it has caught up,"
            " others refuse what this node writes",
        )


def _say(node: str, what: str) -> None:
    extra = {"event": "clock_bound", "node": node}
    _log.warning("%s: %s", node, what, extra=extra)


def _stored(path: Path) -> Timestamp:
    text = read_file(path, bytes_max=_BYTES_MAX, private=True)
    parts = text.split()
    if len(parts) == 2 and all(part.isdigit() for part in parts):
        with contextlib.suppress(InvalidValue):
            return Timestamp(int(parts[0]), int(parts[1]))
    raise StorageError(
        f"{path} holds {text!r}, which is no stamp",
        hint=f"if this host's clock is right and was not set back, remove {path}",
    )

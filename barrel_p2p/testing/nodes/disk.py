"""Simulated disks: what a store has acknowledged outlives the process, and no more.

A store behaves as ``storage.replica_log`` does. Commits take time. At a crash the
transaction that is under way is there afterwards or is not, by chance; what waited for
it is gone. What a dead process still does reaches no disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, Literal, final

from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.core.ormap import Delta
from barrel_p2p.errors import Conflict, Degraded, NotStarted, StorageError, StoreFull
from barrel_p2p.storage.replica_log import Log, State, absorb
from barrel_p2p.storage.rows import Row, decode_row, encode_row

__all__ = ["Fault", "SimDisk", "SimStore", "SimStores"]

type Fault = Literal["broken", "full"]

_COMMIT_S: Final = (0.000_2, 0.02)
"""What a commit takes, between these."""


@final
@dataclass(slots=True)
class _Transaction:
    gone: dict[bytes, None] = field(default_factory=dict)
    rows: dict[bytes, Row] = field(default_factory=dict)
    told: list[asyncio.Future[None]] = field(default_factory=list)

    def put(self, row: Row) -> None:
        held = self.rows.get(row[0])
        if held is None or row[1:4] > held[1:4]:
            self.rows[row[0]] = row


@final
@dataclass(slots=True)
class _File:
    rows: dict[bytes, Row] = field(default_factory=dict)
    under_way: _Transaction | None = None
    is_open: bool = False

    def apply(self, done: _Transaction) -> None:
        for key in done.gone:
            self.rows.pop(key, None)
        for key, row in done.rows.items():
            held = self.rows.get(key)
            if held is None or row[1:4] > held[1:4]:
                self.rows[key] = row


@final
class SimDisk:
    """The disk of one machine, which outlives its processes.

    Attributes:
        random: Chance, of this disk alone.
        life: Counts processes; what an earlier one does is not written any more.
        fault: What befalls commits at present.
        floor: Every stamp of the lives before is below it, or it.
        acknowledged: How many writes were, over all lives.
        vanished: How many that waited were lost at crashes.
    """

    def __init__(self, random: Random | None = None) -> None:
        self.random = random or Random(0)
        self.life = 0
        self.fault: Fault | None = None
        self.floor: Timestamp | None = None
        self.acknowledged = 0
        self.vanished = 0
        self.files: dict[str, _File] = {}

    def crash(self) -> None:
        """The process ends between two instructions."""
        self.life += 1
        for file in self.files.values():
            doubtful, file.under_way = file.under_way, None
            file.is_open = False
            if doubtful is not None and self.random.random() < 0.5:
                file.apply(doubtful)
            elif doubtful is not None:
                self.vanished += len(doubtful.told)


@final
class SimStores:
    """The stores of one life of a node, on a simulated disk; a ``Stores``.

    Args:
        disk: Of its machine.
        hlc: The node's clock.
    """

    def __init__(self, disk: SimDisk, hlc: HLC) -> None:
        self._disk = disk
        self._hlc = hlc
        self._opened: dict[str, SimStore] = {}

    async def open(self, path: Path, *, store: str) -> Log:
        """Open a store, or make it; see ``DiskStores.open``."""
        disk = self._disk
        file = disk.files.setdefault(str(path), _File())
        if file.is_open:
            raise Conflict(f"{path} is open already, in this process or another")
        file.is_open = True
        made = SimStore(disk, file, store, self._hlc, lambda: self._closed(path))
        self._opened[str(path)] = made
        return made

    async def remove(self, path: Path) -> None:
        """Remove a store that is not open, if it is there."""
        self._disk.files.pop(str(path), None)

    def opened(self) -> list[Log]:
        """The stores that are open, in the order in which they were opened."""
        return list(self._opened.values())

    async def close(self) -> None:
        """Close them all."""
        for log in self.opened():
            await log.close()

    def _closed(self, path: Path) -> None:
        self._opened.pop(str(path), None)


@final
class SimStore:
    """One store on a simulated disk; a ``Log``.

    Args:
        disk: Where it is.
        file: What it holds.
        name: What it is called.
        hlc: The node's clock, moved past everything that was kept.
        on_closed: Told at the end.
    """

    def __init__(
        self,
        disk: SimDisk,
        file: _File,
        name: str,
        hlc: HLC,
        on_closed: Callable[[], None],
    ) -> None:
        self._disk = disk
        self._file = file
        self._name = name
        self._hlc = hlc
        self._on_closed = on_closed
        self._life = disk.life
        self._waiting = _Transaction()
        self._under_way: _Transaction | None = None
        self._state: State = "open"
        self._fault: str | None = None
        self._broken = False
        self._recovered = self._read()

    @property
    def recovered(self) -> Delta:
        """What it held when it was opened."""
        return self._recovered

    def release_recovered(self) -> Delta:
        """Return ``recovered`` and hold it no longer."""
        recovered, self._recovered = self._recovered, {}
        return recovered

    @property
    def state(self) -> State:
        """Whether it takes writes."""
        return self._state

    @property
    def fault(self) -> str | None:
        """Why it is degraded."""
        return self._fault

    def append(self, delta: Delta) -> asyncio.Future[None]:
        """Keep entries; see ``ReplicaLog.append``."""
        self._check_writable()
        rows = [encode_row(key, entry) for key, entry in delta.items()]
        for row in rows:
            self._waiting.put(row)
        return self._told()

    def forget(self, keys: Iterable[bytes]) -> asyncio.Future[None]:
        """Delete rows; see ``ReplicaLog.forget``."""
        self._check_writable()
        for key in keys:
            self._waiting.rows.pop(key, None)
            self._waiting.gone[key] = None
        return self._told()

    async def sync(self) -> None:
        """Wait for everything that was given so far."""
        await self.forget(())

    async def snapshot(self) -> None:
        """Nothing is left over here."""
        await self.sync()

    async def reopen(self) -> Delta:
        """Read everything anew, and take writes again."""
        if self._state == "closed":
            raise self._closed()
        if self._disk.fault is not None:
            raise StorageError(f"cannot open {self._name!r}: the disk is broken")
        self._broken = False
        self._state, self._fault = "open", None
        return self._read()

    async def close(self) -> None:
        """Write what waits, and let go. Idempotent."""
        if self._state == "closed":
            return
        if not self._broken:
            done = self._told()
            await asyncio.wait({done})
        self._state = "closed"
        if self._disk.life == self._life:
            self._file.is_open = False
        self._on_closed()

    async def delete(self) -> None:
        """Let go, and remove what is held."""
        await self.close()
        if self._disk.life == self._life:
            held = self._disk.files
            for path in [path for path, file in held.items() if file is self._file]:
                del held[path]

    def _read(self) -> Delta:
        names: dict[str, str] = {}
        rows = self._file.rows
        recovered = {key: decode_row(rows[key], names) for key in sorted(rows)}
        absorb(self._hlc, recovered)
        return recovered

    def _check_writable(self) -> None:
        if self._state == "closed":
            raise self._closed()
        if self._broken:
            raise Degraded(f"the store {self._name!r} takes no writes: {self._fault}")

    def _closed(self) -> NotStarted:
        return NotStarted(f"the store {self._name!r} is closed")

    def _told(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.told.append(done)
        if self._disk.life != self._life:
            done.set_result(None)  # Nobody is there to hear it.
        elif self._under_way is None:
            self._begin(loop)
        return done

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        # At the end of this turn, as the real one, so that its writers come along.
        begun = self._under_way = _Transaction()
        if self._disk.life == self._life:
            self._file.under_way = begun
        loop.call_soon(self._commit, begun)

    def _commit(self, begun: _Transaction) -> None:
        waiting, self._waiting = self._waiting, _Transaction()
        begun.gone, begun.rows, begun.told = waiting.gone, waiting.rows, waiting.told
        loop = asyncio.get_running_loop()
        loop.call_later(self._disk.random.uniform(*_COMMIT_S), self._end, begun)

    def _end(self, begun: _Transaction) -> None:
        self._under_way = None
        error: StorageError | None = None
        if self._disk.life == self._life:  # Else nobody is there to hear of it.
            self._file.under_way = None
            error = self._outcome(begun)
        for done in begun.told:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
                done.exception()
        if self._waiting.told:
            self._begin(asyncio.get_running_loop())

    def _outcome(self, begun: _Transaction) -> StorageError | None:
        fault = self._disk.fault
        if fault is None and not self._broken:
            self._file.apply(begun)
            self._disk.acknowledged += len(begun.told)
            if self._state == "degraded":
                self._state, self._fault = "open", None
            return None
        if self._state != "closed":
            self._state = "degraded"
        if fault == "full" and not self._broken:
            self._fault = "no space"
            return StoreFull(f"no space to write {self._name!r}")
        if not self._broken and self._disk.random.random() < 0.5:
            self._file.apply(
                begun
            )  # A flush that failed may have written all the same.
        self._broken = True
        self._fault = self._fault or "the disk is broken"
        return Degraded(f"cannot write {self._name!r}: the disk is broken")

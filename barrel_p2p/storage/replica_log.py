"""One durable store of an OR-Map: what it has acknowledged, it has after any crash.

``append`` is done once the disk has what it was given. Appends of the same turn of the
loop, and those that wait while the disk works, share one transaction. Entries resolve
as in the map: a row goes only when the new one beats it, whatever order they come in.

A disk that fails is not tried again: the store says ``degraded`` and takes nothing
until ``reopen``, which reads everything anew. A full disk refuses the write, and the
next write tries again. Neither touches what the node holds in memory.

Bounded by ``WAITING_BYTES_MAX``.

Source: Barrel P2P documentation, "The replicated substrate"; SQLite, "Atomic Commit".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Literal, Protocol, final

from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.ormap import Delta
from barrel_p2p.errors import Busy, Degraded, NotStarted, StorageError, StoreFull
from barrel_p2p.storage.committer import Committer
from barrel_p2p.storage.database import Database, log_path
from barrel_p2p.storage.files import remove_file, sync_directory
from barrel_p2p.storage.rows import Row, encode_row

__all__ = ["WAITING_BYTES_MAX", "Log", "ReplicaLog", "State", "absorb"]

WAITING_BYTES_MAX: Final = 64 << 20
"""Keys and values that wait for the disk, in bytes, at which ``append`` is refused."""

type State = Literal["open", "degraded", "closed"]


class Log(Protocol):
    """What a store does, whatever it is made of; see ``ReplicaLog``."""

    @property
    def recovered(self) -> Delta:
        """What it held when it was opened."""

    @property
    def state(self) -> State:
        """Whether it takes writes."""

    @property
    def fault(self) -> str | None:
        """Why it is degraded."""

    def append(self, delta: Delta) -> asyncio.Future[None]:
        """Keep entries; done once they are durable."""

    def forget(self, keys: Iterable[bytes]) -> asyncio.Future[None]:
        """Delete rows, without tombstones; done once that is durable."""

    async def sync(self) -> None:
        """Wait for everything that was given so far."""

    async def snapshot(self) -> None:
        """Make the files as small as they can be."""

    async def reopen(self) -> Delta:
        """Read everything anew, and take writes again."""

    async def close(self) -> None:
        """Write what waits, and let go."""

    async def delete(self) -> None:
        """Let go, and remove the files."""


class _Batch:
    """What waits for one transaction."""

    __slots__ = ("bytes", "gone", "rows", "told")

    def __init__(self) -> None:
        self.gone: dict[bytes, None] = {}
        self.rows: dict[bytes, Row] = {}
        self.told: list[asyncio.Future[None]] = []
        self.bytes = 0

    def put(self, row: Row) -> None:
        held = self.rows.get(row[0])
        # stamp, node, kind: the same order in which the database decides.
        if held is None or row[1:4] > held[1:4]:
            self.rows[row[0]] = row
            self.bytes += len(row[0]) + len(row[4])

    def drop(self, key: bytes) -> None:
        self.rows.pop(key, None)
        self.gone[key] = None
        self.bytes += len(key)

    def tell(self, error: Exception | None) -> None:
        for done in self.told:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
                done.exception()  # Whoever dropped it is told by ``state``.


@final
class ReplicaLog:
    """A store in one SQLite file; see the module. ``await ReplicaLog.open(...)``.

    Everything is called in the committer's loop.

    Args:
        database: Open, and read.
        committer: Commits for it.
        recovered: What it held.
        name: What the store is called.
        node: Whose it is.
        hlc: The node's clock.
    """

    def __init__(
        self,
        database: Database,
        committer: Committer,
        recovered: Delta,
        *,
        name: str,
        node: str,
        hlc: HLC | None,
    ) -> None:
        self._path = database.path
        self._database: Database | None = database
        self._committer = committer
        self._recovered = recovered
        self._name = name
        self._node = node
        self._hlc = hlc
        self._state: State = "open"
        self._fault: str | None = None
        self._broken: Degraded | None = None
        self._reopening = asyncio.Lock()
        self._opening: asyncio.Future[tuple[Database, Delta]] | None = None
        self._lock = threading.Lock()
        self._batch = _Batch()
        self._woken = False
        self._listeners: list[Callable[[ReplicaLog], None]] = []

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        store: str,
        node: str,
        committer: Committer,
        hlc: HLC | None = None,
    ) -> ReplicaLog:
        """Open the store at ``path``, or make it, and read what it holds.

        Args:
            path: The file, in a directory of the node's own. SQLite keeps another one
                beside it, with ``-wal`` behind the name.
            store: What it is called: another one's file is refused.
            node: Whose it is: another node's file is refused.
            committer: Commits for all stores of the node.
            hlc: The node's clock, which is moved past everything that was kept.

        Raises:
            StoreCorrupt: The file is no whole store. It was left as it is.
            Conflict: It is open already.
            StoreFull: There is no space to move its log into the file.
            StorageError: It cannot be opened, is another's, or others have access.
            ClockDrift: An entry is more than ``hlc_max_drift_ms`` ahead of the wall
                clock: that was set back, and ``hlc_bound`` is missing.
        """
        opened = committer.run_on_disk(lambda: _open(path, store=store, node=node))
        database, recovered = await opened
        log = cls(database, committer, recovered, name=store, node=node, hlc=hlc)
        try:
            absorb(hlc, recovered)
        except BaseException:
            await asyncio.shield(committer.run(database.drop))
            raise
        return log

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def name(self) -> str:
        """What the store is called."""
        return self._name

    @property
    def recovered(self) -> Delta:
        """What it held when it was opened; clocks are absorbed already."""
        return self._recovered

    def release_recovered(self) -> Delta:
        """Return ``recovered`` and hold it no longer."""
        recovered, self._recovered = self._recovered, {}
        return recovered

    @property
    def state(self) -> State:
        """Whether it takes writes: ``open``, ``degraded`` or ``closed``."""
        return self._state

    @property
    def fault(self) -> str | None:
        """Why it is degraded; None while it is not."""
        return self._fault

    def listen(self, hear: Callable[[ReplicaLog], None]) -> None:
        """Call ``hear(log)`` in the loop whenever ``state`` has changed."""
        self._listeners.append(hear)

    def append(self, delta: Delta) -> asyncio.Future[None]:
        """Keep the entries of ``delta``.

        Args:
            delta: From ``OrMap.add`` or ``OrMap.remove``, or what a merge changed.

        Returns:
            Done once they are durable. It fails with ``StoreFull`` when there is no
            space, and nothing was kept; with ``Degraded`` when the disk failed, and
            then ``reopen`` or a restart says whether they were kept. It may be dropped
            without being awaited.

        Raises:
            Degraded: The disk has failed before.
            Busy: ``WAITING_BYTES_MAX`` bytes wait already.
            InvalidValue: A ``Pid`` or ``Ref`` is in an entry; see
                ``check_restart_safe``. Nothing is kept.
            NotEncodable: A value has no form as a term. Nothing is kept.
            NotStarted: The store is closed.
        """
        self._check_writable()
        rows = [encode_row(key, entry) for key, entry in delta.items()]
        done = self._committer.loop.create_future()
        with self._lock:
            batch = self._batch
            for row in rows:
                batch.put(row)
            batch.told.append(done)
        self._wake()
        return done

    def forget(self, keys: Iterable[bytes]) -> asyncio.Future[None]:
        """Delete the rows of ``keys``, without leaving tombstones.

        Args:
            keys: Canonical bytes; unknown ones do no harm.

        Returns:
            As for ``append``.

        Raises:
            Degraded: The disk has failed before.
            Busy: ``WAITING_BYTES_MAX`` bytes wait already.
            NotStarted: The store is closed.
        """
        self._check_writable()
        done = self._committer.loop.create_future()
        with self._lock:
            for key in keys:
                self._batch.drop(key)
            self._batch.told.append(done)
        self._wake()
        return done

    async def sync(self) -> None:
        """Wait until everything that was given so far is durable.

        Raises:
            StoreFull: There is no space.
            Degraded: The disk fails, or has failed before.
            NotStarted: The store is closed.
        """
        await self.forget(())

    async def snapshot(self) -> None:
        """Move everything from the log into the file, and give back unused space.

        Raises:
            StoreFull: There is no space. Nothing is lost.
            Degraded: The disk fails, or has failed before.
            NotStarted: The store is closed.
        """
        self._check_writable()
        await asyncio.shield(self._committer.run(self._compact))

    async def reopen(self) -> Delta:
        """Read the file anew after a fault, and take writes again.

        Returns:
            What it holds. A write that failed may be among it: merge it, and then
            append what the map holds, since what was learned meanwhile is not there.

        Raises:
            StoreCorrupt: The file is no whole store. The store stays degraded.
            StorageError: It still cannot be opened or written.
            ClockDrift: As for ``open``. The store stays degraded.
            NotStarted: The store is closed, or was while this went on.

        Guarantee:
            One that is cancelled changes nothing; the next one has what it has read.
        """
        async with self._reopening:
            self._check_open()
            if self._broken is not None:
                return await self._replace_database()
            await self.snapshot()
            self._check_open()
            self._judge(None)
            return {}

    async def close(self) -> None:
        """Write what waits, move the log into the file, and let go of it. Idempotent.

        Guarantee:
            Raises nothing: what was acknowledged is safe already, and a write that
            still waited is told of its failure itself.
        """
        if self._state == "closed":
            return
        self._turn("closed", self._fault)
        await asyncio.shield(self._let_go())

    async def delete(self) -> None:
        """Let go of the store and remove its files. Idempotent.

        Raises:
            StorageError: A file could not be removed.
        """
        await self.close()
        await asyncio.shield(self._committer.run_on_disk(self._remove))

    # In the loop.

    async def _replace_database(self) -> Delta:
        # Once that is done, everyone whose write has failed has been told.
        await asyncio.shield(self._committer.run(self._refuse_waiting))
        self._check_open()
        database, recovered = await self._opened_again()
        self._check_open()  # ``close`` let go of what was opened.
        try:
            absorb(self._hlc, recovered)
        except BaseException:
            await asyncio.shield(self._committer.run(database.drop))
            raise
        self._database, self._recovered, self._broken = database, {}, None
        self._judge(None)
        return recovered

    async def _let_go(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            with contextlib.suppress(Exception):
                self._database, _ = await opening
        await self._committer.run(self._close)

    async def _opened_again(self) -> tuple[Database, Delta]:
        if self._opening is None:
            self._opening = self._committer.run_on_disk(self._open_again)
        try:
            opened = await asyncio.shield(self._opening)
        except Exception:
            self._opening = None
            raise
        self._opening = None
        return opened

    def _check_writable(self) -> None:
        self._check_open()
        if self._broken is not None:
            raise Degraded(
                f"the store {self._name!r} takes no writes: {self._fault}",
                hint="mend the disk, then reopen the store or restart the node",
            )
        if self._batch.bytes > WAITING_BYTES_MAX:
            raise Busy(
                f"the store {self._name!r}: {self._batch.bytes} bytes wait for the"
                f" disk, of at most WAITING_BYTES_MAX={WAITING_BYTES_MAX}",
                hint="await what append returns, or sync()",
            )

    def _check_open(self) -> None:
        if self._state == "closed":
            raise NotStarted(f"the store {self._name!r} is closed")

    def _wake(self) -> None:
        # At the end of this turn, so that all its writers come along.
        if not self._woken:
            self._woken = True
            self._committer.loop.call_soon(self._wake_now)

    def _wake_now(self) -> None:
        self._woken = False
        try:
            self._committer.wake(self)
        except NotStarted as error:
            with self._lock:
                batch, self._batch = self._batch, _Batch()
            batch.tell(error)

    def _settle(self, batch: _Batch, error: StorageError | None) -> None:
        batch.tell(error)
        self._judge(error)

    def _judge(self, error: StorageError | None) -> None:
        if self._state == "closed":
            return
        if error is None:
            if self._broken is None and self._state == "degraded":
                self._turn("open", None)
        else:
            if isinstance(error, Degraded):
                self._broken = error
            self._turn("degraded", str(error))

    def _turn(self, state: State, fault: str | None) -> None:
        changed, self._state, self._fault = state != self._state, state, fault
        if changed:
            for hear in list(self._listeners):
                hear(self)

    # In the committer's thread.

    def commit_waiting(self) -> None:
        """Commit what waits now, and tell its writers. For the committer."""
        with self._lock:
            batch, self._batch = self._batch, _Batch()
        error: StorageError | None = None
        if batch.told:
            error = self._guarded(lambda: self._write(batch))
            self._committer.tell(lambda: self._settle(batch, error))
        if error is None and self._database is not None and self._database.is_due:
            fault = self._guarded(self._database.checkpoint)
            if fault is not None:
                self._committer.tell(lambda: self._judge(fault))

    def _write(self, batch: _Batch) -> None:
        if self._database is None:
            raise Degraded(f"the store {self._name!r} takes no writes")
        if batch.rows or batch.gone:
            self._database.commit(list(batch.gone), list(batch.rows.values()))

    def _guarded(self, write: Callable[[], None]) -> StorageError | None:
        try:
            write()
        except StoreFull as error:
            return error
        except StorageError as error:
            self._drop_database()
            return error
        except Exception as error:  # noqa: BLE001 -- and is told
            # SQLite without memory is a MemoryError, for one.
            self._drop_database()
            degraded = Degraded(
                f"cannot write {self._path}: {error!r}",
                hint="reopen the store or restart the node",
            )
            degraded.__cause__ = error
            return degraded
        return None

    def _drop_database(self) -> None:
        # No second try on this connection: what it believes may be wrong.
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(Exception):
                database.drop()

    def _refuse_waiting(self) -> None:
        self._drop_database()
        self.commit_waiting()

    def _compact(self) -> None:
        self.commit_waiting()
        database = self._database
        if database is None:
            raise Degraded(f"the store {self._name!r} takes no writes")
        error = self._guarded(database.compact)
        if error is not None:
            self._committer.tell(lambda: self._judge(error))
            raise error

    def _close(self) -> None:
        self.commit_waiting()
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(StorageError):
                database.close()

    # In the disk's thread, while there is no database.

    def _open_again(self) -> tuple[Database, Delta]:
        return _open(self._path, store=self._name, node=self._node)

    def _remove(self) -> None:
        for path in (log_path(self._path), self._path):
            remove_file(path)
        if os.path.lexists(self._path.parent):
            sync_directory(self._path.parent)


def _open(path: Path, *, store: str, node: str) -> tuple[Database, Delta]:
    opened = Database.open(path, store=store, node=node)
    database, _ = opened
    try:
        # Written anew from what was read: the log may have pages that a failed flush,
        # in this process or the one before, left nowhere but in memory.
        database.checkpoint(whole=True)
    except BaseException:
        database.drop()
        raise
    return opened


def absorb(hlc: HLC | None, delta: Delta) -> None:
    """Move the clock past every stamp of ``delta``.

    Raises:
        ClockDrift: One is more than ``hlc_max_drift_ms`` ahead of the wall clock, and
            ahead of ``hlc`` too.
    """
    if hlc is None or not delta:
        return
    newest_ms = max(entry.wall_ms for entry in delta.values())
    newest = max(e.stamp for e in delta.values() if e.wall_ms == newest_ms)
    # A clock that is past it already, by the bound of the life before, has nothing to
    # learn, however far ahead of the wall both are.
    if newest >= hlc.now():
        hlc.update(newest)

"""All reminders of the cluster as one node holds them: durable, then merged, then told.

What this node writes is stamped and committed before anybody sees it. What others wrote
is checked as it comes in, seen at once, and written behind: whoever acknowledged it has
it on disk.

Bounded by ``STORE_ENTRIES_MAX`` keys, those that have fired included.

Source: Barrel P2P documentation, "Durable reminders".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, final

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.clock import Clock
from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.core.ormap import TOMBSTONE, Change, Delta, Entry, OrMap
from barrel_p2p.errors import Busy, ClockDrift, InvalidValue, NotEncodable
from barrel_p2p.replica.driver import Replicas
from barrel_p2p.replica.limits import STORE_ENTRIES_MAX
from barrel_p2p.replica.store import ReplicatedStore, Source
from barrel_p2p.services.reminder_graves import Graves
from barrel_p2p.services.reminder_value import (
    check_entry,
    check_value,
    fence_stamp_of,
)
from barrel_p2p.services.write_behind import Outbox, WriteBehind
from barrel_p2p.storage.replica_log import Log
from barrel_p2p.wire.crdt_ingest import accept, entry_bytes
from barrel_p2p.wire.terms import key_bytes

__all__ = ["REPLICA_NAME", "ReminderStore"]

REPLICA_NAME: Final = "reminders"
"""The replica that carries them, and what their file is called inside."""


@final
class ReminderStore:
    """The map of reminders, its file and its replica; a ``Replica``.

    Args:
        node: This node's name.
        hlc: Stamps what is written here.
        clock: Both kinds of time.
        horizon_ms: For how long it is told what has fired.
        log: The file.
        complaints: Where what others do wrong goes.
        changed: Hears of every key that changed, with what stands there now.

    Attributes:
        entries: The map.
    """

    def __init__(
        self,
        node: str,
        *,
        hlc: HLC,
        clock: Clock,
        horizon_ms: int,
        log: Log,
        complaints: Complaints,
        changed: Callable[[bytes, Entry], None],
    ) -> None:
        self.entries = OrMap(node, hlc)
        self._malformed = 0
        self._stamper = OrMap(node, hlc)
        self._hlc = hlc
        self._clock = clock
        self._horizon_ms = horizon_ms
        self._graves = Graves(horizon_ms)
        self._complaints = complaints
        self._changed = changed
        self._store = ReplicatedStore(self.entries, on_change=self._merged, clock=clock)
        self._rows = WriteBehind(
            log, self.entries.snapshot, place="reminders", complaints=complaints
        )
        self._outbox = Outbox("reminders", complaints)

    @property
    def refused(self) -> int:
        """Entries that others sent and that were not taken."""
        counted = sum(self._store.refused.values())
        return counted + self._malformed + self._graves.refused

    # Its life.

    def start(self, replicas: Replicas) -> None:
        """Take what the file held, and begin to replicate."""
        self._recover(self._rows.log.recovered)
        self._outbox.handle = replicas.start(
            REPLICA_NAME, self, tombstone_ttl_ms=self._horizon_ms
        )

    async def close(self) -> None:
        """Stop, and let go of the file. Idempotent."""
        self._outbox.stop()
        await self._rows.log.close()

    async def reopen(self) -> None:
        """Take writes again after the disk had failed. Nothing if it had not.

        Raises:
            StorageError: It still cannot be read or written.
        """
        await self._rows.reopen(self._recover)

    def catch_up(self) -> None:
        """Compare with all neighbours soon, instead of when it is time to."""
        if self._outbox.handle is not None:
            self._outbox.handle.catch_up()

    # Writing.

    def arm(self, key: object, value: tuple[Any, ...]) -> asyncio.Future[None]:
        """Set a reminder; done once it is durable, and seen here.

        Raises:
            InvalidValue: It is none; see ``check_value``.
            NotEncodable: The key is no key term, or the payload none or too large.
            Busy: There are ``STORE_ENTRIES_MAX``, or too many wait for the disk.
            ClockDrift: What stands there is stamped so far ahead that nothing written
                now would beat it.
            Degraded: The disk has failed before.
            NotStarted: The node is stopping.
        """
        check_value(key, value)
        entry_bytes(key, value)
        held = len(self.entries) + self.entries.tombstones
        if held >= STORE_ENTRIES_MAX and self.entries.entry(key) is None:
            raise Busy(
                f"there are STORE_ENTRIES_MAX={STORE_ENTRIES_MAX} reminders, those that"
                " have fired included",
                hint="cancel some, or lower reminder_tombstone_ttl_ms",
            )
        delta = self._stamped(key, value)
        for entry in delta.values():
            check_entry(entry)
        return self._commit(delta)

    def cancel(self, key: object) -> asyncio.Future[None]:
        """Take a reminder back, known here or not. Raises as ``arm``."""
        return self._commit(self._stamped(key, TOMBSTONE))

    def put(self, name: bytes, entry: Entry) -> asyncio.Future[None]:
        """Let ``entry`` stand there, as it is.

        Raises:
            ClockDrift: It is stamped further ahead than ``hlc_max_drift_ms``: no node
                could start with it. The time of day has to come nearer.
            BarrelError: As ``arm``.
        """
        held, limit_ms = self.entries.entry(entry.key), self._hlc.drift_limit_ms()
        # After the clock was set back, what stands there may be as far ahead itself.
        if held is not None:
            limit_ms = max(limit_ms, held.wall_ms)
        if entry.wall_ms > limit_ms:
            raise ClockDrift(
                f"{entry.key!r:.80} goes on {entry.wall_ms - limit_ms} ms beyond"
                f" hlc_max_drift_ms={self._hlc.max_drift_ms}"
            )
        return self._commit({name: entry})

    def _stamped(self, key: object, value: object) -> Delta:
        """An entry that beats what stands there, and has a greater fence."""
        held = self.entries.entry(key)
        if held is not None:
            # Fences of what comes again run on, and can be ahead of the clock.
            fence, limit_ms = fence_stamp_of(held), self._hlc.drift_limit_ms()
            if fence.wall_ms < limit_ms:
                self._hlc.update(fence)
            else:
                self._hlc.update(Timestamp(limit_ms - 1, 0))
            self._stamper.merge({key_bytes(key): held})
        try:
            if value is TOMBSTONE:
                return self._stamper.remove(key)
            return self._stamper.add(key, value)
        finally:
            self._stamper.forget(key)

    def _commit(self, delta: Delta) -> asyncio.Future[None]:
        return self._rows.commit(delta, self._committed)

    def _committed(self, delta: Delta) -> None:
        if self._project(self.entries.merge(delta)):
            self._outbox.add(delta)

    def _project(self, changes: Iterable[Change]) -> bool:
        now_ms, changed = self._clock.now_ms(), False
        for change in changes:
            changed = True
            self._graves.note(change.key_bytes, change.after, now_ms)
            self._changed(change.key_bytes, change.after)
        return changed

    # What others write: a Replica.

    def replica_merge_delta(self, name: str, delta: Mapping[Any, Any]) -> None:
        """Merge what another node wrote."""
        self._store.replica_merge_delta(name, self._admitted(delta))

    def replica_apply_full_sync(self, name: str, snapshot: Mapping[Any, Any]) -> bool:
        """Merge part of what another node holds."""
        return self._store.replica_apply_full_sync(name, self._admitted(snapshot))

    def replica_full_sync_snapshot(self, name: str) -> Delta | None:
        """Everything that is held, what has fired included."""
        return self._store.replica_full_sync_snapshot(name)

    def replica_remove_node(self, name: str, node: str) -> None:
        """Nothing goes with a node: a survivor fires what it has set."""

    def replica_digest(self, name: str) -> bytes:
        """A u64 for each bucket."""
        return self.entries.digest()

    def replica_bucket(self, name: str, index: int) -> Delta:
        """The entries of one bucket."""
        return self.entries.bucket(index)

    def replica_collect(self, name: str, cutoff_wall_ms: int) -> None:
        """Tell no more of what has fired long ago. All neighbours have compared."""
        due = self._graves.collect(self._clock.now_ms())
        for entry in due.values():
            self.entries.forget(entry.key)
        self._rows.forget(due)
        self._rows.again()

    def _admitted(self, delta: Mapping[Any, Any]) -> Mapping[Any, Any]:
        accepted = accept(delta, clock=self._hlc)
        self._malformed += sum(accepted.refused.values())
        return self._without_ended(self._taken(accepted.delta))

    def _without_ended(self, delta: Delta) -> Delta:
        """What of ``delta`` is not known to have fired, or to be cancelled."""
        if not self._graves.remembers:
            return delta
        before = self._graves.refused
        good, again = self._graves.admit(delta, self._clock.wall_ms(), self._knows)
        refused = self._graves.refused - before
        if refused:
            self._complaints.add(
                "reminders",
                f"refused {refused} that are unknown here and overdue for longer than"
                " reminder_tombstone_ttl_ms: they may have fired",
            )
        if again:
            self._project(self.entries.merge(again))
            self._graves.told_again(again, self._clock.now_ms())
        return good

    def _knows(self, key: object) -> bool:
        return self.entries.entry(key) is not None

    def _taken(self, delta: Delta) -> Delta:
        taken: Delta = {}
        for name, entry in delta.items():
            try:
                check_entry(entry)
            except (InvalidValue, NotEncodable) as error:
                self._malformed += 1
                self._complaints.add("reminders", f"refused {entry.key!r:.80}: {error}")
            else:
                taken[name] = entry
        return taken

    def _merged(self, changes: list[Change], source: Source) -> None:
        self._project(changes)
        self._rows.keep({change.key_bytes: change.after for change in changes})

    def _recover(self, delta: Delta) -> None:
        taken = self._without_ended(self._taken(accept(delta).delta))
        self._project(self.entries.merge(taken))

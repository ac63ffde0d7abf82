"""The owner of one replicated map on one node: the only writer of what readers see.

A write of this node is checked, stamped, made durable if the map persists, and only
then merged, shown, told and gossiped. What others wrote is checked the same way as it
comes in, shown at once, and written behind.

Bounded by ``STORE_ENTRIES_MAX`` keys, removed ones included.

Source: Barrel P2P documentation, "Replicated maps".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.clock import Clock
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.ormap import Change, Delta, Entry, OrMap
from barrel_p2p.core.terms import Atom, Pid, Ref
from barrel_p2p.errors import Busy, InvalidValue
from barrel_p2p.replica.limits import STORE_ENTRIES_MAX
from barrel_p2p.replica.store import ReplicatedStore, Source
from barrel_p2p.services.map_alike import ALIKE_MAX, AlikeKeys
from barrel_p2p.services.map_events import MapEvent, MapPut, MapRemove
from barrel_p2p.services.map_lives import Fate, Lives
from barrel_p2p.services.map_options import MapOptions
from barrel_p2p.services.map_presence import Presence
from barrel_p2p.services.map_removed import Removed
from barrel_p2p.services.map_stats import MapStats
from barrel_p2p.services.write_behind import Gossip, Outbox, WriteBehind
from barrel_p2p.storage.replica_log import Log
from barrel_p2p.storage.rows import check_restart_safe
from barrel_p2p.wire.crdt_ingest import accept, entry_bytes
from barrel_p2p.wire.terms import decode, encode, key_bytes

__all__ = ["MapOwner"]

_MISSING: Final = object()
_SMALL: Final = 65_536
_WORD: Final = 1 << 63
_SCALARS: Final = frozenset({str, bytes, int, float, bool, type(None), Atom, Pid, Ref})


@final
class MapOwner:
    """One map's entries and what is shown of them; a ``Replica``.

    Args:
        name: The map's.
        options: What was chosen.
        node: This node's name.
        creation: This life of it.
        hlc: Stamps what is written here.
        clock: Both kinds of time.
        lives: What has become of other nodes.
        complaints: Where what others do wrong goes.
        log: Its store; None keeps it in memory.

    Attributes:
        entries: The map itself.
        shown: Key to value: what readers see. Only this object changes it.
        store: Takes what others send.
        removed: Its removed keys.
        refused: Values of others that were not taken.
        listener: Hears every event; None while nobody wants any.
    """

    def __init__(
        self,
        name: str,
        options: MapOptions,
        *,
        node: str,
        creation: int,
        hlc: HLC,
        clock: Clock,
        lives: Lives,
        complaints: Complaints,
        log: Log | None = None,
    ) -> None:
        self.name = name
        self.options = options
        self.entries = OrMap(node, hlc)
        self.shown: dict[Any, Any] = {}
        self.refused = 0
        self.store = ReplicatedStore(
            self.entries,
            leaf=self._takes,
            on_change=self._merged,
            entries_max=STORE_ENTRIES_MAX,
            clock=clock,
        )
        self._stamper = OrMap(node, hlc)
        self._clock = clock
        self._complaints = complaints
        self._rows: WriteBehind | None = None
        self._outbox = Outbox(f"map {name}", complaints)
        self._presence: Presence | None = None
        if options.prune_on_peer_down:
            self._presence = Presence(creation, lives)
        self._alike = AlikeKeys()
        self.removed = Removed()
        self.listener: Callable[[MapEvent], None] | None = None
        if log is not None:
            self._rows = WriteBehind(
                log, self._remembered, place=f"map {name}", complaints=complaints
            )
            self._recover(log.recovered)
            self.removed.recall(clock.wall_ms() - options.tombstone_ttl_ms)

    # Its life.

    def begin(self, handle: Gossip) -> None:
        """Gossip from now on."""
        self._outbox.handle = handle

    def end(self) -> None:
        """Take no more writes."""
        self._outbox.stop()

    def stats(self) -> MapStats:
        """What it holds, and what it has refused."""
        log = None if self._rows is None else self._rows.log
        return MapStats(
            keys=len(self.shown),
            removed=self.entries.tombstones,
            remembered=len(self.removed.aside),
            told_again=self.removed.revived,
            refused=self.refused,
            refused_old=self.removed.refused,
            refused_over=0 if self._presence is None else self._presence.refused,
            overflowed=self.store.overflowed,
            disk="none" if log is None else log.state,
            fault=None if log is None else log.fault,
        )

    async def flush(self) -> None:
        """Wait until gossip has taken everything that was written so far."""
        self._outbox.tell()
        if self._outbox.handle is not None:
            await self._outbox.handle.flush()

    # Writing.

    def put(self, key: object, value: object) -> asyncio.Future[None] | None:
        """Write ``value`` under ``key``.

        Returns:
            None when it is done, or what is done when it is: the write is durable
            then, and everybody here sees it.

        Raises:
            InvalidValue: The validator refuses the value, or it cannot be kept.
            NotEncodable: The key is no key term, or the value no term, or too large.
            Busy: The map holds ``STORE_ENTRIES_MAX`` keys.
        """
        value = self._checked(key, value)
        if self._rows is None:
            before = self.entries.entry(key) if self._presence is not None else None
            self._written(self.entries.add(key, value), before)
            return None
        return self._commit(self._rows, self._stamper.add(key, value), key)

    def remove(self, key: object) -> asyncio.Future[None] | None:
        """Remove ``key``, whether or not it has a value. As ``put``."""
        if not self._is_shown(key):
            self._check_size(key)
        if self._rows is None:
            before = self.entries.entry(key) if self._presence is not None else None
            self._written(self.entries.remove(key), before)
            return None
        return self._commit(self._rows, self._stamper.remove(key), key)

    def _checked(self, key: object, value: object) -> object:
        fits = _is_small(value)
        if not fits and type(value) not in _SCALARS:
            # A copy to its depth, and what others will get: nobody changes it under
            # the map's hands.
            value = decode(encode(value))
        validator = self.options.validator
        if validator is not None:
            self._validate(key, value)
        if self._presence is not None:
            value = self._presence.wrapped(value)
        if not fits:
            entry_bytes(key, value)  # Raises if it could not travel.
        if not self._is_shown(key):
            self._check_size(key)
            self._check_alike(key)
        return value

    def _is_shown(self, key: object) -> bool:
        try:
            return key in self.shown
        except TypeError:  # It has no hash.
            key_bytes(key)
            raise

    def _check_size(self, key: object) -> None:
        held = len(self.entries) + self.entries.tombstones
        if self._rows is not None:
            held += self._rows.writing
        if held >= STORE_ENTRIES_MAX and self.entries.entry(key) is None:
            raise Busy(
                f"map {self.name!r} holds STORE_ENTRIES_MAX={STORE_ENTRIES_MAX} keys,"
                " removed ones included, and those that wait for the disk",
                hint="a map is for small state; keep large sets elsewhere",
            )

    def _check_alike(self, key: object) -> None:
        if self._alike.is_full(key) and not self._has_value(key):
            raise InvalidValue(
                f"map {self.name!r} has ALIKE_MAX={ALIKE_MAX} keys with the hash of"
                f" {key!r:.80}",
                hint="use text for keys that are multiples of 2**61 - 1",
            )

    def _validate(self, key: object, value: object) -> None:
        validator = self.options.validator
        assert validator is not None
        cause: Exception | None = None
        try:
            if validator(value) is True:
                return
        except Exception as error:  # noqa: BLE001 -- somebody else's rule that fails
            cause = error
        said = "" if cause is None else f": it raised {cause!r:.200}"
        raise InvalidValue(
            f"map {self.name!r}: the validator refuses {value!r:.80} for the key"
            f" {key!r:.80}{said}"
        ) from cause

    def _written(self, delta: Delta, before: Entry | None) -> None:
        for name, after in delta.items():
            self._project(name, before, after)
        self._outbox.add(delta)

    def _commit(
        self, rows: WriteBehind, delta: Delta, key: object
    ) -> asyncio.Future[None]:
        self._stamper.forget(key)
        return rows.commit(delta, self._committed)

    def _committed(self, delta: Delta) -> None:
        if self._outbox.handle is None:
            return
        changes = self.entries.merge(delta)
        for change in changes:
            self._project(change.key_bytes, change.before, change.after)
        if changes:
            self._outbox.add(delta)

    # What others write: a Replica.

    def replica_merge_delta(self, name: str, delta: Mapping[Any, Any]) -> None:
        """Merge what another node wrote."""
        self.store.replica_merge_delta(name, self._admitted(delta))

    def replica_apply_full_sync(self, name: str, snapshot: Mapping[Any, Any]) -> bool:
        """Merge part of what another node holds."""
        return self.store.replica_apply_full_sync(name, self._admitted(snapshot))

    def replica_full_sync_snapshot(self, name: str) -> Delta | None:
        """Everything that is held, removed keys included."""
        return self.store.replica_full_sync_snapshot(name)

    def replica_remove_node(self, name: str, node: str) -> None:
        """Nothing: ``reconsider`` does it, which hears of more than the end."""

    def replica_digest(self, name: str) -> bytes:
        """A u64 for each bucket."""
        return self.entries.digest()

    def replica_bucket(self, name: str, index: int) -> Delta:
        """The entries of one bucket."""
        return self.entries.bucket(index)

    def replica_collect(self, name: str, cutoff_wall_ms: int) -> None:
        """Tell no more of the keys that were removed before ``cutoff_wall_ms``."""
        now_ms = self._clock.now_ms()
        due, forgotten = self.removed.put_aside(cutoff_wall_ms)
        for entry in due:
            self.entries.forget(entry.key)
        self._forget_rows(forgotten)
        if self._rows is not None:
            self._rows.again()
        if self._presence is not None:
            for row, entry in self._presence.unclaimed(now_ms):
                self._drop(row, entry)

    def reconsider(self, node: str) -> None:
        """Members say something new of ``node``: show, hide or drop what it wrote."""
        presence = self._presence
        if presence is None:
            return
        for row, entry in presence.of(node):
            match presence.fate(entry):
                case Fate.HERE:
                    self._show(entry.key, _unwrapped(entry))
                case Fate.UNKNOWN:
                    self._hide(entry.key)
                case Fate.OVER:
                    self._drop(row, entry)

    def catch_up(self) -> None:
        """Compare with all neighbours."""
        if self._outbox.handle is not None:
            self._outbox.handle.catch_up()

    def _admitted(self, delta: Mapping[Any, Any]) -> Mapping[Any, Any]:
        if type(delta) is not dict or not all(type(e) is Entry for e in delta.values()):
            return delta  # No delta at all: the store says what is wrong with it.
        admitted = self._alike.without_excess(delta, self._has_value)
        if len(admitted) < len(delta):
            self.refused += len(delta) - len(admitted)
            self._complaints.add(
                f"map {self.name}",
                f"refused {len(delta) - len(admitted)} keys: ALIKE_MAX={ALIKE_MAX}"
                " with the same hash are there",
            )
        before = self.removed.refused
        admitted, again = self.removed.admit(admitted, self._knows)
        if self.removed.refused > before:
            self._complaints.add(
                f"map {self.name}",
                f"refused {self.removed.refused - before} values that are older than"
                " what was forgotten here, and may have been removed",
            )
        if again:
            self._outbox.add(again)
        if self._presence is not None:
            admitted = self._presence.without_the_over(admitted)
        return admitted

    def _knows(self, key: object) -> bool:
        return self.entries.entry(key) is not None

    def _has_value(self, key: object) -> bool:
        """Whether a value is held under ``key``, shown or not."""
        if key in self.shown:
            return True
        if self._presence is None:
            return False
        held = self.entries.entry(key)
        return held is not None and not held.is_tombstone

    def _takes(self, key: object, value: Any) -> bool:
        reason = self._objection(key, value)
        if reason is None:
            return True
        self.refused += 1
        self._complaints.add(
            f"map {self.name}", f"refused a value for the key {key!r:.80}: {reason}"
        )
        return False

    def _objection(self, key: object, value: Any) -> str | None:
        if self._presence is not None:
            if not self._presence.is_wrapped(value):
                return "it does not say in which life it was written"
            value = value[1]
        validator = self.options.validator
        try:
            if self._rows is not None:
                check_restart_safe((key, value))
            if validator is None:
                return None
            return None if validator(value) is True else "the validator says no"
        except InvalidValue as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 -- somebody else's rule that fails
            return f"the validator raised {error!r:.200}"

    def _merged(self, changes: list[Change], source: Source) -> None:
        for change in changes:
            self._project(change.key_bytes, change.before, change.after)
        if self._rows is not None:
            self._rows.keep({change.key_bytes: change.after for change in changes})

    # What is on disk.

    async def reopen(self) -> None:
        """Take writes again after the disk had failed: see ``ReplicatedMap.reopen``."""
        if self._rows is not None:
            await self._rows.reopen(self._recover)

    def _recover(self, delta: Delta) -> None:
        if self._presence is not None:
            lasting = self._presence.without_the_over(delta)
            self._forget_rows([name for name in delta if name not in lasting])
            delta = lasting
        accepted = accept(self._admitted(delta), leaf=self._takes)
        changes = self.entries.merge(accepted.delta)
        # Removed keys are looked through in the order of their stamps.
        changes.sort(key=lambda change: change.after.wall_ms)
        for change in changes:
            self._project(change.key_bytes, change.before, change.after)

    def _forget_rows(self, names: list[bytes]) -> None:
        if self._rows is not None:
            self._rows.forget(names)

    def _remembered(self) -> Delta:
        return {**self.removed.aside, **self.entries.snapshot()}

    # What is shown.

    def _project(self, name: bytes, before: Entry | None, after: Entry) -> None:
        self.removed.note(name, after)
        presence = self._presence
        if presence is not None:
            self._note(name, before, after)
        if after.is_tombstone:
            self._hide(after.key)
        elif presence is None:
            self._show(after.key, after.value)
        elif presence.fate(after) is Fate.HERE:
            self._show(after.key, _unwrapped(after))
        else:
            self._hide(after.key)

    def _note(self, name: bytes, before: Entry | None, after: Entry | None) -> None:
        assert self._presence is not None
        self._presence.note(name, before, after)
        # What is hidden counts too: all of it may be shown at once.
        if before is not None and not before.is_tombstone:
            self._alike.remove(before.key)
        if after is not None and not after.is_tombstone:
            self._alike.add(after.key)

    def _drop(self, name: bytes, entry: Entry) -> None:
        self._note(name, entry, None)
        self.removed.drop(name)
        self.entries.forget(entry.key)
        self._forget_rows([name])
        self._hide(entry.key)

    def _show(self, key: Any, value: Any) -> None:
        old = self.shown.get(key, _MISSING)
        self.shown[key] = value
        if old is _MISSING and self._presence is None:
            self._alike.add(key)
        listener = self.listener
        if listener is not None and (old is _MISSING or not _same(old, value)):
            listener(MapPut(self.name, key, value))

    def _hide(self, key: Any) -> None:
        if self.shown.pop(key, _MISSING) is _MISSING:
            return
        if self._presence is None:
            self._alike.remove(key)
        if self.listener is not None:
            self.listener(MapRemove(self.name, key))


def _is_small(value: object) -> bool:
    """Whether it surely has a form on the wire, and fits: most values do."""
    kind = type(value)
    if kind is str:
        return len(value) < _SMALL and value.isascii()  # type: ignore[arg-type, attr-defined]
    if kind is int:
        return -_WORD <= value < _WORD  # type: ignore[operator]
    return (
        value is None or kind is bool or (kind is bytes and len(value) < _SMALL)  # type: ignore[arg-type]
    )


def _unwrapped(entry: Entry) -> Any:
    wrapped: Any = entry.value
    return wrapped[1]


def _same(one: object, other: object) -> bool:
    """Whether two values are the same for readers: 1 is not True, nor in a tuple."""
    if one is other:
        return True
    if type(one) is not type(other) or one != other:
        return False
    return type(one) in _SCALARS or encode(one) == encode(other)

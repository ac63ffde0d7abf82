"""An owner that is ready: an OR-Map that takes what other nodes send, once it is valid.

Registry and maps say what a value looks like and who may write it, and hear what has
changed. All that comes in passes ``wire.crdt_ingest``.

Bounded by ``STORE_ENTRIES_MAX``.

Source: Barrel P2P documentation, "The replicated substrate", "Wire safety".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, final

from barrel_p2p.core.clock import SystemClock, WallClock
from barrel_p2p.core.ormap import Change, Delta, OrMap
from barrel_p2p.errors import InvalidValue
from barrel_p2p.replica.limits import SPREAD_AGE_MS, STORE_ENTRIES_MAX
from barrel_p2p.wire.crdt_ingest import (
    Accepted,
    Leaf,
    MayWrite,
    Refusal,
    accept,
    entry_bytes,
    ingest,
)

__all__ = ["ReplicatedStore", "Source"]

type Source = Literal["update", "delta", "sync"]
"""What brought a change: a ``broadcast_update`` of this node, gossip, or a sync."""


@final
class ReplicatedStore:
    """A ``Replica`` around one OR-Map.

    Writes go through ``entries`` and ``ReplicaHandle.broadcast_delta``, or through
    ``ReplicaHandle.broadcast_update``.

    Args:
        entries: The map. Its owner may read it, and write to it with ``add`` and
            ``remove``.
        leaf: ``leaf(key, value)``, whether the value is one of this store's; None
            takes any. One that raises refuses the entry.
        may_write: ``may_write(key, node)``, whether that node may write or remove the
            key; None lets all. Asked about what other nodes send.
        on_change: Hears what a merge has changed, once a change, with what brought it.
        on_node_gone: Hears of a node that is gone for good.
        anti_entropy: Whether this node starts periodic comparisons.
        refuse_forgotten: Refuse the values that ``returned`` counts. No removed key
            comes back then; but of two halves that were apart for longer than the
            horizon, neither takes what the other wrote before it.
        entries_max: How many keys, removed ones included, the map may come to hold by
            what other nodes send.
        clock: The time of day.

    Attributes:
        entries: The map.
        refused: How many entries were not taken, by reason.
        expired: Tombstones that came after they were forgotten here; nobody needs them.
        overflowed: New keys that were not taken for want of room. Replicas of which
            one is full are not alike.
        returned: Values from before the horizon that were new here: perhaps a late
            node's, perhaps removed so long ago that nobody remembers.
    """

    def __init__(
        self,
        entries: OrMap,
        *,
        leaf: Leaf | None = None,
        may_write: MayWrite | None = None,
        on_change: Callable[[list[Change], Source], None] | None = None,
        on_node_gone: Callable[[str], None] | None = None,
        anti_entropy: bool = True,
        refuse_forgotten: bool = False,
        entries_max: int = STORE_ENTRIES_MAX,
        clock: WallClock | None = None,
    ) -> None:
        self.entries = entries
        self.refused: dict[Refusal, int] = {}
        self.expired = 0
        self.overflowed = 0
        self.returned = 0
        self._leaf = leaf
        self._may_write = may_write
        self._on_change = on_change
        self._on_node_gone = on_node_gone
        self._anti_entropy = anti_entropy
        self._refuse_forgotten = refuse_forgotten
        self._entries_max = entries_max
        self._clock = clock or SystemClock()

    def replica_merge_delta(self, name: str, delta: Mapping[Any, Any]) -> None:
        """Merge what another node wrote."""
        self._merge(delta, "delta")

    def replica_apply_full_sync(self, name: str, snapshot: Mapping[Any, Any]) -> bool:
        """Merge part of what another node holds.

        Returns:
            Whether something changed that gossip should have brought long ago.
        """
        changes = self._merge(snapshot, "sync")
        young_ms = self._clock.wall_ms() - SPREAD_AGE_MS
        return any(change.after.wall_ms < young_ms for change in changes)

    def replica_full_sync_snapshot(self, name: str) -> Delta | None:
        """Everything that is held, tombstones included; None for nothing at all."""
        return self.entries.snapshot() or None

    def replica_remove_node(self, name: str, node: str) -> None:
        """Nothing goes with a node, unless ``on_node_gone`` takes it away."""
        if self._on_node_gone is not None:
            self._on_node_gone(node)

    def replica_anti_entropy(self) -> bool:
        """Whether this node starts periodic comparisons."""
        return self._anti_entropy

    def replica_digest(self, name: str) -> bytes:
        """A u64 for each bucket."""
        return self.entries.digest()

    def replica_bucket(self, name: str, index: int) -> Delta:
        """The entries of one bucket."""
        return self.entries.bucket(index)

    def replica_collect(self, name: str, cutoff_wall_ms: int) -> None:
        """Forget the tombstones stamped before ``cutoff_wall_ms``."""
        self.entries.gc_tombstones(cutoff_wall_ms)

    def replica_write(self, name: str, op: tuple[Any, ...]) -> Delta:
        """Perform ``("add", key, value)`` or ``("remove", key)``.

        Returns:
            The entry that was written, for the other nodes.

        Raises:
            InvalidValue: ``leaf`` refuses the value.
            NotEncodable: The key is no key term, or the value has no form on the wire.
        """
        before = self.entries.entry(op[1])
        if op[0] == "remove":
            delta = self.entries.remove(op[1])
        else:
            if self._leaf is not None and not self._leaf(op[1], op[2]):
                raise InvalidValue(
                    f"replica {name!r} takes no value like {op[2]!r:.80}"
                )
            entry_bytes(op[1], op[2])  # Raises if it could not travel.
            delta = self.entries.add(op[1], op[2])
        self._tell(
            [Change(key, before, entry) for key, entry in delta.items()], "update"
        )
        return delta

    def _merge(self, incoming: Mapping[Any, Any], source: Source) -> list[Change]:
        entries, horizon_ms = self.entries, self.entries.horizon_ms
        accepted = accept(
            incoming,
            clock=entries.clock,
            may_write=self._may_write,
            leaf=self._leaf,
        )
        if horizon_ms:
            accepted = self._without_expired(accepted)
        room = self._entries_max - len(entries) - entries.tombstones
        if len(accepted.delta) > room:
            accepted = self._fitting(accepted, room)
        done = ingest(entries, accepted, refuse_forgotten=self._refuse_forgotten)
        for reason, count in done.refused.items():
            self.refused[reason] = self.refused.get(reason, 0) + count
        self.returned += sum(
            change.before is None
            and change.after.wall_ms < horizon_ms
            and not change.after.is_tombstone
            for change in done.changes
        )
        self._tell(done.changes, source)
        return done.changes

    def _without_expired(self, accepted: Accepted) -> Accepted:
        # Else two nodes that forget at different times would teach each other again.
        horizon_ms, kept = self.entries.horizon_ms, {}
        for key, entry in accepted.delta.items():
            is_old = entry.is_tombstone and entry.wall_ms < horizon_ms
            if is_old and self.entries.entry(entry.key) is None:
                self.expired += 1
            else:
                kept[key] = entry
        return Accepted(kept, accepted.refused)

    def _fitting(self, accepted: Accepted, room: int) -> Accepted:
        kept = {}
        for key, entry in accepted.delta.items():
            if self.entries.entry(entry.key) is None:
                if room <= 0:
                    self.overflowed += 1
                    continue
                room -= 1
            kept[key] = entry
        return Accepted(kept, accepted.refused)

    def _tell(self, changes: list[Change], source: Source) -> None:
        if changes and self._on_change is not None:
            self._on_change(changes, source)

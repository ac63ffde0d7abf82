"""What the owner of a store implements, and how it is called: its errors stay its own.

Source: Barrel P2P documentation, "The replicated substrate" (the callbacks' names).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, final

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.ormap import Delta, Entry, OrMap
from barrel_p2p.errors import InvalidValue, WireError
from barrel_p2p.replica.messages import DIGEST_BYTES
from barrel_p2p.wire.terms import decode

__all__ = ["Callbacks", "Replica"]

_OPTIONAL: Final = (
    "replica_merge_custom",
    "replica_anti_entropy",
    "replica_digest",
    "replica_bucket",
    "replica_collect",
    "replica_write",
)
_REQUIRED: Final = (
    "replica_merge_delta",
    "replica_apply_full_sync",
    "replica_full_sync_snapshot",
    "replica_remove_node",
)


class Replica(Protocol):
    """Whoever holds the OR-Map of a replica. ``ReplicatedStore`` is one that is ready.

    All are called on the node's loop, one at a time, and must not wait. What they are
    given comes from other nodes: use ``barrel_p2p.wire.crdt_ingest`` or check it.

    These may be there besides:

    ``replica_merge_custom(name, payload)``
        takes what another node gave to ``broadcast_custom``, once for each broadcast
        that arrives.
    ``replica_anti_entropy() -> bool``
        False keeps this node from starting the periodic comparison; it still answers.
    ``replica_digest(name) -> bytes`` and ``replica_bucket(name, index) -> delta``
        as those of ``OrMap``; without both, digests are taken from whole snapshots.
    ``replica_collect(name, cutoff_wall_ms)``
        forgets tombstones stamped before that time.
    ``replica_write(name, op) -> delta``
        performs the ``op`` of a ``broadcast_update`` and returns what it wrote.
    """

    def replica_merge_delta(self, name: str, delta: Mapping[Any, Any]) -> None:
        """Merge what another node wrote: entries by their keys' canonical bytes."""
        ...

    def replica_apply_full_sync(
        self, name: str, snapshot: Mapping[Any, Any]
    ) -> bool | None:
        """Merge part of what another node holds; a sync may take several calls.

        Returns:
            With ``replica_digest``: whether something changed that was written more
            than ``SPREAD_AGE_MS`` ago, so that other neighbours may lack it too.
        """
        ...

    def replica_full_sync_snapshot(self, name: str) -> Mapping[Any, Any] | None:
        """Everything that is held, tombstones included; None for nothing at all."""
        ...

    def replica_remove_node(self, name: str, node: str) -> None:
        """``node`` is gone for good; doing nothing about it is a valid choice."""
        ...


@final
class Callbacks:
    """One owner's callbacks, called so that what they raise is counted and logged.

    Args:
        name: The replica's name.
        owner: The object that has them.
        node: This node's name.
        complaints: Where errors go.

    Attributes:
        failed: Calls that raised, or returned what they must not.

    Raises:
        InvalidValue: A required callback is missing; the text names it.
    """

    def __init__(
        self, name: str, owner: Replica, node: str, complaints: Complaints
    ) -> None:
        for method in _REQUIRED:
            if not callable(getattr(owner, method, None)):
                raise InvalidValue(
                    f"the callback of replica {name!r} has no {method}",
                    hint="implement the Replica protocol, or use ReplicatedStore",
                )
        self.owner = owner
        self.failed = 0
        self._name = name
        self._node = node
        self._complaints = complaints
        self._found: dict[str, Callable[..., Any] | None] = {
            method: getattr(owner, method, None) for method in _OPTIONAL
        }
        self._has_digest = (
            self._found["replica_digest"] is not None
            and self._found["replica_bucket"] is not None
        )
        self._shadow: OrMap | None = None

    @property
    def anti_entropy(self) -> bool:
        """Whether the owner takes part in the periodic comparison as leader."""
        asked = self._found["replica_anti_entropy"]
        return True if asked is None else bool(self._call(True, asked))

    @property
    def collects(self) -> bool:
        """Whether the owner forgets tombstones."""
        return self._found["replica_collect"] is not None

    @property
    def writes(self) -> Callable[..., Any] | None:
        """The owner's ``replica_write``, if it has one."""
        return self._found["replica_write"]

    # What machines read.

    def digest(self) -> bytes | None:
        """A u64 for each bucket; None if the owner failed to say."""
        asked = self._found["replica_digest"]
        if asked is None or not self._has_digest:
            self._shadow = self._call(None, self._take_shadow)
            return None if self._shadow is None else self._shadow.digest()
        digest = self._call(None, asked, self._name)
        if digest is None or (type(digest) is bytes and len(digest) == DIGEST_BYTES):
            return digest
        self._fault(f"replica_digest returned no {DIGEST_BYTES} bytes")
        return None

    def bucket(self, index: int) -> Mapping[bytes, Entry]:
        """The entries of one bucket; empty if the owner failed to say."""
        asked = self._found["replica_bucket"]
        if asked is None or not self._has_digest:
            # As it was when the digest was taken: what came since is gossiped.
            return {} if self._shadow is None else self._shadow.bucket(index)
        found = self._call({}, asked, self._name, index)
        if isinstance(found, Mapping):
            return found
        self._fault(f"replica_bucket({index}) returned no mapping")
        return {}

    # What drivers tell.

    def merge_delta(self, delta: Delta) -> None:
        """Hand on what another node has gossiped."""
        self._call(None, self.owner.replica_merge_delta, self._name, delta)

    def apply_full_sync(self, entries: Delta, young_ms: int) -> bool:
        """Hand on part of what another node holds.

        Returns:
            Whether something in it from before ``young_ms``, by the wall, was new.
        """
        said = self._call(None, self.owner.replica_apply_full_sync, self._name, entries)
        if self._has_digest:
            return said is True
        if self._shadow is None:
            return False
        changes = self._shadow.merge(entries)
        return any(change.after.wall_ms < young_ms for change in changes)

    def merge_custom(self, payload: bytes) -> None:
        """Hand on a term that another node has gossiped."""
        asked = self._found["replica_merge_custom"]
        if asked is None:
            return
        try:
            value = decode(payload)
        except WireError as error:
            self._fault(f"a custom broadcast holds no term: {error}")
            return
        self._call(None, asked, self._name, value)

    def remove_node(self, node: str) -> None:
        """Say that ``node`` is gone for good."""
        self._call(None, self.owner.replica_remove_node, self._name, node)

    def collect(self, cutoff_wall_ms: int) -> None:
        """Let tombstones go."""
        asked = self._found["replica_collect"]
        if asked is not None:
            self._call(None, asked, self._name, cutoff_wall_ms)

    def _take_shadow(self) -> OrMap:
        snapshot = self.owner.replica_full_sync_snapshot(self._name)
        shadow = OrMap(self._node, HLC())
        shadow.merge({} if snapshot is None else dict(snapshot))
        return shadow

    def _call[T](self, otherwise: T, method: Callable[..., Any], *args: object) -> Any:
        try:
            return method(*args)
        except Exception as error:  # noqa: BLE001 -- it is somebody else's code
            self.failed += 1
            text = f"{getattr(method, '__name__', method)} failed: {error!r}"
            self._complaints.add(f"replica {self._name}", text, error=error)
            return otherwise

    def _fault(self, text: str) -> None:
        self.failed += 1
        self._complaints.add(f"replica {self._name}", text)

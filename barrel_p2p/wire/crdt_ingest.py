"""Deltas of an OR-Map on the wire, and the guard that they pass on their way in.

A delta is one term: the names of its writers, and its entries. Bounded by the
``DELTA_`` limits of ``barrel_p2p.wire.limits``. What is no delta at all is a
``WireError``; an entry that is wrong is counted by its reason and left out, because one
writer's nonsense must not keep another's entries from arriving.

Source: docs/reference/wire.md, "Deltas".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, final

from barrel_p2p.core.hlc import (
    COUNTER_MAX,
    HLC,
    ISSUED_COUNTER_MAX,
    WALL_MS_MAX,
    Timestamp,
)
from barrel_p2p.core.ormap import TOMBSTONE, Change, Delta, Entry, OrMap
from barrel_p2p.core.terms import NODE_NAME_BYTES_MAX, check_node_name
from barrel_p2p.errors import ClockDrift, InvalidValue, NotEncodable, WireError
from barrel_p2p.wire.limits import (
    DELTA_BYTES_MAX,
    DELTA_CHUNK_BYTES,
    DELTA_ENTRIES_MAX,
    DELTA_NODES_MAX,
)
from barrel_p2p.wire.terms import decode, encode, key_bytes

__all__ = [
    "Accepted",
    "Ingested",
    "Leaf",
    "MayWrite",
    "Refusal",
    "accept",
    "decode_delta",
    "encode_delta",
    "entry_bytes",
    "ingest",
    "valid_entry",
]

type Leaf = Callable[[object, object], bool]
"""Whether a value may lie under a key: ``leaf(key, value)``."""

type MayWrite = Callable[[object, str], bool]
"""Whether a node may write, or remove, a key: ``may_write(key, node)``."""

_TOMBSTONE_FIELDS: Final = 4
_VALUE_FIELDS: Final = 5
# What stands before and after the entries: 131, the pair, both lengths and NIL.
_FRAME_BYTES: Final = 3 + 2 + 5 + 1
# An entry is encoded as deep as it will lie, because the receiver counts from there.
_NESTING_BYTES: Final = 5
# A name as a term: its tag, its length and itself.
_NAME_BYTES_MAX: Final = 2 + NODE_NAME_BYTES_MAX
_ANY_NODE: Final = "n@h"


class Refusal(StrEnum):
    """Why an entry was left out."""

    DELTA = "delta"
    """It was no delta at all; counted as one."""
    FORM = "form"
    """An entry that is no tuple of four or five, or lies under another key's bytes."""
    KEY = "key"
    """Its key is no key term."""
    STAMP = "stamp"
    """Its stamp is not two integers in their ranges."""
    NODE = "node"
    """Its writer's name is missing or no node name."""
    DUPLICATE = "duplicate"
    """Another entry of the same delta beats it."""
    DRIFT = "drift"
    """Its stamp is further ahead than ``hlc_max_drift_ms``."""
    AUTHOR = "author"
    """Its writer may not write that key."""
    LEAF = "leaf"
    """Its value is not one that the application takes."""
    HORIZON = "horizon"
    """It is older than what this map has forgotten: it may have been removed."""


@final
@dataclass(frozen=True, slots=True)
class Accepted:
    """The entries that passed, and how many did not, by reason."""

    delta: Delta = field(default_factory=dict)
    refused: dict[Refusal, int] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True)
class Ingested:
    """What ``ingest`` did: what changed, what had passed, and what had not."""

    changes: list[Change]
    delta: Delta
    refused: dict[Refusal, int]


class _Chunk:
    """A delta under construction: a table of names, and entries that point into it."""

    __slots__ = ("_names", "_nodes", "_rows", "bytes")

    def __init__(self) -> None:
        self._nodes: dict[str, int] = {}
        self._names: list[bytes] = []
        self._rows: list[bytes] = []
        self.bytes = _FRAME_BYTES

    def add(self, entry: Entry, bytes_max: int) -> bool:
        """Take ``entry`` unless it would pass ``bytes_max`` or another limit."""
        index = self._nodes.get(entry.node, len(self._nodes))
        name = b"" if index < len(self._nodes) else encode(entry.node)[1:]
        row = _encode_row(entry, index)
        grown = self.bytes + len(name) + len(row)
        if grown > bytes_max or len(self._rows) == DELTA_ENTRIES_MAX:
            return False
        if index == DELTA_NODES_MAX:
            return False
        if name:
            self._nodes[entry.node] = index
            self._names.append(name)
        self._rows.append(row)
        self.bytes = grown
        return True

    def encoded(self) -> bytes:
        """The delta as a term, bit for bit what ``terms.encode`` makes of it."""
        return b"".join(
            (
                bytes((131, 104, 2, 104, len(self._names))),
                *self._names,
                b"l",
                len(self._rows).to_bytes(4, "big"),
                *self._rows,
                b"j",
            )
        )


def encode_delta(delta: Delta, *, chunk_bytes: int = DELTA_CHUNK_BYTES) -> list[bytes]:
    """Return ``delta`` as one or more deltas on the wire, in its own order.

    Args:
        delta: Entries by their keys' canonical bytes.
        chunk_bytes: Begin another one before this many bytes, 1 to
            ``DELTA_BYTES_MAX``. An entry that is longer by itself travels alone.

    Raises:
        NotEncodable: An entry has no form on the wire, or takes more than
            ``DELTA_BYTES_MAX``. The text names its key.
        InvalidValue: ``chunk_bytes`` is out of range.
    """
    if not 1 <= chunk_bytes <= DELTA_BYTES_MAX:
        raise InvalidValue(
            f"chunk_bytes={chunk_bytes} is not within 1 to "
            f"DELTA_BYTES_MAX={DELTA_BYTES_MAX}"
        )
    chunks: list[bytes] = []
    chunk = _Chunk()
    for entry in delta.values():
        if chunk.add(entry, chunk_bytes):
            continue
        if chunk.bytes > _FRAME_BYTES:
            chunks.append(chunk.encoded())
            chunk = _Chunk()
        if not chunk.add(entry, DELTA_BYTES_MAX):
            raise _too_long(entry.key)
    if chunk.bytes > _FRAME_BYTES:
        chunks.append(chunk.encoded())
    return chunks


def entry_bytes(key: object, value: object) -> int:
    """Return how many bytes an entry takes on the wire at most, its writer aside.

    Whoever writes to a map calls it first: what passes can travel.

    Raises:
        NotEncodable: ``key`` is no key term, ``value`` has no form as a term, or both
            together take more than ``DELTA_BYTES_MAX`` with the longest name.
    """
    key_bytes(key)
    latest = Timestamp(WALL_MS_MAX, COUNTER_MAX)
    size = len(_encode_row(Entry(key, latest, _ANY_NODE, value), DELTA_NODES_MAX))
    if size + _FRAME_BYTES + _NAME_BYTES_MAX > DELTA_BYTES_MAX:
        raise _too_long(key)
    return size


def decode_delta(data: bytes | bytearray | memoryview) -> Accepted:
    """Return the well-formed entries of a delta on the wire.

    Nothing is believed yet: ``accept`` says who may have written what.

    Raises:
        WireError: ``data`` is no delta, or exceeds a ``DELTA_`` limit.
    """
    payload = decode(data, bytes_max=DELTA_BYTES_MAX)
    match payload:
        case (tuple() as names, list() as rows):
            pass
        case _:
            raise WireError("a delta is a tuple of names and a list of entries")
    if len(names) > DELTA_NODES_MAX or len(rows) > DELTA_ENTRIES_MAX:
        raise WireError(
            f"delta of {len(names)} names and {len(rows)} entries; "
            f"DELTA_NODES_MAX={DELTA_NODES_MAX}, DELTA_ENTRIES_MAX={DELTA_ENTRIES_MAX}"
        )
    nodes = [_node(name) for name in names]
    accepted = Accepted()
    for row in rows:
        try:
            entry = _decode_row(row, nodes)
            _keep(accepted, key_bytes(entry.key), entry)
        except _Refused as refused:
            _count(accepted, refused.reason)
        except NotEncodable:
            _count(accepted, Refusal.KEY)
    return accepted


def valid_entry(entry: object, leaf: Leaf | None = None) -> bool:
    """Whether ``entry`` is an ``Entry`` that a map may merge. Never raises.

    Args:
        entry: Anything.
        leaf: Asked about the value, unless it is a tombstone. An answer that is not
            True, and an exception, make the entry invalid.
    """
    if type(entry) is not Entry:
        return False
    try:
        key_bytes(entry.key)
        check_node_name(entry.node)
    except (InvalidValue, NotEncodable):
        return False
    return _leaf_takes(entry, leaf)


def accept(
    payload: object,
    *,
    clock: HLC | None = None,
    may_write: MayWrite | None = None,
    leaf: Leaf | None = None,
) -> Accepted:
    """Return the entries of ``payload`` that a map may merge. Never raises.

    Args:
        payload: A delta as bytes, as ``decode_delta`` returned it, or as a dict of
            ``Entry`` objects by their keys' canonical bytes; anything else is empty.
        clock: Refuses stamps that it would not update by.
        may_write: Refuses entries by key and writer. It guards tombstones too.
        leaf: Refuses values. An exception in it, or in ``may_write``, or an answer that
            is not True, refuses that entry only.
    """
    received = _received(payload)
    accepted = Accepted({}, dict(received.refused))
    limit_ms = WALL_MS_MAX + 1 if clock is None else clock.drift_limit_ms()
    for name, entry in received.delta.items():
        # A full counter carries into the next millisecond, so it needs room for one.
        if entry.wall_ms >= limit_ms and not _is_near(entry, limit_ms):
            _count(accepted, Refusal.DRIFT)
        elif may_write is not None and not _author_may(entry, may_write):
            _count(accepted, Refusal.AUTHOR)
        elif not _leaf_takes(entry, leaf):
            _count(accepted, Refusal.LEAF)
        else:
            accepted.delta[name] = entry
    return accepted


def ingest(
    ormap: OrMap,
    payload: object,
    *,
    may_write: MayWrite | None = None,
    leaf: Leaf | None = None,
    refuse_forgotten: bool = False,
) -> Ingested:
    """Accept ``payload``, move the clock past it and merge it. Never raises.

    Args:
        ormap: The map to merge into; its clock bounds the stamps.
        payload: As for ``accept``.
        may_write: As for ``accept``.
        leaf: As for ``accept``.
        refuse_forgotten: Refuse values that are older than ``ormap.horizon_ms`` under
            keys that the map does not know: they may have been removed so long ago
            that the tombstone is gone. For deltas of a peer that was away longer.

    Returns:
        What changed, with the entries that had passed and the counts of those that
        had not.
    """
    accepted = accept(payload, clock=ormap.clock, may_write=may_write, leaf=leaf)
    if refuse_forgotten:
        accepted = _remembered(ormap, accepted)
    try:
        ormap.absorb_clock(accepted.delta)
    except ClockDrift:
        # The wall clock was set back since the bound was read.
        late = len(accepted.delta)
        refused = {**accepted.refused}
        refused[Refusal.DRIFT] = refused.get(Refusal.DRIFT, 0) + late
        return Ingested([], {}, refused)
    return Ingested(ormap.merge(accepted.delta), accepted.delta, accepted.refused)


class _Refused(Exception):
    """One entry of a delta is malformed."""

    def __init__(self, reason: Refusal) -> None:
        self.reason = reason


def _encode_row(entry: Entry, index: int) -> bytes:
    stamp = entry.stamp
    row: tuple[object, ...] = (entry.key, stamp.wall_ms, stamp.counter, index)
    if not entry.is_tombstone:
        row = (*row, entry.value)
    return encode(((row,),))[_NESTING_BYTES:]


def _decode_row(row: object, nodes: list[str | None]) -> Entry:
    if type(row) is not tuple or len(row) not in (_TOMBSTONE_FIELDS, _VALUE_FIELDS):
        raise _Refused(Refusal.FORM)
    key, wall_ms, counter, index = row[:_TOMBSTONE_FIELDS]
    # Timestamp() itself takes None for a zero.
    if wall_ms is None or counter is None:
        raise _Refused(Refusal.STAMP)
    try:
        stamp = Timestamp(wall_ms, counter)
    except InvalidValue:
        raise _Refused(Refusal.STAMP) from None
    node = nodes[index] if type(index) is int and 0 <= index < len(nodes) else None
    if node is None:
        raise _Refused(Refusal.NODE)
    value = row[_TOMBSTONE_FIELDS] if len(row) == _VALUE_FIELDS else TOMBSTONE
    return Entry(key, stamp, node, value)


def _node(name: object) -> str | None:
    try:
        return check_node_name(name)  # type: ignore[arg-type]
    except InvalidValue:
        return None


def _received(payload: object) -> Accepted:
    if isinstance(payload, Accepted):
        return payload
    if isinstance(payload, bytes | bytearray | memoryview):
        try:
            return decode_delta(payload)
        except WireError:
            return Accepted({}, {Refusal.DELTA: 1})
    if type(payload) is not dict:
        return Accepted({}, {Refusal.DELTA: 1})
    received = Accepted()
    for name, entry in payload.items():
        if not valid_entry(entry):
            _count(received, Refusal.FORM)
        elif key_bytes(entry.key) != name:
            _count(received, Refusal.KEY)
        else:
            received.delta[name] = entry
    return received


def _keep(accepted: Accepted, name: bytes, entry: Entry) -> None:
    twin = accepted.delta.get(name)
    if twin is None:
        accepted.delta[name] = entry
        return
    _count(accepted, Refusal.DUPLICATE)
    if entry.beats(twin):
        accepted.delta[name] = entry


def _count(accepted: Accepted, reason: Refusal) -> None:
    accepted.refused[reason] = accepted.refused.get(reason, 0) + 1


def _is_near(entry: Entry, limit_ms: int) -> bool:
    return entry.wall_ms == limit_ms and entry.stamp.counter < ISSUED_COUNTER_MAX


def _author_may(entry: Entry, may_write: MayWrite) -> bool:
    try:
        return may_write(entry.key, entry.node) is True
    except Exception:  # noqa: BLE001 - a rule of somebody else's that fails
        return False


def _leaf_takes(entry: Entry, leaf: Leaf | None) -> bool:
    if leaf is None or entry.is_tombstone:
        return True
    try:
        return leaf(entry.key, entry.value) is True
    except Exception:  # noqa: BLE001 - a rule of somebody else's that fails
        return False


def _remembered(ormap: OrMap, accepted: Accepted) -> Accepted:
    """``accepted`` without what may have been removed and forgotten."""
    kept = Accepted({}, accepted.refused)
    for name, entry in accepted.delta.items():
        is_old = entry.wall_ms < ormap.horizon_ms and not entry.is_tombstone
        if is_old and ormap.entry(entry.key) is None:
            _count(kept, Refusal.HORIZON)
        else:
            kept.delta[name] = entry
    return kept


def _too_long(key: object) -> NotEncodable:
    return NotEncodable(
        f"the entry of {key!r} takes more than DELTA_BYTES_MAX={DELTA_BYTES_MAX}",
        hint="keep large values elsewhere, and their address in the map",
    )

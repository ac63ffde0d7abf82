"""One entry of an OR-Map as a row of a store, and back, without trusting the row.

A row carries a checksum over the rest of it, so that damage which the database cannot
see is not taken for a value. Values are canonical terms; those that mean nothing after
a restart, pids and references, are refused before they are kept.

Bounded by the ``TERM_`` and ``KEY_`` limits of ``barrel_p2p.wire.limits``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from xxhash import xxh3_64_intdigest

from barrel_p2p.core.hlc import TIMESTAMP_BYTES, Timestamp
from barrel_p2p.core.ormap import TOMBSTONE, Entry
from barrel_p2p.core.terms import Pid, Ref
from barrel_p2p.errors import InvalidValue, NotEncodable, WireError
from barrel_p2p.wire.terms import decode, encode, key_bytes

__all__ = [
    "TOMBSTONE_KIND",
    "VALUE_KIND",
    "Row",
    "RowDamaged",
    "check_restart_safe",
    "decode_row",
    "encode_row",
    "row_sum",
]

VALUE_KIND: Final = 1
TOMBSTONE_KIND: Final = 2
"""Column ``kind``. Of two rows equal in stamp and node the greater one wins."""

type Row = tuple[bytes, bytes, str, int, bytes, int]
"""key, stamp, node, kind, value, sum: the columns of ``entry`` in their order."""

_TYPES: Final = [bytes, bytes, str, int, bytes, int]
# The tags of a pid and of a reference. A term without these bytes holds neither.
_PID_TAG: Final = b"\x58"
_REF_TAG: Final = b"\x5a"
_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})
_SIGN: Final = 1 << 63
_TWICE: Final = 1 << 64


class RowDamaged(Exception):
    """A row is not what was written. The text says why."""


def check_restart_safe(value: object) -> None:
    """Refuse a value that would mean nothing after a restart.

    Whoever keeps values calls it before it stamps a write.

    Raises:
        InvalidValue: There is a ``Pid`` or a ``Ref`` in ``value``. The text names it.
        NotEncodable: ``value`` has no form as a term.
    """
    _restart_safe(value, encode(value))


def encode_row(key: bytes, entry: Entry) -> Row:
    """Return the row of ``entry``.

    Args:
        key: The canonical bytes of its key.
        entry: What is kept.

    Raises:
        InvalidValue: Key or value hold a ``Pid`` or a ``Ref``.
        NotEncodable: The value has no form as a term.
    """
    _restart_safe(entry.key, key)
    stamp, node = entry.stamp.to_binary(), entry.node
    if entry.is_tombstone:
        kind, value = TOMBSTONE_KIND, b""
    else:
        kind, value = VALUE_KIND, encode(entry.value)
        _restart_safe(entry.value, value)
    return key, stamp, node, kind, value, row_sum(key, stamp, node, kind, value)


def decode_row(row: tuple[object, ...], names: dict[str, str]) -> Entry:
    """Return the entry of ``row``, once every part of it was checked.

    Args:
        row: As the database has it.
        names: Names of nodes seen so far, so that entries share them.

    Raises:
        RowDamaged: It is no row, or not the one that was written.
    """
    # Types are compared, not matched: a store has a million rows.
    if [type(column) for column in row] != _TYPES:
        raise RowDamaged(f"the row of key {row[:1]!r:.80} has not the right types")
    key, stamp, node, kind, value, total = cast("Row", row)
    if len(stamp) != TIMESTAMP_BYTES or not VALUE_KIND <= kind <= TOMBSTONE_KIND:
        raise RowDamaged(f"the row of key {key!r:.80} has no stamp, or no kind")
    if row_sum(key, stamp, node, kind, value) != total:
        raise RowDamaged(f"the row of key {key!r:.80} does not match its checksum")
    try:
        name = decode(key)
        if key_bytes(name) != key:
            raise RowDamaged(f"the key {key!r:.80} is not in canonical form")
        content = TOMBSTONE if kind == TOMBSTONE_KIND else decode(value)
        node = names.setdefault(node, node)
        return Entry(name, Timestamp.from_binary(stamp), node, content)
    except (InvalidValue, NotEncodable, WireError) as error:
        raise RowDamaged(f"the row of key {key!r:.80} is no entry: {error}") from error


def row_sum(key: bytes, stamp: bytes, node: str, kind: int, value: bytes) -> int:
    """XXH3-64 of stamp, kind, length of the node's name, name, length of the key, key
    and value, as the signed integer that SQLite keeps.
    """
    name = node.encode(errors="surrogatepass")
    head = bytes((kind, len(name) & 0xFF))
    size = len(key).to_bytes(4, "big")
    total = xxh3_64_intdigest(stamp + head + name + size + key + value)
    return total if total < _SIGN else total - _TWICE


def _restart_safe(value: object, encoded: bytes) -> None:
    if type(value) in _PLAIN:
        return
    if _PID_TAG in encoded or _REF_TAG in encoded:
        _search(value)


def _search(value: object) -> None:
    """Look through containers that ``encode`` has bounded in depth and number."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Pid | Ref):
            raise InvalidValue(
                f"{found!r:.80} means nothing after a restart and cannot be kept",
                hint="keep the name of a service, or of a node, in its place",
            )
        if isinstance(found, Mapping):
            waiting.extend(found.keys())
            waiting.extend(found.values())
        elif isinstance(found, tuple | list | set | frozenset):
            waiting.extend(found)

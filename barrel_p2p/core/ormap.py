"""OR-Map: a map that replicas write apart, and that merging makes equal everywhere.

Compiled in ``_ormap.pyx``; what it must do is stated by ``tests/models/ormap.py``. It
keeps one entry a key, that of the last writer, and a removed key as a tombstone until
``gc_tombstones``. How many keys a peer may add is not bounded here but where its deltas
come in.

Source: Shapiro, Preguica, Baquero, Zawirski, "A comprehensive study of Convergent and
Commutative Replicated Data Types", 2011.
"""

from __future__ import annotations

from barrel_p2p.core._ormap import (
    BUCKETS,
    TOMBSTONE,
    Change,
    Entry,
    OrMap,
    set_key_bytes,
)

__all__ = [
    "BUCKETS",
    "TOMBSTONE",
    "Change",
    "Delta",
    "Entry",
    "OrMap",
    "set_key_bytes",
]

type Delta = dict[bytes, Entry]
"""Entries by the canonical bytes of their keys."""

"""How much a peer may make us hold: every limit of the wire, in one place.

A limit is part of the protocol only where docs/reference/wire.md says so; all of them
are refused from the announced size, before anything of that size is allocated.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ATOM_CACHE_SLOTS",
    "DELTA_BYTES_MAX",
    "DELTA_CHUNK_BYTES",
    "DELTA_ENTRIES_MAX",
    "DELTA_NODES_MAX",
    "FRAME_BYTES_MAX",
    "FRAME_BYTES_MAX_PREAUTH",
    "INT_BITS_MAX",
    "KEY_STEPS_FREE",
    "KEY_STEPS_PER_BYTE",
    "KEY_TERM_BYTES_MAX",
    "KEY_TERM_DEPTH_MAX",
    "STR_CACHE_SLOTS",
    "TERM_BYTES_MAX",
    "TERM_DEPTH_MAX",
    "TERM_MEMORY_FREE",
    "TERM_MEMORY_PER_BYTE",
    "TERM_NODES_MAX",
]

FRAME_BYTES_MAX: Final = 8 << 20
"""Greatest value of a frame's length field: kind, flags and body. Larger values travel
on user streams. A peer can make us hold this many bytes, those of a torn frame, on each
of its unidirectional streams."""

FRAME_BYTES_MAX_PREAUTH: Final = 16 << 10
"""The same on the auth stream, where the sender is still nobody."""

TERM_BYTES_MAX: Final = FRAME_BYTES_MAX - 1024
"""Bytes of one encoded term, so that it fits a frame with whatever stands before it."""

TERM_DEPTH_MAX: Final = 256
"""Containers around a value, itself included if it is one. ``==``, ``repr`` and
``hash`` of whatever decodes stay well within Python's own recursion limit."""

TERM_NODES_MAX: Final = 2 << 20
"""Values in one term, containers included."""

TERM_MEMORY_PER_BYTE: Final = 8
"""Bytes of memory that each byte of a long term may take as a Python value."""

TERM_MEMORY_FREE: Final = 8 << 20
"""Bytes of memory that any term may take, however short."""

INT_BITS_MAX: Final = 8_192
"""Bits of an integer without its sign. ``str`` of it stays possible: Python refuses
from about 14,000 bits."""

KEY_STEPS_FREE: Final = 1 << 19
"""Steps that a term's keys may take through Python's hash tables. A step is a slot
looked at, or a byte of a key to be compared because another key has the same hash."""

KEY_STEPS_PER_BYTE: Final = 2
"""The same for every byte of the term up to and including the key."""

KEY_TERM_BYTES_MAX: Final = 1_024
"""Bytes of an encoded key term."""

KEY_TERM_DEPTH_MAX: Final = 8
"""Tuples around a value in a key term."""

STR_CACHE_SLOTS: Final = 1_024
"""Short strings that decoding keeps to hand out again; each has at most 32 bytes."""

ATOM_CACHE_SLOTS: Final = 256
"""The same for atoms."""

DELTA_BYTES_MAX: Final = 1 << 20
"""Bytes of one encoded delta, and so of the greatest entry of a replicated map."""

DELTA_CHUNK_BYTES: Final = 64 << 10
"""Bytes from which a sender begins another delta. Only a single entry may be longer."""

DELTA_ENTRIES_MAX: Final = 4_096
"""Entries of one encoded delta, which are looked at one by one: some 10 ms in all."""

DELTA_NODES_MAX: Final = 255
"""Names of writers in one encoded delta."""

"""What happened, as one number: equal seeds must give equal traces.

An event is one u64: milliseconds (30 bits), the node it happened to (14), the peer it
is about (14), what it was (6). The hash is XXH3-64 over them in order, little-endian.
"""

from __future__ import annotations

import sys
from array import array
from typing import Final, final

import xxhash

__all__ = ["KIND_DOWN", "KIND_FAILED", "KIND_TIMER", "KIND_UP", "NODES_MAX", "Trace"]

NODES_MAX: Final = 1 << 14
"""Nodes of one simulation, at most."""

KIND_UP: Final = 1
KIND_DOWN: Final = 2
KIND_FAILED: Final = 3
KIND_TIMER: Final = 4
"""Kinds that are no message; a message has the number of its frame kind."""

_BATCH: Final = 1 << 15


@final
class Trace:
    """A running hash of events."""

    __slots__ = ("_events", "_hash", "count")

    def __init__(self) -> None:
        self.count = 0
        self._events = array("Q")
        self._hash = xxhash.xxh3_64()

    def add(self, now_ms: int, node: int, peer: int, kind: int) -> None:
        """Note one event.

        Args:
            now_ms: Virtual time, below 2^30.
            node: Index of the node it happened to, below ``NODES_MAX``.
            peer: Index of the node it is about.
            kind: A frame kind below 64, or one of ``KIND_*``.
        """
        self._events.append(now_ms << 34 | node << 20 | peer << 6 | kind)
        if len(self._events) >= _BATCH:
            self._flush()

    def add_bytes(self, content: bytes) -> None:
        """Note what was said, where a run encodes its messages."""
        self._flush()
        self._hash.update(content)

    def digest(self) -> str:
        """The hash so far: 16 hexadecimal digits."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self.count += len(self._events)
        if sys.byteorder == "big":
            self._events.byteswap()
        self._hash.update(self._events.tobytes())
        self._events = array("Q")

"""How much a peer may make us hold: every limit of the wire, in one place.

A limit is part of the protocol only where docs/reference/wire.md says so; all of them
are refused from the announced size, before anything of that size is allocated.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "FRAME_BYTES_MAX",
    "FRAME_BYTES_MAX_PREAUTH",
]

FRAME_BYTES_MAX: Final = 8 << 20
"""Greatest value of a frame's length field: kind, flags and body. Larger values travel
on user streams. A peer holds at most this many bytes of a torn frame on each of its
unidirectional streams."""

FRAME_BYTES_MAX_PREAUTH: Final = 16 << 10
"""The same on the auth stream, where the sender is still nobody."""

"""The OR-Map for programs that merge state of their own.

Stability: supported. The same as ``barrel_p2p.core.ormap``, ready to know any key.
"""

from __future__ import annotations

import barrel_p2p.wire.terms  # noqa: F401 - gives maps the bytes of their keys
from barrel_p2p.core.ormap import BUCKETS, TOMBSTONE, Change, Delta, Entry, OrMap

__all__ = ["BUCKETS", "TOMBSTONE", "Change", "Delta", "Entry", "OrMap"]

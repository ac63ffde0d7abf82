"""Which messages this node has seen: ids with a common life, in 32 bytes each.

Compiled in ``_dedup.pyx`` over ``csrc/codec/seen_ids.c``; what it must do is stated by
``tests/models/dedup.py``. Bounded by ``ids_max`` of each table, at most ``IDS_TOP``.

Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012.
"""

from __future__ import annotations

from barrel_p2p.broadcast._dedup import ID_BYTES, IDS_TOP, SeenIds

__all__ = ["IDS_TOP", "ID_BYTES", "SeenIds"]

"""The passive view: nodes that may replace a peer, and spares for when they are gone.

Compiled in ``_passive.pyx``; what it must do is stated by ``tests/models/passive.py``.
Bounded by the ``passive_size`` of the settings and ``SPARES_MAX``.

Source: Leitao, Pereira, Rodrigues, "HyParView", DSN 2007, section 4.
"""

from __future__ import annotations

from barrel_p2p.membership._passive import (
    BACKOFF_MS_MAX,
    SPARES_MAX,
    PassiveEntry,
    PassiveView,
    backoff_ms,
)

__all__ = [
    "BACKOFF_MS_MAX",
    "SPARES_MAX",
    "PassiveEntry",
    "PassiveView",
    "backoff_ms",
]

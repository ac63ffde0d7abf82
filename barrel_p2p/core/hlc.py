"""Hybrid logical clock: timestamps that respect causality and stay near the wall.

Compiled in ``_hlc.pyx``; what it must do is stated by ``tests/models/hlc.py``. Bounded
by ``WALL_MS_MAX``, ``COUNTER_MAX`` and, against peers, by ``max_drift_ms``.

Source: Kulkarni et al., "Logical Physical Clocks", OPODIS 2014.
"""

from __future__ import annotations

from barrel_p2p.core._hlc import (
    COUNTER_MAX,
    FENCE_EPOCH_MS,
    FENCE_WALL_MS_MAX,
    HLC,
    ISSUED_COUNTER_MAX,
    MAX_DRIFT_MS_DEFAULT,
    TIMESTAMP_BYTES,
    WALL_MS_MAX,
    Timestamp,
    node_tag,
)

__all__ = [
    "COUNTER_MAX",
    "FENCE_EPOCH_MS",
    "FENCE_WALL_MS_MAX",
    "HLC",
    "ISSUED_COUNTER_MAX",
    "MAX_DRIFT_MS_DEFAULT",
    "TIMESTAMP_BYTES",
    "WALL_MS_MAX",
    "Timestamp",
    "node_tag",
]

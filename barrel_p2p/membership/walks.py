"""Walks that come by: how many a peer may send, where they go, and the way back.

Compiled in ``_walks.pyx``; what it must do is stated by ``tests/models/walks.py``.
Bounded by ``WALKS_MAX`` walks of a peer in ``WALKS_WINDOW_MS`` milliseconds, and by
``RELAYS_MAX`` walks whose way back is remembered.
"""

from __future__ import annotations

from barrel_p2p.membership._walks import (
    ENDS,
    IGNORED,
    PASSED,
    RELAYS_MAX,
    WALKS_MAX,
    WALKS_WINDOW_MS,
    ActivePeer,
    Walks,
)

__all__ = [
    "ENDS",
    "IGNORED",
    "PASSED",
    "RELAYS_MAX",
    "WALKS_MAX",
    "WALKS_WINDOW_MS",
    "ActivePeer",
    "Walks",
]

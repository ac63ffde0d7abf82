"""How many walks a peer may send this way.

A walk makes up to ``arwl`` nodes work for one message, so only peers may send one, and
each only so many.
"""

from __future__ import annotations

from typing import Final

from barrel_p2p.membership.links import Links

__all__ = ["WALKS_MAX", "WALKS_WINDOW_MS", "may_walk"]

WALKS_MAX: Final = 256
"""Walks that one peer may send within ``WALKS_WINDOW_MS``."""

WALKS_WINDOW_MS: Final = 1_000


def may_walk(links: Links, peer: str) -> bool:
    """Whether to follow a walk that came from ``peer``, which counts it."""
    entry = links.active.get(peer)
    if entry is None:
        return False
    if links.now - entry.window_ms >= WALKS_WINDOW_MS:
        entry.window_ms = links.now
        entry.walks = 0
    entry.walks += 1
    return entry.walks <= WALKS_MAX

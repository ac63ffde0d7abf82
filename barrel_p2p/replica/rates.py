"""How often a peer is answered: a bucket of tokens for each peer and replica.

Bounded by ``RATED_MAX``: who was heard of longest ago is forgotten, and starts anew.
"""

from __future__ import annotations

from typing import final

from barrel_p2p.replica.limits import ANSWER_BURST_MAX, ANSWER_EVERY_MS, RATED_MAX

__all__ = ["Rates"]


@final
class Rates:
    """Tokens of all peers: ``ANSWER_BURST_MAX``, one more every ``ANSWER_EVERY_MS``."""

    def __init__(self) -> None:
        # When the bucket would be full again, which says how many tokens are in it.
        self._full_at_ms: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._full_at_ms)

    def take(self, peer: str, replica: str, now_ms: int) -> bool:
        """Take a token; returns whether there was one."""
        key = (peer, replica)
        full_at_ms = max(self._full_at_ms.pop(key, now_ms), now_ms)
        allowed = full_at_ms - now_ms <= (ANSWER_BURST_MAX - 1) * ANSWER_EVERY_MS
        if allowed:
            full_at_ms += ANSWER_EVERY_MS
        if len(self._full_at_ms) >= RATED_MAX:
            del self._full_at_ms[next(iter(self._full_at_ms))]
        self._full_at_ms[key] = full_at_ms
        return allowed

"""How much of the requests of others a router takes part in at once, and how often.

Exactly ``max_in_flight`` together; three quarters of them for any one peer, so that one
cannot keep out the others; and as many a second of each peer as there are places.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["RouterQuota"]

_REFILLED_MS: Final = 1_000


@final
class RouterQuota:
    """The places of one router.

    Args:
        max_in_flight: How many there are, at least 1.

    Attributes:
        in_flight: How many are taken.
    """

    def __init__(self, max_in_flight: int) -> None:
        self.in_flight = 0
        self._max = max_in_flight
        self._peer_max = max(max_in_flight * 3 // 4, 1)
        self._of_peer: dict[str, int] = {}
        self._tokens: dict[str, tuple[int, int]] = {}  # thousandths, as of when

    def __len__(self) -> int:
        """Peers whose rate is remembered."""
        return len(self._tokens)

    def take(self, peer: str, now_ms: int) -> bool:
        """A place for a request of ``peer``, if there is one for it."""
        held = self._of_peer.get(peer, 0)
        if self.in_flight >= self._max or held >= self._peer_max:
            return False
        full = self._max * 1_000
        tokens, since_ms = self._tokens.get(peer, (full, now_ms))
        tokens = min(tokens + (now_ms - since_ms) * self._max, full)
        if tokens < 1_000:
            return False
        self._tokens[peer] = (tokens - 1_000, now_ms)
        self._of_peer[peer] = held + 1
        self.in_flight += 1
        return True

    def release(self, peer: str) -> None:
        """Give back a place that ``take`` gave to ``peer``."""
        self.in_flight -= 1
        left = self._of_peer[peer] - 1
        if left:
            self._of_peer[peer] = left
        else:
            del self._of_peer[peer]

    def sweep(self, now_ms: int) -> None:
        """Forget the peers that may ask as often as if they had never asked."""
        for peer, (_, since_ms) in list(self._tokens.items()):
            if now_ms - since_ms >= _REFILLED_MS:
                del self._tokens[peer]

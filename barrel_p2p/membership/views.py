"""The tables behind the views: plain data with bounds, no protocol.

The passive view has a module of its own. Bounded by ``REMEMBERED_MAX`` and
``NAMES_MAX``.

Source: Leitao, Pereira, Rodrigues, "HyParView", DSN 2007, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from barrel_p2p.core.names import Address
from barrel_p2p.core.records import quickly_made
from barrel_p2p.core.rng import Rng

__all__ = [
    "NAMES_MAX",
    "REMEMBERED_MAX",
    "SHUFFLE_PERIOD_MS_MAX",
    "SHUFFLE_PERIOD_MS_MIN",
    "Churn",
    "ExpiringNames",
    "RememberedPeer",
    "RememberedPeers",
    "shuffle_period_ms",
]

REMEMBERED_MAX: Final = 256
NAMES_MAX: Final = 256
SHUFFLE_PERIOD_MS_MIN: Final = 2_000
SHUFFLE_PERIOD_MS_MAX: Final = 30_000


def shuffle_period_ms(events: int, base_ms: int) -> int:
    """The time to the next shuffle: shorter while nodes come and go.

    Args:
        events: Comings and goings in the churn window.
        base_ms: ``shuffle_period``.

    Returns:
        At most ``SHUFFLE_PERIOD_MS_MAX``; below ``SHUFFLE_PERIOD_MS_MIN`` only where
        ``base_ms`` is.
    """
    floor = min(SHUFFLE_PERIOD_MS_MIN, base_ms)
    if events > 10:
        return floor
    if events > 5:
        return min(max(floor, base_ms // 2), SHUFFLE_PERIOD_MS_MAX)
    return min(base_ms, SHUFFLE_PERIOD_MS_MAX)


class Churn:
    """Comings and goings since the window began; a new one begins when it is over."""

    __slots__ = ("_joins", "_leaves", "_since_ms", "_window_ms")

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._since_ms = 0
        self._joins = 0
        self._leaves = 0

    def join(self, now_ms: int) -> None:
        """Count a coming."""
        self._renew(now_ms)
        self._joins += 1

    def leave(self, now_ms: int) -> None:
        """Count a going."""
        self._renew(now_ms)
        self._leaves += 1

    def stats(self, now_ms: int) -> tuple[int, int]:
        """Comings and goings in this window."""
        self._renew(now_ms)
        return self._joins, self._leaves

    def _renew(self, now_ms: int) -> None:
        if now_ms - self._since_ms > self._window_ms:
            self._since_ms = now_ms
            self._joins = self._leaves = 0


class ExpiringNames:
    """Names that count until a time: the first to come is the first to be forgotten.

    Attributes:
        until: Name to when it ceases to count; to look first whether it is there.
    """

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until: dict[str, int] = {}

    def add(self, name: str, until_ms: int) -> None:
        """Have ``name`` count until then; if there are too many, forget the oldest."""
        self.until.pop(name, None)
        self.until[name] = until_ms
        if len(self.until) > NAMES_MAX:
            del self.until[next(iter(self.until))]

    def discard(self, name: str) -> None:
        """Have ``name`` count no more."""
        self.until.pop(name, None)

    def has(self, name: str, now_ms: int) -> bool:
        """Whether ``name`` counts."""
        until = self.until.get(name)
        return until is not None and now_ms < until

    def names(self, now_ms: int) -> list[str]:
        """Those that count."""
        return [name for name, until in self.until.items() if now_ms < until]

    def prune(self, now_ms: int) -> None:
        """Forget what does not count any more."""
        self.until = {n: until for n, until in self.until.items() if now_ms < until}

    def __len__(self) -> int:
        return len(self.until)


@quickly_made
@dataclass(slots=True)
class RememberedPeer:
    """A node that was a peer once.

    Args:
        address: Where it was.
        seen_ms: When it was last known to be there, by the monotonic clock.
        failing: The last attempt to reach it failed.
    """

    address: Address
    seen_ms: int
    failing: bool = False


class RememberedPeers:
    """Former peers, kept over restarts, to find them again after a long partition.

    Failure alone removes nobody: when it is full, a node that can be reached, and so
    be learnt anew, makes room for the next.

    Args:
        rng: Who goes.

    Attributes:
        dirty: It differs from what was last given to be written.
    """

    __slots__ = ("_peers", "_rng", "dirty")

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._peers: dict[str, RememberedPeer] = {}
        self.dirty = False

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, name: str) -> bool:
        return name in self._peers

    def get(self, name: str) -> RememberedPeer | None:
        """What is remembered of ``name``."""
        return self._peers.get(name)

    def addresses(self) -> tuple[Address, ...]:
        """All of them, in the order in which they were met."""
        return tuple([peer.address for peer in self._peers.values()])

    def load(self, address: Address, now_ms: int) -> None:
        """Take in what an earlier life remembered; it has yet to be reached."""
        if len(self._peers) < REMEMBERED_MAX:
            self._peers[address.name] = RememberedPeer(address, now_ms, failing=True)

    def met(self, address: Address, now_ms: int) -> None:
        """It is there, and said that its address is this."""
        peer = self._peers.get(address.name)
        if peer is not None:
            peer.seen_ms = now_ms
            peer.failing = False
            if address.port and peer.address != address:
                peer.address = address
                self.dirty = True
            return
        if len(self._peers) >= REMEMBERED_MAX:
            self._drop_one()
        self._peers[address.name] = RememberedPeer(address, now_ms)
        self.dirty = True

    def failed(self, name: str) -> None:
        """It could not be reached."""
        peer = self._peers.get(name)
        if peer is not None:
            peer.failing = True

    def forget(self, name: str) -> None:
        """It has left."""
        if self._peers.pop(name, None) is not None:
            self.dirty = True

    def clear(self) -> None:
        """Forget all."""
        self.dirty = self.dirty or bool(self._peers)
        self._peers.clear()

    def due(
        self, oldest_ms: int, is_fit: Callable[[str], bool]
    ) -> list[RememberedPeer]:
        """Those to be tried again: failing, or last seen before ``oldest_ms``."""
        return [
            peer
            for name, peer in self._peers.items()
            if (peer.failing or peer.seen_ms < oldest_ms) and is_fit(name)
        ]

    def _drop_one(self) -> None:
        failing = [name for name, peer in self._peers.items() if peer.failing]
        # Half of the places are kept for nodes that can be reached.
        names: Collection[str] = failing
        if len(failing) <= REMEMBERED_MAX // 2:
            names = [name for name, peer in self._peers.items() if not peer.failing]
        chosen = list(names)
        del self._peers[chosen[self._rng.below(len(chosen))]]

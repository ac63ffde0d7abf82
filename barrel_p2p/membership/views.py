"""The tables behind the views: plain data with bounds, no protocol.

Bounded by the ``passive_size`` of the settings, ``SPARES_MAX``, ``REMEMBERED_MAX`` and
``NAMES_MAX``.

Source: Leitao, Pereira, Rodrigues, "HyParView", DSN 2007, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable
from dataclasses import dataclass
from typing import Final

from barrel_p2p.core.names import Address
from barrel_p2p.core.records import quickly_made
from barrel_p2p.core.rng import Rng
from barrel_p2p.membership.settings import Settings

__all__ = [
    "BACKOFF_MS_MAX",
    "NAMES_MAX",
    "REMEMBERED_MAX",
    "SHUFFLE_PERIOD_MS_MAX",
    "SHUFFLE_PERIOD_MS_MIN",
    "SPARES_MAX",
    "Churn",
    "ExpiringNames",
    "PassiveEntry",
    "PassiveView",
    "RememberedPeer",
    "RememberedPeers",
    "backoff_ms",
    "shuffle_period_ms",
]

BACKOFF_MS_MAX: Final = 300_000
REMEMBERED_MAX: Final = 256
NAMES_MAX: Final = 256
SPARES_MAX: Final = 128
SHUFFLE_PERIOD_MS_MIN: Final = 2_000
SHUFFLE_PERIOD_MS_MAX: Final = 30_000

_REFUSED_MS: Final = 500
_REFUSALS_COUNTED: Final = 7
_DOUBLINGS_MAX: Final = 20


def backoff_ms(fail_count: int, base_ms: int) -> int:
    """How long a node is left alone after ``fail_count`` failures in a row.

    Args:
        fail_count: At least 0.
        base_ms: ``base_backoff_ms``.

    Returns:
        ``base_ms`` doubled as often as it failed, at most ``BACKOFF_MS_MAX``.
    """
    return min(base_ms << min(fail_count, _DOUBLINGS_MAX), BACKOFF_MS_MAX)


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
class PassiveEntry:
    """A replacement, and this node's own experience with it.

    Args:
        address: Where it may be.
        last_seen_ms: When it was last known to be there, by the monotonic clock.
        proven: There was a channel to it, so that it exists.
        fail_count: Failures in a row.
        refusals: Refusals in a row.
        backoff_until_ms: It is left alone until then.
    """

    address: Address
    last_seen_ms: int
    proven: bool = False
    fail_count: int = 0
    refusals: int = 0
    backoff_until_ms: int = 0


class PassiveView:
    """Nodes that may replace a peer. Who is in the active view is not in here.

    Who had to make room is kept as a spare: when most of the cluster is gone, whom this
    node ever heard of counts.

    Args:
        settings: Its size, and how failures count.
        rng: Who goes when it is full.
    """

    __slots__ = ("_entries", "_may_have_failed", "_rng", "_settings", "_spares")

    def __init__(self, settings: Settings, rng: Rng) -> None:
        self._settings = settings
        self._rng = rng
        self._entries: dict[str, PassiveEntry] = {}
        self._may_have_failed = False  # False: no entry has a `fail_count`
        self._spares: dict[str, Address] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def get(self, name: str) -> PassiveEntry | None:
        """The entry of ``name``, if there is one."""
        return self._entries.get(name)

    def names(self) -> list[str]:
        """Who is in it, the longest known first."""
        return list(self._entries)

    def add(
        self, address: Address, now_ms: int, *, first_out: Iterable[str] = ()
    ) -> PassiveEntry | None:
        """Take in ``address``; returns its entry if it is new; see ``renew``.

        Args:
            address: Hearsay, or where it said itself that it is.
            now_ms: The monotonic clock.
            first_out: Who goes first if it is full; otherwise anybody.
        """
        if self.renew(address):
            return None
        if len(self._entries) >= self._settings.passive_size:
            self._drop_one(first_out)
        self._entries[address.name] = entry = PassiveEntry(address, now_ms)
        return entry

    def renew(self, address: Address) -> bool:
        """Hear again of a node that is in here; returns False if it is not.

        What this node knows itself is not overruled: the address of an entry changes
        only while nobody has met it there.
        """
        entry = self._entries.get(address.name)
        if entry is None:
            return False
        if not entry.proven or entry.fail_count:
            entry.address = address
        return True

    def met(self, address: Address, now_ms: int) -> PassiveEntry:
        """Take in a node that there is, or was, a channel to."""
        entry = self._entries.get(address.name) or self.add(address, now_ms)
        assert entry is not None
        entry.address = address if address.port else entry.address
        entry.proven = True
        entry.last_seen_ms = now_ms
        entry.fail_count = 0
        return entry

    def pop(self, name: str) -> None:
        """Forget ``name``."""
        self._entries.pop(name, None)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self._spares.clear()

    def take_spare(self) -> Address | None:
        """The last one that had to make room and was not taken since."""
        return self._spares.popitem()[1] if self._spares else None

    def failed(self, name: str, now_ms: int) -> bool:
        """Count a failure of ``name``; returns whether that was one too many.

        A node that nobody ever met is given one try.
        """
        entry = self._entries.get(name)
        if entry is None:
            return False
        entry.fail_count += 1
        self._may_have_failed = True
        if not entry.proven or entry.fail_count >= self._settings.max_fail_count:
            del self._entries[name]
            return True
        wait = backoff_ms(entry.fail_count, self._settings.base_backoff_ms)
        entry.backoff_until_ms = now_ms + wait + self._rng.jitter(wait // 8)
        return False

    def refused(self, name: str, now_ms: int) -> None:
        """Leave ``name`` alone for a while, longer each time, for it had no room."""
        entry = self._entries.get(name)
        if entry is None:
            return
        entry.refusals = min(entry.refusals + 1, _REFUSALS_COUNTED)
        wait = _REFUSED_MS << (entry.refusals - 1)
        entry.backoff_until_ms = now_ms + wait + self._rng.jitter(wait // 2)

    def eligible(self, now_ms: int, unfit: Container[str]) -> list[PassiveEntry]:
        """The entries that may be asked now, without the ``unfit``."""
        return [
            entry
            for name, entry in self._entries.items()
            if entry.backoff_until_ms <= now_ms and name not in unfit
        ]

    def first_free_ms(self, unfit: Container[str], *, enough_ms: int) -> int | None:
        """When the first of them may be asked that is not ``unfit``; None: never.

        Args:
            unfit: Names that do not count.
            enough_ms: Of times up to this, any will do.
        """
        first_ms = None
        for name, entry in self._entries.items():
            free_ms = entry.backoff_until_ms
            if (first_ms is None or free_ms < first_ms) and name not in unfit:
                first_ms = free_ms
                if free_ms <= enough_ms:
                    break
        return first_ms

    def entries(self) -> list[PassiveEntry]:
        """All entries, the longest known first."""
        return list(self._entries.values())

    def sample(self, count: int, *, without: str = "") -> list[Address]:
        """At most ``count`` of the nodes that have not failed, in random order."""
        entries = self._entries
        if self._may_have_failed:
            known = [name for name, entry in entries.items() if not entry.fail_count]
            self._may_have_failed = len(known) < len(entries)
        else:
            known = list(entries)
        if without in entries and without in known:
            known.remove(without)
        return [entries[name].address for name in self._rng.sample(known, count)]

    def drop_aged(self, now_ms: int) -> int:
        """Forget whom nothing was seen of for too long; returns how many."""
        oldest = now_ms - self._settings.passive_max_age_ms
        aged = [n for n, entry in self._entries.items() if entry.last_seen_ms < oldest]
        for name in aged:
            del self._entries[name]
        return len(aged)

    def _drop_one(self, first_out: Iterable[str]) -> None:
        entries = self._entries
        for name in first_out:
            if name in entries:
                break
        else:
            names = list(entries)
            name = names[self._rng.below(len(names))]
        dropped = entries.pop(name)
        if dropped.fail_count:
            return
        spares = self._spares
        spares.pop(name, None)
        spares[name] = dropped.address
        if len(spares) > SPARES_MAX:
            del spares[next(iter(spares))]


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

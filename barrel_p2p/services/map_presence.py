"""The entries of a map whose entries go with their writers.

Such a map's values say in which life they were written: ``(creation, value)``. Death is
no write: each node hides what the dead have written by itself, shows it again if the
verdict was wrong, and drops it without a tombstone when they are gone. Who drops it
later cannot bring it back: a life that is over is refused.

Source: Barrel P2P documentation, "Replicated maps", "Membership churn".
"""

from __future__ import annotations

from typing import Any, Final, final

from barrel_p2p.core.ormap import Delta, Entry
from barrel_p2p.services.map_lives import UNKNOWN_MS, Fate, Lives

__all__ = ["Presence"]

_CREATION_MAX: Final = (1 << 32) - 1


@final
class Presence:
    """Who wrote what, of one map.

    Args:
        creation: This life of the node.
        lives: What has become of others.

    Attributes:
        refused: Values that came of lives that are over.
    """

    def __init__(self, creation: int, lives: Lives) -> None:
        self.refused = 0
        self._creation = creation
        self._lives = lives
        self._held: dict[str, dict[bytes, Entry]] = {}
        self._since: dict[str, int] = {}  # held of nodes that nobody knows

    def wrapped(self, value: object) -> tuple[int, object]:
        """``value`` as an entry of this life holds it."""
        return (self._creation, value)

    @staticmethod
    def is_wrapped(value: object) -> bool:
        """Whether ``value`` says in which life it was written."""
        return (
            type(value) is tuple
            and len(value) == 2
            and type(value[0]) is int
            and 1 <= value[0] <= _CREATION_MAX
        )

    def fate(self, entry: Entry) -> Fate:
        """What has become of the life in which ``entry``, a value, was written."""
        wrapped: Any = entry.value
        return self._lives.fate(entry.node, wrapped[0])

    def without_the_over(self, delta: Delta) -> Delta:
        """``delta`` without what lives have written that are over."""
        kept = {
            name: entry
            for name, entry in delta.items()
            if entry.is_tombstone
            or not self.is_wrapped(entry.value)
            or self.fate(entry) is not Fate.OVER
        }
        self.refused += len(delta) - len(kept)
        return kept

    def note(self, name: bytes, before: Entry | None, after: Entry | None) -> None:
        """Keep in mind whose the entry under ``name`` is now; None if there is none."""
        if before is not None and not before.is_tombstone:
            of_node = self._held.get(before.node)
            if of_node is not None:
                of_node.pop(name, None)
            if not of_node:
                self._held.pop(before.node, None)
                self._since.pop(before.node, None)
        if after is None or after.is_tombstone:
            return
        self._held.setdefault(after.node, {})[name] = after

    def of(self, node: str) -> list[tuple[bytes, Entry]]:
        """What ``node`` has written last, with the bytes of the keys."""
        return list(self._held.get(node, {}).items())

    def unclaimed(self, now_ms: int) -> list[tuple[bytes, Entry]]:
        """What was held for too long of nodes that nobody knows. To be asked often."""
        found: list[tuple[bytes, Entry]] = []
        for node in list(self._held):
            if self._lives.is_known(node):
                self._since.pop(node, None)
            elif self._since.setdefault(node, now_ms) + UNKNOWN_MS <= now_ms:
                held = self.of(node)
                for _, entry in held:
                    wrapped: Any = entry.value
                    self._lives.give_up(node, wrapped[0], now_ms)
                found.extend(held)
        return found

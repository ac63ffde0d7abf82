"""The removed keys of one map: those that are still told, and those only remembered.

A removed key is told, as a tombstone that travels, until it is older than the horizon
and all neighbours have compared since. Then it is put aside: it travels no more, and is
remembered here. A node that was away for longer comes back with the value; it is not
taken, and what is remembered is gossiped once more, as it was, which beats it. So such
a node learns, and nothing comes back.

Bounded by ``ASIDE_MAX``. Of what had to be forgotten for that, only the time is known,
and values that are older under unknown keys are refused: they may have been removed.
After a restart that is the time of the oldest that is left, if as many are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from barrel_p2p.core.ormap import Delta, Entry

__all__ = ["ASIDE_MAX", "Removed"]

ASIDE_MAX: Final = 32_768
"""Removed keys of one map that are remembered beyond the horizon."""


@final
class Removed:
    """Tombstones of one map by the bytes of their keys.

    Attributes:
        aside: Those that are remembered only.
        forgotten_ms: The latest stamp, in wall milliseconds, of what was forgotten.
        revived: How often one was told again.
        refused: Values that were refused for being older than ``forgotten_ms``.
    """

    def __init__(self) -> None:
        self.aside: dict[bytes, Entry] = {}
        self.forgotten_ms = 0
        self.revived = 0
        self.refused = 0
        self._told: dict[bytes, Entry] = {}  # about in the order of their stamps

    def note(self, name: bytes, after: Entry) -> None:
        """The map holds ``after`` under that key now."""
        self._told.pop(name, None)
        self.aside.pop(name, None)
        if after.is_tombstone:
            self._told[name] = after

    def recall(self, cutoff_wall_ms: int) -> None:
        """Take it that tombstones were forgotten, if as many as can be are left.

        Args:
            cutoff_wall_ms: What was removed before may have been put aside already,
                when what is noted now was written down.
        """
        due = self._until_young(cutoff_wall_ms)
        if len(due) >= ASIDE_MAX > 0:
            oldest_ms = due[0][1].wall_ms
            self.forgotten_ms = max(self.forgotten_ms, oldest_ms)

    def drop(self, name: bytes) -> None:
        """The map holds nothing under that key now."""
        self._told.pop(name, None)

    def put_aside(self, cutoff_wall_ms: int) -> tuple[list[Entry], list[bytes]]:
        """Put aside what was removed before ``cutoff_wall_ms``.

        Returns:
            What the map is to hold no longer, and the names of what is forgotten.
        """
        due: list[Entry] = []
        for name, entry in self._until_young(cutoff_wall_ms):
            self.drop(name)
            self.aside[name] = entry
            due.append(entry)
        forgotten = []
        while len(self.aside) > ASIDE_MAX:
            name = next(iter(self.aside))
            entry = self.aside.pop(name)
            self.forgotten_ms = max(self.forgotten_ms, entry.wall_ms)
            forgotten.append(name)
        return due, forgotten

    def admit(
        self, delta: Delta, knows: Callable[[object], bool]
    ) -> tuple[Delta, Delta]:
        """Part what another node sends.

        Args:
            delta: Entries by the bytes of their keys.
            knows: Whether the map holds anything under a key.

        Returns:
            What may be merged; and what of ours is to be gossiped again, because
            somebody still has the value from before.
        """
        if not self.aside and not self.forgotten_ms:
            return delta, {}
        good: Delta = {}
        again: Delta = {}
        for name, entry in delta.items():
            ours = self.aside.get(name)
            if ours is not None and not entry.beats(ours):
                if not entry.is_tombstone:
                    again[name] = ours
            elif (
                ours is None
                and entry.wall_ms <= self.forgotten_ms
                and not entry.is_tombstone
                and not knows(entry.key)
            ):
                self.refused += 1
            else:
                good[name] = entry
        self.revived += len(again)
        return good, again

    def _until_young(self, cutoff_wall_ms: int) -> list[tuple[bytes, Entry]]:
        found = []
        for name, entry in self._told.items():
            if entry.wall_ms >= cutoff_wall_ms:
                break
            found.append((name, entry))
        return found

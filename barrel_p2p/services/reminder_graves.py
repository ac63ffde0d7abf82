"""Reminders that have fired or were cancelled: told for a while, then only remembered.

The tombstone of a firing carries the stamp of what it fired, which may be years old. So
its age is counted from when this node heard of it. When it is older than the horizon,
and all neighbours have compared since, it is put aside: it travels no more, is on no
disk, and is told again only if somebody comes with what it ended.

Bounded by ``ASIDE_MAX``. Of what was forgotten for that, only the latest stamp is
known; a reminder that is unknown here, not stamped later, and due for longer than the
horizon is refused then, because it may have fired.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from barrel_p2p.core.ormap import Delta, Entry
from barrel_p2p.services.reminder_value import at_ms_of

__all__ = ["ASIDE_MAX", "Graves"]

ASIDE_MAX: Final = 65_536
"""Reminders that are remembered beyond the horizon."""

_AGAIN_MS: Final = 600_000  # How long one is told again.


@final
class Graves:
    """What has ended, by the bytes of its keys.

    Args:
        horizon_ms: For how long a tombstone is told.

    Attributes:
        forgotten_ms: The latest stamp, in wall milliseconds, of what was forgotten.
        refused: Reminders that were refused for that.
    """

    def __init__(self, horizon_ms: int) -> None:
        self.forgotten_ms = 0
        self.refused = 0
        self._horizon_ms = horizon_ms
        self._told: dict[bytes, tuple[int, Entry]] = {}  # in the order of their times
        self._aside: dict[bytes, Entry] = {}

    def __len__(self) -> int:
        return len(self._told) + len(self._aside)

    @property
    def remembers(self) -> bool:
        """Whether ``admit`` could find anything."""
        return bool(self._aside or self.forgotten_ms)

    def note(self, name: bytes, after: Entry, now_ms: int) -> None:
        """The map holds ``after`` under that key since ``now_ms``, monotonic."""
        self._told.pop(name, None)
        self._aside.pop(name, None)
        if after.is_tombstone:
            self._told[name] = now_ms, after

    def collect(self, now_ms: int) -> Delta:
        """Put aside what was told for long enough.

        Returns:
            What map and disk need not hold any more.
        """
        due: Delta = {}
        for name, (since_ms, entry) in list(self._told.items()):
            if now_ms - since_ms <= self._horizon_ms:
                break
            del self._told[name]
            self._aside[name] = entry
            due[name] = entry
        while len(self._aside) > ASIDE_MAX:
            name = next(iter(self._aside))
            entry = self._aside.pop(name)
            self.forgotten_ms = max(self.forgotten_ms, entry.wall_ms)
        return due

    def admit(
        self, delta: Delta, wall_ms: int, knows: Callable[[object], bool]
    ) -> tuple[Delta, Delta]:
        """Part what another node sends.

        Args:
            delta: Well-formed entries, by the bytes of their keys.
            wall_ms: The time of day.
            knows: Whether the map holds anything under a key.

        Returns:
            What may be merged; and what of ours is to be merged, and so told again.
        """
        good: Delta = {}
        again: Delta = {}
        for name, entry in delta.items():
            ours = self._aside.get(name)
            if ours is not None and not entry.beats(ours):
                if not entry.is_tombstone:
                    again[name] = ours
            elif ours is None and self._may_have_fired(entry, wall_ms, knows):
                self.refused += 1
            else:
                good[name] = entry
        return good, again

    def told_again(self, delta: Delta, now_ms: int) -> None:
        """What ``admit`` said was merged: it is told for some time once more."""
        since_ms = now_ms - max(self._horizon_ms - _AGAIN_MS, 0)
        for name, entry in delta.items():
            self._told[name] = since_ms, entry

    def _may_have_fired(
        self, entry: Entry, wall_ms: int, knows: Callable[[object], bool]
    ) -> bool:
        return (
            not entry.is_tombstone
            and entry.wall_ms <= self.forgotten_ms
            and at_ms_of(entry) < wall_ms - self._horizon_ms
            and not knows(entry.key)
        )

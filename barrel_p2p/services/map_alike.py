"""How many keys of a map have the same hash: more than chance makes is an attack.

Readers look into a plain dict. Python's hashes of text and bytes are secret, those of
integers and tuples of them are not, and a dict whose keys all have one hash takes time
with their square. So of such keys a map holds ``ALIKE_MAX`` with the same hash.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, final

from barrel_p2p.core.ormap import Delta

__all__ = ["ALIKE_MAX", "AlikeKeys"]

ALIKE_MAX: Final = 64
"""Keys of one map with the same hash. By chance not even two of a million have it."""

_SECRET: Final = (str, bytes)


@final
class AlikeKeys:
    """The hashes of the keys of one map that have values, hidden ones too."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, key: object) -> None:
        """A key was added."""
        if type(key) not in _SECRET:
            mark = hash(key)
            self._counts[mark] = self._counts.get(mark, 0) + 1

    def remove(self, key: object) -> None:
        """A key was removed."""
        if type(key) not in _SECRET:
            mark = hash(key)
            count = self._counts[mark] - 1
            if count:
                self._counts[mark] = count
            else:
                del self._counts[mark]

    def without_excess(self, delta: Delta, has: Callable[[object], bool]) -> Delta:
        """``delta`` without new keys of which there would be too many alike.

        Args:
            delta: Entries by the bytes of their keys.
            has: Whether there is a key.
        """
        new: dict[int, int] = {}
        excess: dict[bytes, None] = {}
        for name, entry in delta.items():
            key = entry.key
            if type(key) in _SECRET or not isinstance(key, Hashable):
                continue
            if entry.is_tombstone or has(key):
                continue
            mark = hash(key)
            count = new.get(mark, 0)
            if self._counts.get(mark, 0) + count >= ALIKE_MAX:
                excess[name] = None
            else:
                new[mark] = count + 1
        if not excess:
            return delta
        return {name: entry for name, entry in delta.items() if name not in excess}

    def is_full(self, key: object) -> bool:
        """Whether there are too many keys like ``key`` already."""
        return type(key) not in _SECRET and self._counts.get(hash(key), 0) >= ALIKE_MAX

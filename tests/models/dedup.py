"""The ids seen lately, plainly: a dict in order of arrival."""

from __future__ import annotations

__all__ = ["SeenModel"]


class SeenModel:
    """Ids with the time until which each counts as seen."""

    def __init__(self, ids_max: int, ttl_ms: int) -> None:
        self._ids_max = ids_max
        self._ttl_ms = ttl_ms
        self._until_ms: dict[bytes, int] = {}
        self.evicted = 0

    def add(self, message_id: bytes, now_ms: int) -> bool:
        self._forget(now_ms)
        if message_id in self._until_ms:
            return False
        if len(self._until_ms) == self._ids_max:
            del self._until_ms[next(iter(self._until_ms))]
            self.evicted += 1
        self._until_ms[message_id] = now_ms + self._ttl_ms
        return True

    def has(self, message_id: bytes, now_ms: int) -> bool:
        self._forget(now_ms)
        return message_id in self._until_ms

    def held(self, now_ms: int) -> int:
        self._forget(now_ms)
        return len(self._until_ms)

    def _forget(self, now_ms: int) -> None:
        kept = {i: t for i, t in self._until_ms.items() if t > now_ms}
        self._until_ms = kept

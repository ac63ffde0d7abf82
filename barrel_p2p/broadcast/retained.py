"""Broadcasts that a peer may still ask for: the newest, in order, up to so many bytes.

Bounded by ``bytes_max``, payloads and what keeping them costs, and by ``retain_ms``.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from barrel_p2p.broadcast.messages import Gossip

__all__ = ["OVERHEAD_BYTES", "Retained"]

OVERHEAD_BYTES: Final = 512
"""What a message costs beside its payload, in objects and tables."""


class Retained:
    """Messages by id, oldest out first.

    Args:
        bytes_max: Most bytes held; a message that does not fit alone is not kept.
        retain_ms: Most milliseconds that a message is held.

    Attributes:
        held_bytes: What is held, by the same count.
    """

    __slots__ = ("_bytes_max", "_messages", "_order", "_retain_ms", "held_bytes")

    def __init__(self, bytes_max: int, retain_ms: int) -> None:
        self._bytes_max = bytes_max
        self._retain_ms = retain_ms
        self._messages: dict[bytes, Gossip] = {}
        self._order: deque[tuple[int, Gossip]] = deque()  # when it came, which
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def get(self, message_id: bytes) -> Gossip | None:
        """The message, as it would be passed on, if it is still here."""
        return self._messages.get(message_id)

    def put(self, message: Gossip, now_ms: int) -> None:
        """Keep ``message``, which is not here yet, and let go of the oldest."""
        self._messages[message.message_id] = message
        self._order.append((now_ms, message))
        self.held_bytes += len(message.payload) + OVERHEAD_BYTES
        while self.held_bytes > self._bytes_max:
            self._drop_oldest()

    def expire(self, now_ms: int) -> None:
        """Let go of what has been here for ``retain_ms``."""
        while self._order and self._order[0][0] + self._retain_ms <= now_ms:
            self._drop_oldest()

    def since(self, then_ms: int, count: int) -> list[Gossip]:
        """The newest ``count`` messages that came at ``then_ms`` or later, in order."""
        found: list[Gossip] = []
        for came_ms, message in reversed(self._order):
            if came_ms < then_ms or len(found) == count:
                break
            found.append(message)
        found.reverse()
        return found

    def _drop_oldest(self) -> None:
        _, message = self._order.popleft()
        self.held_bytes -= len(message.payload) + OVERHEAD_BYTES
        # An id that was evicted from the ids seen may have come again since.
        if self._messages.get(message.message_id) is message:
            del self._messages[message.message_id]

"""Which lives count: members, those who are dead but not gone, and those refused.

Bounded by ``STRANGERS_MAX``.
"""

from __future__ import annotations

from typing import final

from barrel_p2p.services.leader_inputs import REFUSE_MS, STRANGERS_MAX

__all__ = ["Lives"]


@final
class Lives:
    """The verdicts of members, kept for as long as they matter to what is held.

    Args:
        node: This node's name, which is always alive to itself.
        creation: Its life.
    """

    def __init__(self, node: str, creation: int) -> None:
        self._node = node
        self._alive: dict[str, int] = {node: creation}
        self._dead: dict[str, str] = {}  # and not gone -> why
        self._strangers: dict[str, int] = {}  # until when they are refused

    def __len__(self) -> int:
        return len(self._alive)

    def life(self, node: str) -> int:
        """The life of a member; 0 of what is none."""
        return self._alive.get(node, 0)

    def first(self) -> str:
        """The member with the smallest name."""
        return min(self._alive)

    def is_refused(self, node: str) -> bool:
        """Whether nothing of ``node`` is to be taken."""
        return node in self._strangers and node not in self._alive

    def is_unknown(self, node: str) -> bool:
        """Whether nobody has said anything about ``node``."""
        return node not in self._alive and node not in self._dead

    def up(self, node: str, creation: int) -> bool:
        """A member is there; whether it was refused until now."""
        self._alive[node] = creation
        self._dead.pop(node, None)
        return self._strangers.pop(node, None) is not None

    def dead(self, node: str, creation: int, reason: str) -> bool:
        """A member is dead; whether that is news."""
        if node == self._node or self._alive.get(node) != creation:
            return False
        del self._alive[node]
        self._dead[node] = reason
        return True

    def gone(self, node: str, creation: int) -> bool:
        """A life is over for good; whether its entries go."""
        return node != self._node and self._alive.get(node) != creation

    def should_refuse(self, node: str) -> bool:
        """Whether entries of ``node``, which is gone, are to be refused from now on.

        Of a later life that is here there may be entries before its lease.
        """
        was = self._dead.pop(node, "")
        return was != "restarted" and node not in self._alive

    def refuse(self, node: str, now_ms: int) -> None:
        """Take nothing of ``node`` for a while, unless it is back."""
        if len(self._strangers) >= STRANGERS_MAX:
            del self._strangers[next(iter(self._strangers))]
        self._strangers[node] = now_ms + REFUSE_MS

    def expire(self, now_ms: int) -> bool:
        """Refuse nobody for longer than that; whether somebody still is."""
        for node, until_ms in list(self._strangers.items()):
            if until_ms <= now_ms:
                del self._strangers[node]
        return bool(self._strangers)

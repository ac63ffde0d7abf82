"""Whose entries of a map still count: the lives of nodes, as members are told of them.

One for all maps of a node. It decides nothing and writes nothing: it is asked what has
become of a life. Bounded by ``GONE_MAX``; the dead are members' to bound.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

from barrel_p2p.core.members import MemberDead, MemberEvent, MemberGone, MemberUp

__all__ = ["GONE_MAX", "REFUSE_MS", "UNKNOWN_MS", "Fate", "Lives"]

GONE_MAX: Final = 4_096
"""Nodes that are remembered as gone; the first one is forgotten for another."""

REFUSE_MS: Final = 600_000
"""How long they are: a node that hears of the death later still has their entries."""

UNKNOWN_MS: Final = 60_000
"""How long the entries of a node are held, unseen, that nobody knows as a member."""


class Fate(Enum):
    """What has become of one life of a node."""

    HERE = "here"
    """It is a member's: what it wrote is shown."""
    UNKNOWN = "unknown"
    """It is dead, or was never heard of: what it wrote is held, and not shown."""
    OVER = "over"
    """It will not come back: what it wrote is dropped, and not taken again."""


@final
class Lives:
    """Which lives there are.

    Args:
        node: This node's name.
        creation: This life of it.
    """

    def __init__(self, node: str, creation: int) -> None:
        self._up: dict[str, int] = {node: creation}
        self._node = node
        self._dead: dict[str, int] = {}
        self._gone: dict[str, tuple[int, int]] = {}  # creation, until when

    def told(self, event: MemberEvent, now_ms: int) -> bool:
        """Hear of a member.

        Returns:
            Whether one is back that was gone, so that its entries were refused.
        """
        node = event.node
        if node == self._node:
            return False
        match event:
            case MemberUp(_, creation):
                self._up[node] = creation
                self._dead.pop(node, None)
                return self._gone.pop(node, None) is not None
            case MemberDead(_, creation):
                if self._up.get(node) == creation:
                    del self._up[node]
                    self._dead[node] = creation
            case MemberGone(_, creation):
                if self._dead.get(node) == creation:
                    del self._dead[node]
                if self._up.get(node) != creation:
                    self._bury(node, creation, now_ms)
        return False

    def fate(self, node: str, creation: int) -> Fate:
        """What has become of the life ``creation`` of ``node``."""
        up = self._up.get(node)
        if up is not None and creation <= up:
            return Fate.HERE if creation == up else Fate.OVER
        gone = self._gone.get(node)
        if gone is not None and creation <= gone[0]:
            return Fate.OVER
        return Fate.UNKNOWN

    def is_known(self, node: str) -> bool:
        """Whether members say something of ``node``: that it is there, or dead."""
        return node in self._up or node in self._dead

    @property
    def alone(self) -> bool:
        """Whether this node is the only member that it knows."""
        return len(self._up) == 1

    def give_up(self, node: str, creation: int, now_ms: int) -> None:
        """Hold a life for over that nobody knows, unless it turns up.

        Else two nodes could keep what it wrote for ever, each teaching the other.
        """
        if not self.is_known(node):
            self._bury(node, creation, now_ms)

    def sweep(self, now_ms: int) -> None:
        """Forget who has been gone for ``REFUSE_MS``."""
        while self._gone:
            node = next(iter(self._gone))
            if self._gone[node][1] > now_ms:
                return
            del self._gone[node]

    def _bury(self, node: str, creation: int, now_ms: int) -> None:
        creation = max(creation, self._gone.pop(node, (0, 0))[0])
        if len(self._gone) >= GONE_MAX:
            del self._gone[next(iter(self._gone))]
        self._gone[node] = (creation, now_ms + REFUSE_MS)

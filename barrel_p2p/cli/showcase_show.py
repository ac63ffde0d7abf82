"""The demo under way: its nodes, what its steps leave to each other, and its table."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from barrel_p2p.cli.refusals import Refused
from barrel_p2p.cli.showcase_nodes import ShownNode
from barrel_p2p.errors import PeerUnreachable
from barrel_p2p.node.requests import Members, Services, Views

__all__ = ["PATIENCE_S", "Showcase", "Told", "ms_since", "short"]

PATIENCE_S: Final = 30.0
"""Seconds that a step waits for what must happen."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a step says: the first line for people, more lines, and for programs."""

    text: str
    more: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Showcase:
    """The demo under way.

    Args:
        nodes: In the order in which they join.
        stack: Closes what the steps open.

    Attributes:
        owner: Who has the service, and is killed.
        asker: Who finds it without having its owner as a peer.
        healed: Waits for the views to be whole after the kill; how long that took.
        leader: Who was elected last, with its ``fence``.
        reminder: The key of the one that was armed, and when it is due, by the wall.
    """

    nodes: list[ShownNode]
    stack: AsyncExitStack
    began_s: float = field(default_factory=time.perf_counter)
    owner: ShownNode | None = None
    asker: ShownNode | None = None
    healed: asyncio.Task[float] | None = None
    leader: ShownNode | None = None
    fence: int = 0
    reminder: tuple[str, int] = ("", 0)

    @property
    def living(self) -> list[ShownNode]:
        """The nodes that were not killed."""
        return [node for node in self.nodes if node.alive]

    async def rows(self) -> list[dict[str, Any]]:
        """One row a node, as it is now."""
        return await asyncio.gather(*(self._row(node) for node in self.nodes))

    async def _row(self, node: ShownNode) -> dict[str, Any]:
        banner = node.banner
        row: dict[str, Any] = {"node": node.name, "process": node.process.pid}
        row |= {"port": banner.get("port"), "fingerprint": banner.get("fingerprint")}
        if not node.alive:
            return row | {"state": "killed"}
        if node.process.returncode is not None:
            return row | {"state": "stopped"}
        if not node.listens:
            return row | {"state": "starts"}
        try:
            views = await node.ask(Views())
            members = (await node.ask(Members()))["members"]
            services = (await node.ask(Services()))["services"]
        except (PeerUnreachable, Refused):
            return row | {"state": "stops"}
        return row | {
            "state": "runs",
            "active": [short(name) for name in views["active"]],
            "passive": [short(name) for name in views["passive"]],
            "members": len(members),
            "services": [
                {"name": each["name"], "node": short(each["node"])} for each in services
            ],
        }

    async def views(self) -> dict[str, set[str]]:
        """The active views of those that live, by node."""
        return {
            node.full_name: set((await node.ask(Views()))["active"])
            for node in self.living
        }


def short(name: str) -> str:
    """What stands before the ``@``."""
    return name.partition("@")[0]


def ms_since(began_s: float) -> float:
    """Milliseconds from ``began_s``, a ``time.perf_counter``, to now."""
    return round((time.perf_counter() - began_s) * 1_000, 1)

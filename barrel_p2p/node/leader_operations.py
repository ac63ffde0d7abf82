"""What a running node tells about leaders: a program on its host, other nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barrel_p2p.errors import NoLeader
from barrel_p2p.node.plain import plain, term
from barrel_p2p.node.requests import Elections

if TYPE_CHECKING:
    from barrel_p2p.node.node import Node

__all__ = ["perform_on_leaders"]


def perform_on_leaders(node: Node, request: Elections) -> dict[str, object]:
    """Who leads what, and who would; what it answers is made of what JSON has.

    Raises:
        NotEncodable: The name is no key term.
    """
    names = node.elections() if request.everything else [term(request.name)]
    return {"node": node.name, "leaders": [_election(node, name) for name in names]}


def _election(node: Node, name: object) -> dict[str, object]:
    try:
        leader, pid = node.leader(name)
    except NoLeader:
        leader, pid = None, None
    return {
        "name": plain(name),
        "leader": leader,
        "pid": None if pid is None else plain(pid),
        "fence": node.high_water(name),
        "candidates": [
            {"node": c.node, "pid": plain(c.pid), "priority": c.priority}
            for c in node.candidates(name)
        ],
    }

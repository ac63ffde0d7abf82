"""What the views of all nodes make together: components, links, degrees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from barrel_p2p.testing.overlay.nodes import SimNode

__all__ = ["Shape", "components", "shape"]


class Shape(NamedTuple):
    """The overlay at one instant.

    Args:
        nodes: How many are alive.
        components: Sizes, the greatest first.
        links: Pairs of which at least one has the other in its active view.
        oneway: Those of them that only one side has.
        active_mean: Mean size of the active views.
        active_min: Size of the smallest.
    """

    nodes: int
    components: tuple[int, ...]
    links: int
    oneway: int
    active_mean: float
    active_min: int

    @property
    def is_one(self) -> bool:
        """Whether every node can reach every other."""
        return len(self.components) == 1


def components(nodes: Sequence[SimNode]) -> list[list[SimNode]]:
    """The parts that active links between ``nodes`` tie together, the greatest first.

    A link counts if both ends have it: over one that only one has, nothing comes back.
    """
    parent = {node.name: node.name for node in nodes}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    peers = {node.name: node.peers for node in nodes}
    for node in nodes:
        for peer in node.peers:
            if peer in peers and node.name in peers[peer]:
                parent[root(node.name)] = root(peer)
    parts: dict[str, list[SimNode]] = {}
    for node in nodes:
        parts.setdefault(root(node.name), []).append(node)
    return sorted(parts.values(), key=len, reverse=True)


def shape(nodes: Sequence[SimNode]) -> Shape:
    """Measure the overlay of ``nodes``, those that are alive."""
    peers = {node.name: node.peers for node in nodes}
    twice = oneway = 0
    for node in nodes:
        for peer in node.peers:
            if peer in peers and node.name in peers[peer]:
                twice += 1
            else:
                oneway += 1
    degrees = [len(node.peers) for node in nodes]
    return Shape(
        nodes=len(nodes),
        components=tuple(len(part) for part in components(nodes)),
        links=twice // 2 + oneway,
        oneway=oneway,
        active_mean=sum(degrees) / max(1, len(degrees)),
        active_min=min(degrees, default=0),
    )

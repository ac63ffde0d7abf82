"""What a running node tells about placement: a program on its host, other nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barrel_p2p.node.plain import plain, term
from barrel_p2p.node.requests import Owners, Place

if TYPE_CHECKING:
    from barrel_p2p.node.node import Node

__all__ = ["perform_on_shards"]


def perform_on_shards(node: Node, request: Place | Owners) -> dict[str, object]:
    """Whose a key is; what it answers is made of what JSON has.

    Raises:
        NotEncodable: The key is no key term.
    """
    key = term(request.key)
    answer = {"key": plain(key), "partition": node.partition(key)}
    if isinstance(request, Place):
        return {**answer, "node": node.place(key)}
    return {**answer, "nodes": node.owners(key, request.count)}

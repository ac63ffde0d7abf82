"""Who owns what, by highest random weight: every node computes the same, alone.

Keys fall into partitions, and each partition belongs to the node that scores highest in
it. A node that comes takes only what it scores highest in; of one that goes, only what
it owned moves. ``Ring`` keeps the owners, so that a change costs about one hash for
each partition, and a question none.

Source: Thaler, Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM
Transactions on Networking, 1998; docs/reference/wire.md, "Placement".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

from xxhash import xxh3_64_intdigest

from barrel_p2p.errors import InvalidValue

__all__ = ["RANKINGS_MAX", "RING_SIZE_MAX", "Ring", "partition_of", "score"]

RING_SIZE_MAX: Final = 1 << 20
"""Partitions of a ring."""

RANKINGS_MAX: Final = 1_024
"""Partitions of which the order of all nodes is kept once it was asked for."""


def partition_of(key_bytes: bytes, ring_size: int) -> int:
    """The partition of a key.

    Args:
        key_bytes: The canonical bytes of a key term.
        ring_size: How many partitions there are, at least 1.

    Returns:
        0 to ``ring_size - 1``.
    """
    return xxh3_64_intdigest(key_bytes) % ring_size


def score(partition: int, node: str) -> int:
    """The weight of ``node`` in ``partition``, 64 bits. The highest one owns it."""
    return xxh3_64_intdigest(partition.to_bytes(4, "little") + node.encode())


@final
class Ring:
    """The owner of every partition, for the nodes that there are now.

    Args:
        ring_size: Partitions, 1 to ``RING_SIZE_MAX``; the same on every node.
        nodes: Those there are.

    Raises:
        InvalidValue: ``ring_size`` is out of range.

    Attributes:
        owners: Partition to owner; None while there are no nodes. Read only. It is
            always this same list.
    """

    def __init__(self, ring_size: int, nodes: Iterable[str] = ()) -> None:
        if not 1 <= ring_size <= RING_SIZE_MAX:
            raise InvalidValue(f"ring_size={ring_size} is outside 1 to {RING_SIZE_MAX}")
        self.ring_size = ring_size
        self.owners: list[str | None] = [None] * ring_size
        self._best = [-1] * ring_size
        self._nodes: dict[str, None] = {}
        self._rankings: dict[int, list[str]] = {}
        for node in nodes:
            self.add(node)

    def __contains__(self, node: object) -> bool:
        return node in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def nodes(self) -> list[str]:
        """Those there are, sorted."""
        return sorted(self._nodes)

    def add(self, node: str) -> list[int]:
        """Let ``node`` take the partitions that it scores highest in. Idempotent.

        Returns:
            Those partitions.
        """
        if node in self._nodes:
            return []
        self._nodes[node] = None
        self._rankings.clear()
        name, moved = node.encode(), []
        owners, best = self.owners, self._best
        for partition in range(self.ring_size):
            weight = xxh3_64_intdigest(partition.to_bytes(4, "little") + name)
            owner = owners[partition]
            if weight > best[partition] or (
                weight == best[partition] and owner is not None and node < owner
            ):
                owners[partition], best[partition] = node, weight
                moved.append(partition)
        return moved

    def remove(self, node: str) -> list[int]:
        """Give what ``node`` owned to those who come next. Idempotent.

        Returns:
            The partitions that it owned.
        """
        if node not in self._nodes:
            return []
        del self._nodes[node]
        self._rankings.clear()
        moved = [p for p, owner in enumerate(self.owners) if owner == node]
        for partition in moved:
            first = self._first(partition)
            self.owners[partition], self._best[partition] = first
        return moved

    def clear(self) -> None:
        """Have no nodes."""
        self._nodes.clear()
        self._rankings.clear()
        self.owners[:] = [None] * self.ring_size
        self._best = [-1] * self.ring_size

    def ranking(self, partition: int, count: int) -> list[str]:
        """The ``count`` nodes that score highest, best first; all if there are fewer.

        Args:
            partition: 0 to ``ring_size - 1``.
            count: At least 1.
        """
        ranked = self._rankings.get(partition)
        if ranked is None:
            if len(self._rankings) >= RANKINGS_MAX:
                del self._rankings[next(iter(self._rankings))]
            ranked = sorted(
                self._nodes, key=lambda node: (-score(partition, node), node)
            )
            self._rankings[partition] = ranked
        return ranked[:count]

    def _first(self, partition: int) -> tuple[str | None, int]:
        owner, best = None, -1
        for node in self._nodes:
            weight = score(partition, node)
            if weight > best or (weight == best and (owner is None or node < owner)):
                owner, best = node, weight
        return owner, best

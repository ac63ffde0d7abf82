"""Highest random weight without anything kept: what ``core.rendezvous`` must answer."""

from __future__ import annotations

from collections.abc import Iterable

from xxhash import xxh3_64_intdigest

__all__ = ["owners", "ranked"]


def ranked(partition: int, nodes: Iterable[str]) -> list[str]:
    """All nodes, the one with the highest score first, of equals the smaller name."""

    def place(node: str) -> tuple[int, bytes]:
        name = node.encode()
        hashed = partition.to_bytes(4, "little") + name
        return -xxh3_64_intdigest(hashed), name

    return sorted(nodes, key=place)


def owners(ring_size: int, nodes: Iterable[str]) -> list[str | None]:
    """Partition to owner."""
    there = list(nodes)
    return [ranked(p, there)[0] if there else None for p in range(ring_size)]

"""The OR-Map, plainly: one dict, and the greatest (stamp, node) stays.

This is the specification that the property tests hold the compiled class to.

Source: Shapiro et al., "A comprehensive study of Convergent and Commutative Replicated
Data Types", 2011, last-writer-wins element set.
"""

from __future__ import annotations

from dataclasses import dataclass

from xxhash import xxh64_intdigest

BUCKETS = 256


@dataclass(frozen=True, slots=True)
class Written:
    """What one key holds; ``removed`` makes it a tombstone."""

    stamp: tuple[int, int]
    node: str
    removed: bool
    value: object = None

    def rank(self) -> tuple[tuple[int, int], str, bool]:
        return self.stamp, self.node, self.removed


class OrMapModel:
    """Entries by the canonical bytes of their keys."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Written] = {}

    def merge(self, delta: dict[bytes, Written]) -> list[bytes]:
        """Return the keys that changed."""
        changed = []
        for name, written in delta.items():
            mine = self.entries.get(name)
            if mine is None or written.rank() > mine.rank():
                self.entries[name] = written
                changed.append(name)
        return changed

    def live(self) -> dict[bytes, object]:
        return {n: w.value for n, w in self.entries.items() if not w.removed}

    def gc_tombstones(self, cutoff_wall_ms: int) -> int:
        old = [
            name
            for name, written in self.entries.items()
            if written.removed and written.stamp[0] < cutoff_wall_ms
        ]
        for name in old:
            del self.entries[name]
        return len(old)

    def bucket(self, index: int) -> set[bytes]:
        return {name for name in self.entries if bucket_of(name) == index}

    def digest(self) -> bytes:
        sums = [0] * BUCKETS
        for name, written in self.entries.items():
            index = bucket_of(name)
            sums[index] = (sums[index] + entry_hash(name, written)) % 2**64
        return b"".join(total.to_bytes(8, "big") for total in sums)


def bucket_of(name: bytes) -> int:
    return xxh64_intdigest(name) >> 56


def entry_hash(name: bytes, written: Written) -> int:
    wall_ms, counter = written.stamp
    return xxh64_intdigest(
        xxh64_intdigest(name).to_bytes(8, "big")
        + wall_ms.to_bytes(8, "big")
        + counter.to_bytes(4, "big")
        + bytes([written.removed])
        + written.node.encode()
    )

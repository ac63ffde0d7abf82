"""Entries in encoded pieces of bounded bytes, made when they are asked for.

A store is read a few buckets at a time, when their turn has come, so that a sync of a
large one neither copies it nor keeps the loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol, final

from barrel_p2p.core.ormap import Entry
from barrel_p2p.errors import BarrelError
from barrel_p2p.wire.crdt_ingest import encode_delta

__all__ = ["PIECE_ENTRIES_MAX", "Pieces", "StoreReader", "differing"]

PIECE_ENTRIES_MAX: Final = 2_048
"""Entries that are taken for one piece, however small they are, and one bucket more."""

_BYTES_A_ENTRY_GUESSED: Final = 256


class StoreReader(Protocol):
    """What a machine may see of a store. Reading changes nothing and never raises."""

    def digest(self) -> bytes | None:
        """A u64 for each bucket; None if the store cannot say."""
        ...

    def bucket(self, index: int) -> Mapping[bytes, Entry]:
        """The entries of one bucket; empty if the store cannot say."""
        ...


def differing(ours: bytes, theirs: bytes) -> list[int]:
    """The buckets in which two digests of equal length differ, in order."""
    if ours == theirs:
        return []
    return [
        at // 8
        for at in range(0, len(ours), 8)
        if ours[at : at + 8] != theirs[at : at + 8]
    ]


@final
class Pieces:
    """Encoded deltas that hold some entries together, each within its bytes.

    Args:
        batches: The entries, read when they are needed.
        bytes_max: Bytes of a piece; one entry that is larger is a piece of its own.

    Attributes:
        skipped: Entries that have no form on the wire.
    """

    def __init__(
        self, batches: Iterable[Mapping[bytes, Entry]], bytes_max: int
    ) -> None:
        self.skipped = 0
        self._batches: Iterator[Mapping[bytes, Entry]] = iter(batches)
        self._bytes_max = bytes_max
        self._ready: deque[bytes] = deque()
        self._guess = bytes_max // _BYTES_A_ENTRY_GUESSED

    @classmethod
    def of_buckets(
        cls, store: StoreReader, buckets: Sequence[int], bytes_max: int
    ) -> Pieces:
        """The entries of ``buckets``, each read when its turn has come."""
        return cls((store.bucket(index) for index in buckets), bytes_max)

    def next(self) -> bytes | None:
        """The next piece, or None when there are no more."""
        while not self._ready:
            entries: dict[bytes, Entry] = {}
            for batch in self._batches:
                entries.update(batch)
                if len(entries) >= self._guess:
                    break
            if not entries:
                return None
            self._encode(entries)
        return self._ready.popleft()

    def _encode(self, entries: dict[bytes, Entry]) -> None:
        try:
            pieces = encode_delta(entries, chunk_bytes=self._bytes_max)
        except BarrelError:
            pieces = self._one_by_one(entries)
        self._ready.extend(pieces)
        # As many as fill a piece, as far as these say what the next ones are like.
        size = sum(map(len, pieces)) or 1
        fitting = len(entries) * self._bytes_max // size
        self._guess = max(1, min(fitting, PIECE_ENTRIES_MAX))

    def _one_by_one(self, entries: dict[bytes, Entry]) -> list[bytes]:
        pieces: list[bytes] = []
        for key, entry in entries.items():
            try:
                pieces += encode_delta({key: entry}, chunk_bytes=self._bytes_max)
            except BarrelError:
                self.skipped += 1
        return pieces

"""What SQLite's write-ahead log holds, and whether something follows a damaged frame.

SQLite ends the replay of a log at the first frame that does not fit its checksum.
After a crash that is right: the end of the log was being written. It is wrong when the
damaged frame was flushed long ago, which shows in what follows it: a transaction is
written only when the one before it is on the disk. A frame carries the checksum of all
frames before it, so that each one can be held against its neighbour.

Source: SQLite, "Database File Format", section 4, "The Write-Ahead Log".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Final, final

__all__ = ["PAGE_BYTES", "LogReport", "examine_log"]

PAGE_BYTES: Final = 4_096

_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_FRAME_BYTES: Final = _FRAME_HEADER_BYTES + PAGE_BYTES
_MAGIC: Final = 0x377F0682
_MASK: Final = 0xFFFFFFFF
_FIELDS: Final = Struct(">6I")
_HEADER: Final = Struct(">8I")


@final
@dataclass(frozen=True, slots=True)
class LogReport:
    """What a log holds.

    Attributes:
        frames: How many SQLite replays.
        damage: Why that is not all that was committed; None if nothing says so.
    """

    frames: int
    damage: str | None


@final
@dataclass(frozen=True, slots=True)
class _Frame:
    head: bytes
    page: bytes
    is_commit: bool
    salts: tuple[int, int]
    sums: tuple[int, int]


def examine_log(path: Path, store: BinaryIO) -> LogReport:
    """Look through the log at ``path``; a missing one is empty.

    Args:
        path: The log.
        store: The file that it belongs to. It stays open: SQLite's lock on a file ends
            when any descriptor of it is closed in the process.

    Raises:
        OSError: One of them cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _examine(file.read(_HEADER_BYTES), _frames(file), store)
    except FileNotFoundError:
        return LogReport(0, None)


def _examine(header: bytes, frames: Iterator[_Frame], store: BinaryIO) -> LogReport:
    if len(header) < _HEADER_BYTES:
        return LogReport(0, None)
    magic, _, page_bytes, _, *rest = _HEADER.unpack(header)
    order = "<" if magic == _MAGIC else ">"
    salts, sums = (rest[0], rest[1]), (rest[2], rest[3])
    right = magic & ~1 == _MAGIC and page_bytes == PAGE_BYTES
    if not right or _sum(header[:24], (0, 0), order) != sums:
        # The header is flushed before any frame is written, so that a torn one stands
        # before frames of the last round only, which are in the file already.
        found = list(frames)
        lost = any(any(_follow(found, each, None)) for each in "<>")
        if lost and not _is_moved(found, store):
            return LogReport(0, "the header of its log is damaged")
        return LogReport(0, None)
    return _chain(frames, salts, sums, order)


def _chain(
    frames: Iterator[_Frame],
    salts: tuple[int, int],
    sums: tuple[int, int],
    order: str,
) -> LogReport:
    replayed = reached = 0
    for frame in frames:
        if frame.salts != salts or not _fits(frame, sums, order):
            rest = [frame, *frames]
            break
        sums = frame.sums
        reached += 1
        if frame.is_commit:
            replayed = reached
    else:
        return LogReport(replayed, None)
    ended = rest[0].is_commit or _one_bit_off(rest[0], sums, order)
    for later, fits in enumerate(_follow(rest, order, salts), 1):
        if fits and ended:
            why = f"frame {reached + 1} of its log is damaged, and others follow"
            return LogReport(replayed, why)
        ended = ended or rest[later].is_commit
    return LogReport(replayed, None)


def _follow(
    frames: list[_Frame], order: str, salts: tuple[int, int] | None
) -> Iterator[bool]:
    """For each frame but the first: whether it follows the one before it."""
    for before, after in pairwise(frames):
        wanted = before.salts if salts is None else salts
        if after.salts != wanted or wanted == (0, 0):
            # Left over from before the log began anew.
            return
        yield _fits(after, before.sums, order)


def _is_moved(frames: list[_Frame], store: BinaryIO) -> bool:
    """Whether the file has what the frames of the first one's round committed."""
    pages: dict[int, bytes] = {}
    waiting: dict[int, bytes] = {}
    for frame in frames:
        if frame.salts != frames[0].salts:
            break
        waiting[int.from_bytes(frame.head[:4], "big")] = frame.page
        if frame.is_commit:
            pages.update(waiting)
    for number, page in pages.items():
        store.seek((number - 1) * PAGE_BYTES)
        if store.read(PAGE_BYTES) != page:
            return False
    return True


def _frames(file: BinaryIO) -> Iterator[_Frame]:
    while len(data := file.read(_FRAME_BYTES)) == _FRAME_BYTES:
        head, page = data[:_FRAME_HEADER_BYTES], data[_FRAME_HEADER_BYTES:]
        _, pages, *rest = _FIELDS.unpack(head)
        salts, sums = (rest[0], rest[1]), (rest[2], rest[3])
        yield _Frame(head[:8], page, pages != 0, salts, sums)


def _fits(frame: _Frame, before: tuple[int, int], order: str) -> bool:
    return _sum(frame.page, _sum(frame.head, before, order), order) == frame.sums


def _one_bit_off(frame: _Frame, before: tuple[int, int], order: str) -> bool:
    """Whether the frame fits but for one bit of its header, as no torn frame does."""
    number = int.from_bytes(frame.head, "big")
    return any(
        _sum(
            frame.page,
            _sum((number ^ 1 << bit).to_bytes(8, "big"), before, order),
            order,
        )
        == frame.sums
        for bit in range(64)
    )


def _sum(data: bytes, before: tuple[int, int], order: str) -> tuple[int, int]:
    one, two = before
    words = iter(Struct(f"{order}{len(data) // 4}I").unpack(data))
    for word in words:
        one = (one + word + two) & _MASK
        two = (two + next(words) + one) & _MASK
    return one, two

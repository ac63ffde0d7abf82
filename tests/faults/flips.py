"""P6: no flipped bit and no truncation yields a wrong value or an empty store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from barrel_p2p.errors import StorageError
from barrel_p2p.ormap import Delta
from barrel_p2p.storage.database import Database, log_path
from barrel_p2p.storage.rows import encode_row
from barrel_p2p.storage.wal import PAGE_BYTES
from barrel_p2p.wire.terms import key_bytes
from tests.faults.goals import Outcome
from tests.faults.writing import NODE, STORE, entry_of

__all__ = ["Shelf", "p6"]

SEED: Final = 6
SAMPLES: Final = 1_500
ROWS: Final = 12
ROWS_IN_LOG: Final = 8
FRAME_BYTES: Final = 24 + PAGE_BYTES
THIN: Final = 16


class Shelf:
    """A store of three pages, and what may be found in it.

    Args:
        directory: Where it is put again and again.
        logged: Its last writes are in the log only.
    """

    def __init__(self, directory: Path, *, logged: bool) -> None:
        self.path = directory / ("logged" if logged else "closed") / "s.db"
        self.log = log_path(self.path)
        database, _ = Database.open(self.path, store=STORE, node=NODE)
        self.states: list[Delta] = [{}]
        for number in range(1, ROWS + 1):
            self._write(database, number)
        if logged:
            database.checkpoint(whole=True)
            for number in range(ROWS + 1, ROWS + ROWS_IN_LOG + 1):
                self._write(database, number)
            database.drop()
        else:
            database.close()
        self.file_bytes = self.path.read_bytes()
        self.log_bytes = self.log.read_bytes() if logged else b""

    def _write(self, database: Database, number: int) -> None:
        key = number % ROWS
        entry = entry_of(key, number)
        database.commit([], [encode_row(key_bytes(key), entry)])
        self.states.append({**self.states[-1], key_bytes(key): entry})

    def wrong_with(self, file: bytes, log: bytes, *, lost_max: int) -> str | None:
        """Put these bytes there and open the store; what is wrong, if anything is.

        Args:
            file: Of the file.
            log: Of the log.
            lost_max: How many of the last writes may be missing.
        """
        for path, data in ((self.path, file), (self.log, log)):
            path.write_bytes(data)
            path.chmod(0o600)
        try:
            database, delta = Database.open(self.path, store=STORE, node=NODE)
        except StorageError:
            same = self.path.read_bytes() == file
            return None if same else "a refused file was changed"
        try:
            if delta not in self.states[-1 - lost_max :]:
                return f"{len(delta)} rows that were never there together"
            # What the check has passed can be written to.
            entry = entry_of(99, 99)
            database.commit([], [encode_row(key_bytes(99), entry)])
            database.close()
            database, again = Database.open(self.path, store=STORE, node=NODE)
            if again != {**delta, key_bytes(99): entry}:
                return "a write to it was lost"
        except StorageError as error:
            return f"it was opened, and then: {error}"
        finally:
            database.drop()
        return None


def p6(deep: bool, directory: Path) -> Outcome:
    """Flip every bit and cut at every length; a sample of both, unless ``deep``.

    Of the pages in a log it is one byte in ``THIN``, since one checksum covers a page,
    and of the lengths of a log it is one in ``THIN``.
    """
    random = Random(SEED)
    memory = Path("/dev/shm")
    wrong: list[str] = []
    tried = 0
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else directory) as m:
        for logged in (False, True):
            shelf = Shelf(Path(m), logged=logged)
            for what, file, log, lost_max in _harms(shelf, random, deep=deep):
                tried += 1
                found = shelf.wrong_with(file, log, lost_max=lost_max)
                if found is not None:
                    wrong.append(f"{what}: {found}")
    return Outcome(
        figure=len(wrong),
        target="0 wrong values, silent losses or crashes",
        n=tried,
        passed=not wrong,
        seed=None if deep else SEED,
        note="; ".join(wrong[:3]) or None,
    )


def _harms(
    shelf: Shelf, random: Random, *, deep: bool
) -> Iterator[tuple[str, bytes, bytes, int]]:
    """Name, file, log, and how many of the last writes may be lost by it."""
    file, log = shelf.file_bytes, shelf.log_bytes
    target, name = (log, "log") if log else (file, "file")
    # A page of the log has one checksum, so that one byte in many stands for it.
    bits = [
        byte * 8 + bit
        for byte in range(len(target))
        if not log or (byte - 32) % FRAME_BYTES < 24 or byte % THIN == 0
        for bit in range(8)
    ]
    for bit in bits if deep else sorted(random.sample(bits, SAMPLES)):
        data = bytearray(target)
        data[bit // 8] ^= 1 << bit % 8
        changed = (file, bytes(data)) if log else (bytes(data), b"")
        yield f"bit {bit} of the {name}", *changed, 1 if log else 0
    lengths = range(0, len(target), THIN if log else 1)
    cuts = set(lengths if deep else random.sample(lengths, SAMPLES // 10)) | {0, 32}
    for length in sorted(cuts):
        changed = (file, target[:length]) if log else (target[:length], b"")
        # A log that was cut is an end that was torn, wherever that is.
        lost_max = ROWS_IN_LOG if log else 0
        yield f"{name} cut to {length}", *changed, lost_max

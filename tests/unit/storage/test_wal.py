"""A log that ends torn is a crash's; one that goes on behind damage is refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.errors import Conflict, StoreCorrupt
from barrel_p2p.ormap import Delta, Entry
from barrel_p2p.storage.database import Database, log_path
from barrel_p2p.storage.rows import encode_row
from barrel_p2p.storage.wal import PAGE_BYTES, LogReport, examine_log
from barrel_p2p.wire.terms import key_bytes

NODE = "a@h"
FRAME = PAGE_BYTES + 24
WRITES = 5


def opened(path: Path) -> tuple[Database, Delta]:
    return Database.open(path, store="s", node=NODE)


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A store with five transactions, each in the log only."""
    path = tmp_path / "s.db"
    database, _ = opened(path)
    for number in range(WRITES):
        entry = Entry(number, Timestamp(number + 1, 0), NODE, number)
        database.commit([], [encode_row(key_bytes(number), entry)])
    database.drop()
    return path


def examined(path: Path) -> LogReport:
    with path.open("rb") as store:
        return examine_log(log_path(path), store)


def numbers(delta: Delta) -> list[object]:
    return sorted((entry.value for entry in delta.values()), key=str)


def recovered(path: Path) -> list[object]:
    database, delta = opened(path)
    database.drop()
    return numbers(delta)


def commits(log: bytes) -> list[int]:
    """The frames that end a transaction."""
    heads = (log[at : at + 8] for at in range(32, len(log), FRAME))
    return [i for i, head in enumerate(heads) if head[4:] != bytes(4)]


def test_the_replay_is_as_long_as_sqlite_s(killed: Path) -> None:
    report = examined(killed)
    connection = sqlite3.connect(killed)
    (done,) = connection.execute("PRAGMA wal_checkpoint").fetchall()
    connection.close()
    assert (report.frames, report.damage) == (done[1], None)


def test_an_empty_or_missing_log_is_fine(tmp_path: Path) -> None:
    assert examine_log(tmp_path / "none", BytesIO()).frames == 0
    (tmp_path / "empty").write_bytes(b"")
    assert examine_log(tmp_path / "empty", BytesIO()).damage is None


def test_every_truncation_leaves_whole_transactions(killed: Path) -> None:
    log = log_path(killed).read_bytes()
    ends = commits(log)
    for length in range(0, len(log), 509):
        log_path(killed).write_bytes(log[:length])
        whole = sum(32 + (end + 1) * FRAME <= length for end in ends)
        assert recovered(killed) == list(range(whole))


def test_a_torn_last_transaction_is_left_out(killed: Path) -> None:
    log = bytearray(log_path(killed).read_bytes())
    log[-1] ^= 1
    log_path(killed).write_bytes(log)
    assert recovered(killed) == list(range(WRITES - 1))


@pytest.mark.parametrize("at", [0, 4, 16, 24, 30, 500, 4_119])
def test_damage_that_transactions_follow_is_told(killed: Path, at: int) -> None:
    whole = log_path(killed).read_bytes()
    ends = commits(whole)
    for frame in range(ends[-2] + 1):
        log = bytearray(whole)
        log[32 + frame * FRAME + at] ^= 4
        log_path(killed).write_bytes(log)
        with pytest.raises(StoreCorrupt, match="its log is damaged"):
            recovered(killed)
        assert log_path(killed).read_bytes() == bytes(log)


@pytest.mark.parametrize("at", range(32))
def test_a_damaged_header_is_told(killed: Path, at: int) -> None:
    log = bytearray(log_path(killed).read_bytes())
    log[at] ^= 1
    log_path(killed).write_bytes(log)
    with pytest.raises(StoreCorrupt, match="the header of its log is damaged"):
        recovered(killed)


def test_what_an_earlier_round_left_behind_the_end_is_no_damage(killed: Path) -> None:
    database, _ = opened(killed)
    database.checkpoint()  # The log begins anew, over what it held.
    entry = Entry(9, Timestamp(9, 0), NODE, 9)
    database.commit([], [encode_row(key_bytes(9), entry)])
    database.drop()
    assert examined(killed).frames < WRITES
    assert recovered(killed) == [*range(WRITES), 9]
    log = bytearray(log_path(killed).read_bytes())
    log[32 + 100] ^= 1
    log_path(killed).write_bytes(log)
    assert recovered(killed) == list(range(WRITES))


def test_a_torn_header_before_what_the_file_has_already_is_fine(killed: Path) -> None:
    database, _ = opened(killed)
    database.checkpoint()
    database.drop()
    log = bytearray(log_path(killed).read_bytes())
    log[15] ^= 1
    log_path(killed).write_bytes(log)
    assert recovered(killed) == list(range(WRITES))


OTHER = """
import sys
from pathlib import Path
from barrel_p2p.errors import Conflict
from barrel_p2p.storage.database import Database
try:
    Database.open(Path(sys.argv[1]), store="s", node="a@h")
except Conflict:
    sys.exit(7)
"""


@pytest.mark.parametrize("is_torn", [False, True])
def test_an_open_store_is_locked_for_other_processes(
    killed: Path, *, is_torn: bool
) -> None:
    """A descriptor of the file that is closed in between would end SQLite's lock."""
    if is_torn:
        database, _ = opened(killed)
        database.checkpoint()
        database.drop()
        log = bytearray(log_path(killed).read_bytes())
        log[15] ^= 1
        log_path(killed).write_bytes(log)
    database, _ = opened(killed)
    with pytest.raises(Conflict):
        opened(killed)
    command = [sys.executable, "-c", OTHER, str(killed)]
    assert subprocess.run(command, check=False).returncode == 7
    database.drop()
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("bit", range(16))
def test_a_header_that_would_make_it_read_only_is_told(killed: Path, bit: int) -> None:
    data = bytearray(killed.read_bytes())
    data[18 + bit // 8] ^= 1 << bit % 8
    killed.write_bytes(data)
    with pytest.raises(StoreCorrupt):
        recovered(killed)

"""One store on the disk: a SQLite file with checked rows. One thread at a time.

When a commit has returned, the rows are on the disk (write-ahead log,
synchronous=FULL). Each transaction also writes how many rows there are and the sum of
their checksums, so that whatever state a recovery ends at, rows that are missing or of
another time are noticed.

Opening fails closed: a file that is no whole store is ``StoreCorrupt``, never an empty
store. A new store is made under another name and renamed, so that no file under the
right name is ever half made.

SQLite replays its log up to the first damaged frame and says nothing about what
follows; ``storage.wal`` does.

Source: SQLite, "Write-Ahead Logging", "PRAGMA Statements", "Atomic Commit In SQLite".
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, Self, final

from xxhash import xxh3_64_intdigest

from barrel_p2p.core.ormap import Delta
from barrel_p2p.errors import (
    Conflict,
    Degraded,
    StorageError,
    StoreCorrupt,
    StoreFull,
)
from barrel_p2p.storage.files import (
    TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX,
    check_private_file,
    ensure_private_directory,
    rename_durable,
    sync_directory,
)
from barrel_p2p.storage.rows import Row, RowDamaged, decode_row
from barrel_p2p.storage.wal import PAGE_BYTES, examine_log

__all__ = [
    "FORMAT",
    "LOG_BYTES_MAX",
    "Database",
    "connect_unchecked",
    "log_path",
    "store_names",
]

FORMAT: Final = b"barrel-p2p store 1"
"""Meta row ``format``: what the file is, and the version of its schema."""

LOG_BYTES_MAX: Final = 8 << 20
"""A checkpoint follows when about so many bytes were logged since the last one."""

_FREE_PAGES_MIN: Final = 64
# Write and read version of the file format: 2 is with a write-ahead log.
_LOG_MODE: Final = b"\2\2"
_LOG_MODE_AT: Final = 18
_MASK: Final = (1 << 64) - 1
_HALF: Final = (1 << 32) - 1

_META: Final = "CREATE TABLE meta(k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID"
_ENTRY: Final = (
    "CREATE TABLE entry(key BLOB PRIMARY KEY, stamp BLOB, node TEXT, kind INT,"
    " value BLOB, sum INT) WITHOUT ROWID"
)
_SCHEMA: Final = [("table", "entry", _ENTRY), ("table", "meta", _META)]
_ROWS: Final = "INSERT OR REPLACE INTO meta VALUES ('rows', ?)"
_UPSERT: Final = (
    "INSERT INTO entry VALUES {} ON CONFLICT(key) DO UPDATE SET stamp=excluded.stamp,"
    " node=excluded.node, kind=excluded.kind, value=excluded.value, sum=excluded.sum"
    " WHERE (excluded.stamp, excluded.node, excluded.kind)"
    " > (entry.stamp, entry.node, entry.kind)"
)
# Two halves, because SQLite's integers have 63 bits and its sums must not overflow.
_TOTALS: Final = (
    f"SELECT count(*), sum(sum & {_HALF}), sum((sum >> 32) & {_HALF}) FROM entry"
)
# Few statements a commit: at each one the interpreter's lock changes hands.
_STEPS: Final = (256, 64, 16, 4, 1)
_UPSERTS: Final = {n: _UPSERT.format(",".join(["(?,?,?,?,?,?)"] * n)) for n in _STEPS}
_TOTALS_OF: Final = {n: f"{_TOTALS} WHERE key IN ({','.join('?' * n)})" for n in _STEPS}
_DELETES: Final = {
    n: f"DELETE FROM entry WHERE key IN ({','.join('?' * n)})" for n in _STEPS
}

# A machine without space or descriptors holds a whole store nevertheless.
_UNREADABLE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def log_path(path: Path) -> Path:
    """Where SQLite keeps the log of the store at ``path``."""
    return path.with_name(path.name + "-wal")


@final
class Database:
    """An open store. Made by ``open``; every method may be called from any thread, but
    never from two at once.

    Args:
        path: The file.
        connection: Whose rows were checked.
        file: The same file. It is closed after the connection and not before: SQLite's
            lock ends when any descriptor of the file is closed in the process.
        count: How many rows there are.
        total: The sum of their checksums, modulo 2**64.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        file: BinaryIO,
        count: int,
        total: int,
    ) -> None:
        self.path = path
        self._connection = connection
        self._file = file
        self._count = count
        self._total = total
        self._logged = 0

    @classmethod
    def open(cls, path: Path, *, store: str, node: str) -> tuple[Self, Delta]:
        """Open the store at ``path``, or make it, and read it whole.

        Args:
            path: The file; its directory is made if it is missing.
            store: What the store is called; kept in it.
            node: Whose it is; kept in it.

        Raises:
            StoreCorrupt: The file is no whole store. Nothing was changed.
            Conflict: Another process has it open.
            StorageError: It cannot be opened for another reason, or belongs to another
                node or another store, or others have access to it.
        """
        ensure_private_directory(path.parent)
        if not os.path.lexists(path):
            _create(path, store, node)
        check_private_file(path)
        with _opening(path):
            connection = _connect(path)
            file: BinaryIO | None = None
            try:
                # SQLite flushes the name of its log too, and hears of no failure.
                sync_directory(path.parent)
                file = path.open("rb", buffering=0)
                mode = file.read(_LOG_MODE_AT + len(_LOG_MODE))[_LOG_MODE_AT:]
                if mode != _LOG_MODE:  # SQLite would open it, and refuse to write.
                    raise _Damage(f"its format is {mode!r}, not {_LOG_MODE!r}")
                log = examine_log(log_path(path), file)
                if log.damage is not None:
                    raise _Damage(log.damage)
                count, total = _check_meta(connection, path, store, node)
                _quick_check(connection)
                delta, found = _read(connection)
                if (len(delta), found) != (count, total):
                    raise _Damage(
                        f"it holds {len(delta)} rows, not the {count} that were"
                        " committed, or others"
                    )
            except BaseException:
                _drop(connection, path)
                if file is not None:
                    file.close()
                raise
        return cls(path, connection, file, count, total), delta

    def commit(self, gone: Sequence[bytes], rows: Sequence[Row]) -> None:
        """Delete ``gone``, then write ``rows`` where they beat what is there.

        Args:
            gone: Keys.
            rows: One a key.

        Raises:
            StoreFull: There is no space. Nothing was changed.
            Degraded: The disk failed. What was written is unknown until the store is
                opened anew; this object must be dropped.
        """
        keys = [row[0] for row in rows]
        if gone:
            keys = list(dict.fromkeys([*gone, *keys]))
        with self._blaming(), self._transaction():
            count, total = self._totals(keys)
            for part in _parts(gone):
                self._connection.execute(_DELETES[len(part)], part)
            changed = self._connection.total_changes
            for batch in _parts(rows):
                values = [column for row in batch for column in row]
                self._connection.execute(_UPSERTS[len(batch)], values)
            if self._connection.total_changes - changed == len(rows):
                count_now, total_now = len(rows), sum(row[5] for row in rows)
            else:  # Some are older than what is there.
                count_now, total_now = self._totals(keys)
            count_now += self._count - count
            total_now = (self._total + total_now - total) & _MASK
            self._connection.execute(_ROWS, (_pack(count_now, total_now),))
        self._count, self._total = count_now, total_now
        self._logged += sum(len(row[4]) for row in rows)
        self._logged += (len(keys) + 3) * PAGE_BYTES

    @property
    def is_due(self) -> bool:
        """Whether so much was logged that a checkpoint should follow."""
        return self._logged >= LOG_BYTES_MAX

    def checkpoint(self, *, whole: bool = False) -> None:
        """Move what is logged into the file.

        Args:
            whole: Also cut the log to nothing.

        Raises:
            StoreFull: There is no space. Nothing is lost; the log has it.
            Degraded: The disk failed; this object must be dropped.
        """
        mode = "TRUNCATE" if whole else "PASSIVE"
        with self._blaming():
            self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        self._logged = 0

    def compact(self) -> None:
        """Checkpoint, and give back the space of removed rows where it is much.

        Raises:
            StoreFull: There is no space. Nothing was changed.
            Degraded: The disk failed; this object must be dropped.
        """
        self.checkpoint(whole=True)
        with self._blaming():
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
            if free < max(pages // 4, _FREE_PAGES_MIN):
                return
            self._connection.execute("VACUUM")
        self.checkpoint(whole=True)

    def drop(self) -> None:
        """Let go of the file without writing to it."""
        _drop(self._connection, self.path)
        self._file.close()

    def close(self) -> None:
        """Checkpoint, and let go of the file.

        Raises:
            StoreFull: There was no space for the checkpoint; the log has all of it.
            Degraded: The disk failed. What was committed is in the log, or in the file.
        """
        try:
            self.checkpoint(whole=True)
        finally:
            self.drop()

    def _totals(self, keys: Sequence[bytes]) -> tuple[int, int]:
        count = total = 0
        for part in _parts(keys):
            row = self._connection.execute(_TOTALS_OF[len(part)], part).fetchone()
            count += row[0]
            total += (row[1] or 0) + ((row[2] or 0) << 32)
        return count, total

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # After some errors SQLite has rolled back by itself.
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if _code(error) == sqlite3.SQLITE_FULL:
                raise StoreFull(
                    f"no space to write {self.path}",
                    hint="make room on that file system; the next write tries again",
                ) from error
            raise Degraded(
                f"cannot write {self.path}: {_said(error)}",
                hint="mend the disk, then reopen the store or restart the node",
            ) from error


def store_names(path: Path) -> tuple[str, str]:
    """What the store at ``path`` is called, and whose it is, as it says itself.

    Raises:
        StoreCorrupt: It does not say so, or is no store.
        StorageError: It cannot be opened.
    """
    check_private_file(path)
    with _opening(path), connect_unchecked(path) as connection:
        meta = dict(connection.execute("SELECT k, v FROM meta").fetchall())
        try:
            return meta["store"].decode(), meta["node"].decode()
        except (AttributeError, KeyError, UnicodeDecodeError):
            raise _Damage("it does not say what it is called") from None


@contextmanager
def connect_unchecked(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the file at ``path``, whatever it holds. For looking only.

    Raises:
        sqlite3.Error: SQLite cannot open it.
        StoreCorrupt: It is no file of ours.
    """
    with _opening(path):
        connection = _connect(path)
    try:
        yield connection
    finally:
        _drop(connection, path)


class _Damage(Exception):
    """The file is no whole store. The text says why."""


def _create(path: Path, store: str, node: str) -> None:
    log = log_path(path)
    if os.path.lexists(log):
        raise _corrupt(path, f"it is missing, but its log {log.name} is there")
    name = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    temporary = path.with_name(name)
    try:
        with _opening(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(temporary, flags, 0o600))
            _fill(temporary, store, node)
        rename_durable(temporary, path)
    except BaseException:
        for leftover in (temporary, log_path(temporary)):
            with suppress(OSError):
                leftover.unlink()
        raise


def _fill(path: Path, store: str, node: str) -> None:
    meta = [
        ("format", FORMAT),
        ("node", node.encode()),
        ("rows", _pack(0, 0)),
        ("store", store.encode()),
    ]
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _configure(connection)
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode=MEMORY")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_META)
        connection.execute(_ENTRY)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta)
        connection.execute("COMMIT")
    finally:
        connection.close()
    # SQLite's own way to a log says nothing when the flush of its header fails.
    file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pwrite(file, _LOG_MODE, _LOG_MODE_AT)
        os.fsync(file)
    finally:
        os.close(file)


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: a file that has vanished since is not made anew, empty.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=64,
    )
    try:
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
        _configure(connection)
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            raise _Damage(f"its journal mode is {mode!r:.40}, not wal")
    except BaseException:
        _drop(connection, path)
        raise
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    # The lock keeps other processes out, and the log's index in this one's memory.
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("PRAGMA temp_store=MEMORY")


def _check_meta(
    connection: sqlite3.Connection, path: Path, store: str, node: str
) -> tuple[int, int]:
    """What the store is, is what was asked for; return its rows and their sum."""
    schema = connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
    ).fetchall()
    if schema != _SCHEMA:
        raise _Damage(f"its tables are not those of a store: {schema!r:.120}")
    meta = dict(connection.execute("SELECT k, v FROM meta").fetchall())
    if sorted(meta, key=str) != ["format", "node", "rows", "store"]:
        raise _Damage(f"it says {sorted(meta, key=str)!r:.120} about itself")
    if meta["format"] != FORMAT:
        raise _Damage(f"its format is {meta['format']!r:.80}, not {FORMAT!r}")
    for what, name in (("store", store), ("node", node)):
        if meta[what] != name.encode():
            raise StorageError(
                f"{path} is of {what} {meta[what]!r:.120}, not of {name!r}",
                hint="put the right file there, or move that one out of the way",
            )
    return _unpack(meta["rows"])


def _quick_check(connection: sqlite3.Connection) -> None:
    for (said,) in connection.execute("PRAGMA quick_check(1)"):
        if said != "ok":
            raise _Damage(str(said)[:200])


def _read(connection: sqlite3.Connection) -> tuple[Delta, int]:
    delta: Delta = {}
    names: dict[str, str] = {}
    total = 0
    try:
        for row in connection.execute("SELECT * FROM entry"):
            delta[row[0]] = decode_row(row, names)
            total += row[5]
    except RowDamaged as error:
        raise _Damage(str(error)) from error
    return delta, total & _MASK


def _pack(count: int, total: int) -> bytes:
    body = count.to_bytes(8, "big") + total.to_bytes(8, "big")
    return body + xxh3_64_intdigest(body).to_bytes(8, "big")


def _unpack(value: object) -> tuple[int, int]:
    if type(value) is not bytes or len(value) != 24:
        raise _Damage(f"its count of rows is {value!r:.80}")
    body, total = value[:16], int.from_bytes(value[16:], "big")
    if xxh3_64_intdigest(body) != total:
        raise _Damage("its count of rows does not match its checksum")
    return int.from_bytes(body[:8], "big"), int.from_bytes(body[8:], "big")


def _parts[T](items: Sequence[T]) -> Iterator[Sequence[T]]:
    """``items`` in as few parts as there are statements for."""
    start, left = 0, len(items)
    for step in _STEPS:
        while left >= step:
            yield items[start : start + step]
            start += step
            left -= step


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except (_Damage, sqlite3.Error, UnicodeDecodeError) as error:
        # Even the text of an error can hold damaged bytes, and is then no text.
        code = _code(error)
        if isinstance(error, _Damage) or code in _UNREADABLE or code is None:
            raise _corrupt(path, _said(error)) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Conflict(
                f"{path} is open already, in this process or another",
                hint="one node at a time has a store; stop the other one",
            ) from error
        if code == sqlite3.SQLITE_FULL:
            raise StoreFull(f"no space to open {path}", hint="make room") from error
        raise StorageError(f"cannot open {path}: {_said(error)}") from error
    except OSError as error:
        raise StorageError(f"cannot open {path}: {error.strerror}") from error


def _corrupt(path: Path, why: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"{path} is damaged: {why}",
        hint=(
            f"`barrel-p2p store check {path}` says how much of it can be read,"
            " `barrel-p2p store salvage` keeps that; or restore it from a copy"
        ),
    )


def _code(error: Exception) -> int | None:
    """SQLite's primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _said(error: Exception) -> str:
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)


def _drop(connection: sqlite3.Connection, path: Path) -> None:
    # The log is left as it is, for whoever opens the store next. SQLite makes an empty
    # one when it only looks, and may remove that.
    with suppress(sqlite3.Error):
        with suppress(OSError):
            is_empty = log_path(path).stat().st_size == 0
            keep = sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE
            connection.setconfig(keep, not is_empty)
        connection.close()

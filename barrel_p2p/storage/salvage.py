"""Looking at stores that no node has open, and saving what is whole of damaged ones.

A check changes nothing. A salvage keeps the damaged files beside the new one, under
another name, so that it can be done again. One that is cut short leaves a store that
does not open; doing it again goes on with the copy.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, final

from barrel_p2p.core.ormap import Delta
from barrel_p2p.errors import Conflict, StorageError, StoreCorrupt
from barrel_p2p.storage.database import (
    Database,
    connect_unchecked,
    log_path,
    store_names,
)
from barrel_p2p.storage.files import (
    check_private_file,
    remove_file,
    rename_durable,
    sync_directory,
    write_atomic,
)
from barrel_p2p.storage.rows import RowDamaged, decode_row, encode_row
from barrel_p2p.storage.wal import PAGE_BYTES
from barrel_p2p.wire.terms import key_bytes

__all__ = ["Salvaged", "StoreReport", "check_store", "salvage_store", "stores_in"]

_ASIDE_MAX: Final = 1_000
_GROUP: Final = 1_024
# Stands in a store's place while its log goes and the new one is not there yet.
_MARK: Final = b"barrel-p2p salvage, not done, of "


@final
@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a check found.

    Attributes:
        path: The file.
        state: ``whole``, ``damaged``, ``in use``, or ``unreadable`` for a reason that
            is not in the file.
        why: What is wrong; None for a whole one.
        store: What the store is called, as far as it says.
        node: Whose it is, as far as it says.
        values: Keys with a value that can be read.
        tombstones: Removed keys that can be read.
        file_bytes: Size of the file and its log.
    """

    path: Path
    state: Literal["whole", "damaged", "in use", "unreadable"]
    why: str | None = None
    store: str | None = None
    node: str | None = None
    values: int = 0
    tombstones: int = 0
    file_bytes: int = 0


@final
@dataclass(frozen=True, slots=True)
class Salvaged:
    """What a salvage did.

    Attributes:
        path: The new store.
        damaged: Where the old file is now; its log has ``-wal`` behind that.
        kept: How many rows the new store has.
        refused: How many rows were there and not whole.
    """

    path: Path
    damaged: Path
    kept: int
    refused: int


def stores_in(path: Path) -> list[Path]:
    """The stores below a directory, or the one at ``path``, by name.

    Raises:
        StorageError: There is nothing at ``path``.
    """
    if path.is_dir():
        found = {each for each in path.rglob("*.db") if each.is_file()}
        # A log without its file is a store that has lost it.
        logs = path.rglob("*.db-wal")
        found |= {each.with_name(each.name.removesuffix("-wal")) for each in logs}
        return sorted(found)
    if not os.path.lexists(path) and not os.path.lexists(log_path(path)):
        raise StorageError(f"there is no store at {path}")
    return [path]


def check_store(path: Path) -> StoreReport:
    """Read a store whole, as a node would at its start. Changes nothing."""
    size = sum(each.stat().st_size for each in (path, log_path(path)) if each.is_file())
    if not os.path.lexists(path):
        why = "it is missing, but its log is there"
        return StoreReport(path, "damaged", why, file_bytes=size)
    try:
        store, node = store_names(path)
        database, delta = Database.open(path, store=store, node=node)
    except StoreCorrupt as error:
        source = _source(path)
        delta, _ = _readable(source)
        values, tombstones = _counts(delta)
        why = f"a salvage was cut short: do it again; {source} is what there was"
        return StoreReport(
            path,
            "damaged",
            str(error) if source == path else why,
            values=values,
            tombstones=tombstones,
            file_bytes=size,
        )
    except Conflict as error:
        return StoreReport(path, "in use", str(error), file_bytes=size)
    except StorageError as error:
        return StoreReport(path, "unreadable", str(error), file_bytes=size)
    database.drop()
    values, tombstones = _counts(delta)
    return StoreReport(path, "whole", None, store, node, values, tombstones, size)


def salvage_store(
    path: Path, *, store: str | None = None, node: str | None = None
) -> Salvaged:
    """Put all rows of the store at ``path`` that are whole into a new one there.

    A row that is missing was damaged, or was removed without a tombstone. A row that is
    there may be older than one that was acknowledged and is lost.

    Args:
        path: The file.
        store: What it is called, where it does not say so itself any more.
        node: Whose it is, likewise.

    Raises:
        StorageError: It is whole, or in use, or says not what it is called and neither
            do you. Nothing was changed.
    """
    report = check_store(path)
    if report.state != "damaged":
        raise StorageError(f"{path} is {report.state}, and was left as it is")
    check_private_file(path if os.path.lexists(path) else log_path(path))
    source = _source(path)
    with suppress(StorageError):
        found = store_names(source)
        store, node = store or found[0], node or found[1]
    if not store or not node:
        raise StorageError(
            f"{path} does not say any more what it is called and whose it is",
            hint="give --store, for instance map/NAME or reminders, and --node",
        )
    delta, refused = _readable(source)
    aside = _copy_aside(path) if source == path else source
    new = path.with_name(f"{aside.name}.new")
    _write_new(new, delta, store, node)
    # Without its log the old file may pass for a whole store, of an older time.
    write_atomic(path, (_MARK + os.fsencode(aside.name)).ljust(PAGE_BYTES, b"\0"))
    remove_file(log_path(path))
    sync_directory(path.parent)
    rename_durable(new, path)
    return Salvaged(path, aside, len(delta), refused)


def _source(path: Path) -> Path:
    """Where the rows of a damaged store are: in a copy, if a salvage was cut short."""
    try:
        with path.open("rb") as file:
            head = file.read(PAGE_BYTES)
    except OSError:
        return path
    name = os.fsdecode(head.removeprefix(_MARK).rstrip(b"\0"))
    ours = head.startswith(_MARK) and name.startswith(f"{path.name}.damaged-")
    return path.with_name(name) if ours and name == Path(name).name else path


def _counts(delta: Delta) -> tuple[int, int]:
    tombstones = sum(entry.is_tombstone for entry in delta.values())
    return len(delta) - tombstones, tombstones


def _readable(path: Path) -> tuple[Delta, int]:
    """Rows from the front to the first page that is damaged, and from the back."""
    delta: Delta = {}
    refused: dict[object, None] = {}
    names: dict[str, str] = {}
    for order in ("ASC", "DESC"):
        for row in _rows(path, order):
            try:
                entry = decode_row(row, names)
            except RowDamaged:
                refused[row[0]] = None
                continue
            key = key_bytes(entry.key)
            held = delta.get(key)
            if held is None or entry.beats(held):
                delta[key] = entry
    return delta, len(refused)


def _rows(path: Path, order: str) -> Iterator[tuple[object, ...]]:
    if not os.path.lexists(path):
        return
    damage = (sqlite3.Error, StorageError, UnicodeDecodeError)
    with suppress(*damage), connect_unchecked(path) as connection:
        yield from connection.execute(f"SELECT * FROM entry ORDER BY key {order}")


def _copy_aside(path: Path) -> Path:
    for number in range(1, _ASIDE_MAX):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        if not os.path.lexists(aside) and not os.path.lexists(log_path(aside)):
            break
    else:
        raise StorageError(f"{_ASIDE_MAX} damaged copies of {path} are there already")
    try:
        for source, target in ((path, aside), (log_path(path), log_path(aside))):
            if os.path.lexists(source):
                shutil.copy2(source, target, follow_symlinks=False)
                with target.open("rb") as copy:
                    os.fsync(copy.fileno())
    except OSError as error:
        raise StorageError(f"cannot copy {path}: {error.strerror}") from error
    sync_directory(path.parent)
    return aside


def _write_new(path: Path, delta: Delta, store: str, node: str) -> None:
    remove_file(log_path(path))
    remove_file(path)
    database, _ = Database.open(path, store=store, node=node)
    rows = [encode_row(key, entry) for key, entry in delta.items()]
    try:
        for start in range(0, len(rows), _GROUP):
            database.commit([], rows[start : start + _GROUP])
    finally:
        database.close()

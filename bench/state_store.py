"""Persisted writes beside sqlite3 and lmdb, and what it takes to recover a store.

All write the same keys, each write is on the disk before the next one of its writer
begins, and systems take turns, so that all share the disk's moods. The peers commit a
transaction a write, which is what a program does that must not lose one; we commit
what sixty-four writers wait for in one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvloop

from barrel_p2p import Config, Node
from tests.faults.million import fill

try:
    import lmdb
except ModuleNotFoundError:  # `make bench` installs it, `make setup` does not.
    lmdb = None

__all__ = ["persisted", "recovery"]

KEYS: Final = 5_000
VALUE: Final = bytes(range(100))
WRITERS: Final = (1, 8, 64)
ROUNDS: Final = 5
SECONDS: Final = 2.0
RECORDS: Final = 1_000_000
_LMDB_BYTES: Final = 1 << 30


def persisted(quick: bool, directory: Path) -> dict[str, float | None]:
    """Acknowledged puts a second."""
    rounds, seconds = (1, 0.2) if quick else (ROUNDS, SECONDS)
    ours: dict[int, list[float]] = {count: [] for count in WRITERS}
    by_sqlite: list[float] = []
    by_lmdb: list[float] = []
    for number in range(rounds):
        place = directory / str(number)
        place.mkdir()
        by_sqlite.append(_sqlite(place / "sqlite.db", seconds))
        for count in WRITERS:
            ours[count].append(_puts(place / f"node-{count}", count, seconds))
        if lmdb is not None:
            by_lmdb.append(_lmdb(place / "lmdb", seconds))
    figures: dict[str, float | None] = {
        f"persisted_put_{count}_per_s": statistics.median(ours[count])
        for count in WRITERS
    }
    figures["sqlite_put_per_s"] = statistics.median(by_sqlite)
    figures["lmdb_put_per_s"] = statistics.median(by_lmdb) if by_lmdb else None
    most = ours[WRITERS[-1]]
    figures["persisted_put_64_vs_sqlite"] = _ratio(most, by_sqlite)
    figures["persisted_put_64_vs_lmdb"] = _ratio(most, by_lmdb) if by_lmdb else None
    return figures


def recovery(quick: bool, directory: Path) -> dict[str, float | None]:
    """Open a store of a million records in a new process, with all its checks."""
    path = directory / "s.db"
    fill(path, 10_000 if quick else RECORDS)
    command = [sys.executable, "-m", "tests.faults.million", str(path)]
    root = Path(__file__).parents[1]
    found: list[dict[str, Any]] = []
    for _ in range(1 if quick else 3):
        done = subprocess.run(command, cwd=root, capture_output=True, check=True)
        found.append(json.loads(done.stdout))
    return {
        "recovery_1m_s": statistics.median(each["seconds"] for each in found),
        "recovery_1m_mb": max(each["megabytes"] for each in found),
    }


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _puts(directory: Path, writers: int, seconds: float) -> float:
    logging.disable(logging.WARNING)
    try:
        return uvloop.run(_node_puts(directory, writers, seconds))
    finally:
        logging.disable(logging.NOTSET)


async def _node_puts(directory: Path, writers: int, seconds: float) -> float:
    config = Config.load(
        None,
        env={},
        node_name="bench@localhost",
        data_dir=str(directory),
        discovery_dir=str(directory / "discovery"),
        bind_host="127.0.0.1",
        listen_port=0,
        dist_cookie="of the benchmark",
    )
    async with Node(config=config) as node:
        opened = await node.new_map("m", persist=True)
        done = 0

        async def writer(first: int, until: float) -> None:
            nonlocal done
            for number in itertools.count(first, writers):
                if time.perf_counter() >= until:
                    return
                await opened.put(_key(number), VALUE)
                done += 1

        async def write(for_s: float) -> float:
            nonlocal done
            done, begun = 0, time.perf_counter()
            each = (writer(first, begun + for_s) for first in range(writers))
            await asyncio.gather(*each)
            return done / (time.perf_counter() - begun)

        await write(seconds / 10)
        return await write(seconds)


def _key(number: int) -> str:
    return f"key-{number * 7_919 % KEYS:012d}"


def _sqlite(path: Path, seconds: float) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")
    statement = "INSERT OR REPLACE INTO t VALUES (?, ?)"

    def put(key: bytes) -> None:
        connection.execute(statement, (key, VALUE))

    try:
        return _alone(put, seconds)
    finally:
        connection.close()


def _lmdb(path: Path, seconds: float) -> float:
    environment = lmdb.open(str(path), map_size=_LMDB_BYTES)

    def put(key: bytes) -> None:
        with environment.begin(write=True) as transaction:
            transaction.put(key, VALUE)

    try:
        return _alone(put, seconds)
    finally:
        environment.close()


def _alone(put: Callable[[bytes], None], seconds: float) -> float:
    # One after the other: both have one writer at a time, however many threads write.
    for number in range(20):
        put(_key(number).encode())
    begun = time.perf_counter()
    for number in itertools.count():
        put(_key(number).encode())
        passed = time.perf_counter() - begun
        if passed >= seconds:
            return (number + 1) / passed
    raise AssertionError("unreachable")

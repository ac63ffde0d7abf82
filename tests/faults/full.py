"""P5: no space, a file system that is read-only, no descriptors, short writes."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from barrel_p2p.errors import Degraded, StorageError, StoreCorrupt, StoreFull
from barrel_p2p.ormap import Delta, Entry
from barrel_p2p.replica_log import Committer, ReplicaLog
from barrel_p2p.storage.database import Database
from barrel_p2p.wire.terms import key_bytes
from tests.faults.goals import Outcome
from tests.faults.writing import NODE, STORE, child, entry_of

__all__ = ["p5"]

SMALL: Final = "256k"
WRITES_MAX: Final = 2_000
DESCRIPTORS: Final = 64
FILE_BYTES: Final = 100_000


def p5(deep: bool, directory: Path) -> Outcome:
    """Each of the four, with a store that has something to lose."""
    if os.geteuid() != 0:
        why = "skipped: needs root, to mount file systems"
        return Outcome(None, "0 wrong", 0, None, note=why)
    with _mounted(directory / "small", f"size={SMALL}") as small:
        wrong = {
            "no space": _in_child(partial(_full, small)),
            "read-only": _read_only(small),
        }
    wrong["no descriptors"] = _in_child(partial(_no_descriptors, directory / "d"))
    wrong["short writes"] = _in_child(partial(_short, directory / "e"))
    told = [f"{what}: {found}" for what, found in wrong.items() if found]
    return Outcome(
        figure=len(told),
        target="0 of 4 lose or invent a write, or acknowledge what is not kept",
        n=len(wrong),
        passed=not told,
        note="; ".join(told) or None,
    )


async def _full(small: Path) -> str | None:
    ballast = small / "ballast"
    ballast.write_bytes(bytes(60_000))

    async def make_room(log: ReplicaLog) -> None:
        if log.state != "degraded":
            raise AssertionError("a full disk is not visible")
        ballast.unlink()

    return await _until_refused(small / "stores" / "s.db", StoreFull, make_room)


async def _short(directory: Path) -> str | None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, hard))

    async def lift(log: ReplicaLog) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        if log.state == "degraded" and not isinstance(log.fault, str):
            raise AssertionError("a degraded store says not why")
        try:
            await log.append({})
        except Degraded:
            await log.reopen()

    return await _until_refused(directory / "s.db", StorageError, lift)


async def _until_refused(
    path: Path,
    refusal: type[StorageError],
    mend: Callable[[ReplicaLog], Awaitable[None]],
) -> str | None:
    held: Delta = {}
    with ThreadPoolExecutor(1) as disk:
        committer = Committer(disk, asyncio.get_running_loop())
        log = await ReplicaLog.open(path, store=STORE, node=NODE, committer=committer)
        doubtful = await _fill(log, held, refusal)
        if doubtful is None:
            return "nothing was refused"
        await mend(log)
        again = entry_of(-1, 1)
        await log.append({key_bytes(-1): again})
        held[key_bytes(-1)] = again
        await log.close()
        committer.close()
    return _judge(path, held, doubtful)


async def _fill(
    log: ReplicaLog, held: Delta, refusal: type[StorageError]
) -> Entry | None:
    for number in range(1, WRITES_MAX):
        entry = entry_of(number, number)
        try:
            await log.append({key_bytes(number): entry})
        except refusal:
            return entry
        held[key_bytes(number)] = entry
    return None


def _judge(path: Path, held: Delta, doubtful: Entry) -> str | None:
    database, delta = Database.open(path, store=STORE, node=NODE)
    database.close()
    if delta == held:
        return None
    if delta == {**held, key_bytes(doubtful.key): doubtful}:
        return None
    return f"{len(delta)} rows are there, and {len(held)} were acknowledged"


def _read_only(small: Path) -> str | None:
    path = small / "stores" / "s.db"
    _, held = _opened_and_closed(path)
    _run("mount", "-o", "remount,ro", str(small))
    try:
        Database.open(path, store=STORE, node=NODE)[0].drop()
        found = "it was opened"
    except StoreCorrupt as error:
        found = f"it was taken for damaged: {error}"
    except StorageError:
        found = None
    finally:
        _run("mount", "-o", "remount,rw", str(small))
    _, again = _opened_and_closed(path)
    return found or (None if again == held else "it was changed")


async def _no_descriptors(directory: Path) -> str | None:
    held: Delta = {}
    with ThreadPoolExecutor(1) as disk:
        committer = Committer(disk, asyncio.get_running_loop())
        log = await ReplicaLog.open(
            directory / "s.db", store=STORE, node=NODE, committer=committer
        )
        await log.append({key_bytes(1): entry_of(1, 1)})
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, before[1]))
        open_now = _all_that_are_left()
        try:
            await ReplicaLog.open(
                directory / "t.db", store="t", node=NODE, committer=committer
            )
            return "a store was opened without descriptors"
        except StorageError as error:
            if isinstance(error, StoreCorrupt):
                return f"it was taken for damaged: {error}"
        await log.append({key_bytes(2): entry_of(2, 2)})
        for each in open_now:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        await log.close()
        committer.close()
    held = {key_bytes(n): entry_of(n, n) for n in (1, 2)}
    _, found = _opened_and_closed(directory / "s.db")
    return None if found == held else "what was open could not go on writing"


def _all_that_are_left() -> list[int]:
    opened: list[int] = []
    while True:
        try:
            opened.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return opened


def _opened_and_closed(path: Path) -> tuple[Path, Delta]:
    database, delta = Database.open(path, store=STORE, node=NODE)
    database.close()
    return path, delta


def _in_child(work: Callable[[], Awaitable[str | None]]) -> str | None:
    """Run in a process of its own: limits stay there."""

    async def run() -> str | None:
        return await work()

    def said(pipe: int) -> None:
        try:
            found = asyncio.run(run())
        except (AssertionError, StorageError) as error:
            found = repr(error)
        os.write(pipe, (found or "").encode()[:4_000])

    pid, reads = child(said)
    text = b""
    while part := os.read(reads, 4_096):
        text += part
    os.close(reads)
    _, status = os.waitpid(pid, 0)
    return text.decode() or (f"it ended with status {status}" if status else None)


@contextmanager
def _mounted(path: Path, options: str) -> Iterator[Path]:
    path.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"{options},mode=700", "tmpfs", str(path))
    try:
        yield path
    finally:
        _run("umount", str(path))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)

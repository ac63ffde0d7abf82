"""P3 and P4: the process dies at every call that writes, and every flush fails once.

P3 repeats a fixed script and kills it at its first such call, its second, and so on;
half of the time a write is torn. P4 lets one flush fail in the midst of writing.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from barrel_p2p.errors import Degraded, StorageError
from barrel_p2p.ormap import Delta
from barrel_p2p.replica_log import Committer, ReplicaLog
from barrel_p2p.storage.database import Database
from barrel_p2p.storage.rows import encode_row
from barrel_p2p.wire.terms import key_bytes
from tests.faults.faulty_disk import Action, Kind, arm, counted, run_on
from tests.faults.goals import Outcome
from tests.faults.writing import NODE, STORE, child, entry_of

__all__ = ["p3", "p4"]

OPS: Final = 200
WRITES: Final = 60
FLUSHES: Final = 50
KEYS: Final = 40
ALL: Final = Kind.WRITES | Kind.FLUSHES | Kind.NAMES | Kind.DIRECTORIES
NEVER: Final = 1 << 40


def p3(deep: bool, directory: Path) -> Outcome:
    """Kill a script of 200 operations at each of its calls."""
    words = ["points", str(directory), "1" if deep else "0"]
    done = cast("Any", run_on(__name__, *words, directory=directory))
    return Outcome(
        figure=len(done["wrong"]),
        target="0 of all crash points leave anything but a prefix",
        n=done["tried"],
        passed=not done["wrong"] and done["tried"] > OPS,
        note=done["wrong"][0] if done["wrong"] else f"{done['points']} calls",
    )


def p4(deep: bool, directory: Path) -> Outcome:
    """Fail each of the first 50 flushes once.

    Those of directories are left out: SQLite repeats one that the store has done.
    """
    done = cast(
        "Any", run_on(__name__, "flushes", str(directory), "", directory=directory)
    )
    return Outcome(
        figure=len(done["wrong"]),
        target="0 acknowledgements after a failed flush until reopened",
        n=done["tried"],
        passed=not done["wrong"],
        note=done["wrong"][0] if done["wrong"] else None,
    )


# P3, in a process on a faulty disk.


def _script(path: Path, says: int) -> None:
    """A byte for each operation that has returned."""
    database, _ = Database.open(path, store=STORE, node=NODE)
    for number in range(1, OPS + 1):
        if number % 50 == 0:
            database.compact()
        elif number % 20 == 0:
            database.checkpoint()
        elif number % 33 == 0:
            database.close()
            database, _ = Database.open(path, store=STORE, node=NODE)
        elif number % 29 == 0:  # As a store is opened that was killed.
            database.drop()
            database, _ = Database.open(path, store=STORE, node=NODE)
            database.checkpoint(whole=True)
        elif number % 13 == 0:
            database.commit([key_bytes(number * 5 % KEYS)], [])
        else:
            key = number * 7 % KEYS
            database.commit([], [encode_row(key_bytes(key), entry_of(key, number))])
        os.write(says, b".")
    database.close()


def _held_after(operations: int) -> Delta:
    held: Delta = {}
    for number in range(1, operations + 1):
        if any(number % each == 0 for each in (20, 29, 33, 50)):
            continue
        if number % 13 == 0:
            held.pop(key_bytes(number * 5 % KEYS), None)
        else:
            key = number * 7 % KEYS
            held[key_bytes(key)] = entry_of(key, number)
    return held


def _points(directory: Path, *, deep: bool) -> dict[str, object]:
    pid, reads = child(partial(_counting, directory / "count" / "s.db"))
    total = int(_said(reads).rsplit(b".", 1)[1])
    os.waitpid(pid, 0)
    wrong: list[str] = []
    tried = 0
    for at in range(1, total + 1):
        both = (Action.KILL, Action.TEAR)
        for action in both if deep else both[at % 2 :][:1]:
            tried += 1
            found = _die_at(directory / "point" / "s.db", at, action)
            if found is not None:
                wrong.append(f"{action.name} at call {at}: {found}")
    return {"points": total, "tried": tried, "wrong": wrong}


def _counting(path: Path, says: int) -> None:
    arm(NEVER, Action.KILL, ALL)
    _script(path, says)
    os.write(says, b"%d" % counted())


def _die_at(path: Path, at: int, action: Action) -> str | None:
    shutil.rmtree(path.parent, ignore_errors=True)

    def work(says: int) -> None:
        arm(at, action, ALL)
        _script(path, says)

    pid, reads = child(work)
    done = len(_said(reads))
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        return f"it ended with status {status}"
    try:
        database, delta = Database.open(path, store=STORE, node=NODE)
    except StorageError as error:
        return f"after {done} operations: {error}"
    database.close()
    if delta not in (_held_after(done), _held_after(done + 1)):
        return f"after {done} operations it holds neither those nor one more"
    return None


def _said(reads: int) -> bytes:
    said = b""
    while part := os.read(reads, 65_536):
        said += part
    os.close(reads)
    return said


# P4, in a process on a faulty disk.


def _flushes(directory: Path) -> dict[str, object]:
    wrong: list[str] = []
    for at in range(1, FLUSHES + 1):
        path = directory / f"flush-{at}" / "s.db"
        pid, reads = child(partial(_fail_at, path, at))
        text = _said(reads)
        _, status = os.waitpid(pid, 0)
        found = f"status {status}" if status else _judged(path, json.loads(text))
        if found is not None:
            wrong.append(f"flush {at}: {found}")
    return {"tried": FLUSHES, "wrong": wrong}


def _fail_at(path: Path, at: int, says: int) -> None:
    arm(at, Action.FAIL, Kind.FLUSHES, errno.EIO)
    os.write(says, json.dumps(asyncio.run(_writing(path))).encode())


async def _writing(path: Path) -> dict[str, Any]:
    done: dict[str, Any] = {"kept": [], "doubtful": [], "after": 0, "failed": 0}
    with ThreadPoolExecutor(1) as disk:
        committer = Committer(disk, asyncio.get_running_loop())

        async def opened() -> ReplicaLog:
            return await ReplicaLog.open(
                path, store=STORE, node=NODE, committer=committer
            )

        try:
            log = await opened()
        except StorageError:
            done["failed"] += 1
            log = await opened()
        for number in range(1, WRITES + 1):
            try:
                await log.append({key_bytes(number): entry_of(number, number)})
                done["kept"].append(number)
                if number % 10 == 0:
                    await log.snapshot()
            except Degraded:
                done["failed"] += 1
                done["doubtful"].append(number)
                done["after"] += await _acknowledged_now(log, number)
                await log.reopen()
        await log.close()
        committer.close()
    return done


async def _acknowledged_now(log: ReplicaLog, number: int) -> int:
    """How many writes a degraded store takes: none is right."""
    taken = int(log.state != "degraded" or log.fault is None)
    for more in range(3):
        try:
            await log.append({key_bytes(-number): entry_of(-number, more + 1)})
        except Degraded:
            continue
        taken += 1
    return taken


def _judged(path: Path, done: dict[str, Any]) -> str | None:
    if done["after"]:
        return f"{done['after']} writes were taken after it"
    if not done["failed"]:
        return "nobody was told"
    database, delta = Database.open(path, store=STORE, node=NODE)
    database.close()
    held = {int(str(entry.key)) for entry in delta.values()}
    lost = set(done["kept"]) - held
    if lost:
        return f"{len(lost)} acknowledged writes are lost"
    if held - set(done["kept"]) - set(done["doubtful"]):
        return "there is what was never written"
    return None


def main() -> None:
    """What runs on the faulty disk; prints JSON."""
    what, where, deep = sys.argv[1:4]
    # Memory is as good as a disk where only the process dies.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else where) as made:
        if what == "points":
            done = _points(Path(made), deep=deep == "1")
        else:
            done = _flushes(Path(made))
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()

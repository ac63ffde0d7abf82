"""A process that writes to a store and says what was acknowledged, until it is killed.

Each write has a number, which is its stamp and stands in its value: so what is found
afterwards says by itself which write it is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.errors import StorageError
from barrel_p2p.ormap import TOMBSTONE, Delta, Entry
from barrel_p2p.replica_log import Committer, ReplicaLog
from barrel_p2p.storage.database import Database
from barrel_p2p.wire.terms import key_bytes

__all__ = [
    "Acknowledged",
    "child",
    "end",
    "entry_of",
    "write_until_killed",
    "wrong_in",
]

KEYS: Final = 60
WRITERS: Final = 6
NODE: Final = "a@h"
STORE: Final = "faults"


@dataclass(slots=True)
class Acknowledged:
    """The newest write of each key that was acknowledged.

    Attributes:
        last: Key to number.
        count: How many there were.
        next: The next number.
    """

    last: dict[int, int] = field(default_factory=dict)
    count: int = 0
    next: int = 1

    def note(self, said: bytes) -> None:
        """Take the whole lines of what a writer said."""
        for line in said.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                continue
            key, number = (int(word) for word in line.split())
            self.last[key] = max(self.last.get(key, 0), number)
            self.next = max(self.next, number + 1)
            self.count += 1


def entry_of(key: int, number: int) -> Entry:
    """Write ``number``, to ``key``. Every eleventh removes."""
    value = TOMBSTONE if number % 11 == 0 else f"{key}:{number}" * (number % 40 + 1)
    return Entry(key, Timestamp(number, 0), NODE, value)


def child(work: Callable[[int], None]) -> tuple[int, int]:
    """Run ``work`` in a new process; return its id, and where what it says is read.

    It is forked, so that it starts at once. Whoever calls has no other threads.
    """
    reads, writes = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writes)
        return pid, reads
    try:
        os.close(reads)
        work(writes)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the parent must not run twice
        traceback.print_exc()
        os._exit(70)


def write_until_killed(path: Path, seed: int, first: int, says: int) -> None:
    """Write on and on; each acknowledged write is a line ``key number``.

    Args:
        path: The store.
        seed: Of the order of keys.
        first: The first number.
        says: Where the lines go.
    """
    asyncio.run(_write(path, Random(seed), first, says))


def wrong_in(path: Path, acknowledged: Acknowledged) -> str | None:
    """Recover the store; what is wrong with it, if anything is."""
    try:
        database, delta = Database.open(path, store=STORE, node=NODE)
    except StorageError as error:
        return str(error)
    database.drop()
    for key, number in acknowledged.last.items():
        entry = delta.get(key_bytes(key))
        if entry is None or entry.wall_ms < number:
            return f"key {key}: write {number} was acknowledged, and {entry} is there"
    for entry in delta.values():
        if entry != entry_of(int(str(entry.key)), entry.wall_ms):
            return f"{entry} was never written"
    acknowledged.next = max(
        acknowledged.next, *(entry.wall_ms + 1 for entry in delta.values()), 1
    )
    return None


async def _write(path: Path, random: Random, first: int, says: int) -> None:
    numbers = iter(range(first, first + 1_000_000))
    with ThreadPoolExecutor(1) as disk:
        committer = Committer(disk, asyncio.get_running_loop())
        log = await ReplicaLog.open(path, store=STORE, node=NODE, committer=committer)

        async def writer(keys: list[int]) -> None:
            for number in numbers:
                # Keys are apart, so that the greater number is the later write.
                key = random.choice(keys)
                delta: Delta = {key_bytes(key): entry_of(key, number)}
                await log.append(delta)
                os.write(says, b"%d %d\n" % (key, number))
                if random.random() < 0.03:
                    await log.snapshot()

        await asyncio.gather(
            *(writer(list(range(i, KEYS, WRITERS))) for i in range(WRITERS))
        )


def end(pid: int) -> None:
    """Kill a child, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

"""P1: no acknowledged write is lost when the process is killed, whenever that is."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from tests.faults.goals import Outcome
from tests.faults.writing import Acknowledged, child, end, write_until_killed, wrong_in

__all__ = ["kills", "listen", "p1", "rest"]

KILLS: Final = 300
KILLS_DEEP: Final = 10_000
SEED: Final = 1
_ALIVE_S: Final = 0.06
_FIRST_S: Final = 20.0


def p1(deep: bool, directory: Path) -> Outcome:
    """Kill a writer again and again; it goes on with the same store each time."""
    n = KILLS_DEEP if deep else KILLS
    acknowledged, wrong = kills(directory, n, SEED)
    return Outcome(
        figure=len(wrong),
        target="0 acknowledged writes lost",
        n=n,
        passed=not wrong and acknowledged.count > n,
        seed=SEED,
        note=wrong[0] if wrong else f"{acknowledged.count} writes acknowledged",
    )


def kills(directory: Path, n: int, seed: int) -> tuple[Acknowledged, list[str]]:
    """Kill ``n`` writers; return what they had acknowledged and what was wrong."""
    random = Random(seed)
    path = directory / "stores" / "s.db"
    acknowledged, wrong = Acknowledged(), []
    for number in range(n):
        work = partial(write_until_killed, path, seed + number, acknowledged.next)
        pid, reads = child(work)
        # Some die while they recover, most while they write.
        if random.random() < 0.7:
            select.select([reads], [], [], _FIRST_S)
        said = listen(reads, random.uniform(0, _ALIVE_S))
        end(pid)
        said += rest(reads)
        acknowledged.note(said)
        found = wrong_in(path, acknowledged)
        if found is not None:
            wrong.append(f"kill {number}: {found}")
            path = directory / f"after-{number}" / "s.db"
            acknowledged = Acknowledged()
    return acknowledged, wrong


def listen(reads: int, seconds: float, *, enough: int = 1 << 30) -> bytes:
    """What is said until then: a pipe that is full would hold the writer up.

    Args:
        reads: The pipe.
        seconds: To listen.
        enough: Bytes that end it.
    """
    said, until = b"", time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and len(said) < enough:
        ready, _, _ = select.select([reads], [], [], left)
        if ready:
            part = os.read(reads, 65_536)
            if not part:
                break
            said += part
    return said


def rest(reads: int) -> bytes:
    """What a writer that is gone had said; the pipe is closed."""
    said = b""
    while part := os.read(reads, 65_536):
        said += part
    os.close(reads)
    return said


def main() -> None:
    """``python -m tests.faults.kills DIRECTORY KILLS SEED``; prints JSON."""
    directory, n, seed = sys.argv[1:4]
    acknowledged, wrong = kills(Path(directory), int(n), int(seed))
    done = {"acknowledged": acknowledged.count, "wrong": wrong}
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()

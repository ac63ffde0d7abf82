"""P2: no acknowledged write is lost at a power cut; without flushes, they are.

The store lies on an ext4 of its own, on a loop device. Its shutdown ioctl drops all
that was not made durable, as a power cut does; then it is mounted anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final, cast

from tests.faults.faulty_disk import Action, Kind, arm, run_on
from tests.faults.goals import Outcome
from tests.faults.kills import listen, rest
from tests.faults.writing import Acknowledged, child, end, write_until_killed, wrong_in

__all__ = ["p2"]

CUTS: Final = 60
CUTS_DEEP: Final = 5_000
CONTROL_CUTS: Final = 20
CONTROL_MIN: Final = 0.9
SEED: Final = 2
_IMAGE_BYTES: Final = 32 << 20
_SHUTDOWN: Final = 0x8004587D
_NO_LOG_FLUSH: Final = 2
_FIRST_S: Final = 20.0


def p2(deep: bool, directory: Path) -> Outcome:
    """Cut the power again and again, and see that the rig notices a store that lies."""
    target = f"0 lost; without flushes lost in > {CONTROL_MIN:.0%} of cuts"
    if os.geteuid() != 0:
        why = "skipped: needs root, to mount file systems"
        return Outcome(None, target, 0, None, note=why)
    n = CUTS_DEEP if deep else CUTS
    words = [str(directory), str(n), str(CONTROL_CUTS)]
    done = cast("Any", run_on(__name__, *words, directory=directory))
    lied = done["control"] / CONTROL_CUTS
    return Outcome(
        figure={"lost": done["lost"], "control": lied, "acks": done["acks"]},
        target=target,
        n=n,
        passed=not done["lost"] and lied > CONTROL_MIN,
        seed=SEED,
        note=done["first"],
    )


def _cuts(directory: Path, n: int, *, flushes: bool) -> tuple[int, int, str | None]:
    random, image = Random(SEED), directory / f"disk-{flushes}"
    with image.open("wb") as file:
        file.truncate(_IMAGE_BYTES)
    _run("mkfs.ext4", "-q", "-F", str(image))
    place = directory / f"mount-{flushes}"
    place.mkdir()
    acknowledged, lost, acks, first = Acknowledged(), 0, 0, None
    folder = 0
    for number in range(n):
        with _mounted(image, place):
            path = place / f"stores-{folder}" / "s.db"
            acknowledged.note(_until_cut(path, acknowledged.next, random, flushes))
        with _mounted(image, place):
            found = wrong_in(path, acknowledged)
        if found is not None:
            lost += 1
            first = first or f"cut {number}: {found}"
            acks += acknowledged.count
            acknowledged, folder = Acknowledged(), folder + 1
    return lost, acks + acknowledged.count, first


def _until_cut(path: Path, first: int, random: Random, flushes: bool) -> bytes:
    def work(says: int) -> None:
        if not flushes:
            arm(1, Action.SWALLOW, Kind.FLUSHES | Kind.DIRECTORIES)
        write_until_killed(path, random.randrange(1 << 30), first, says)

    pid, reads = child(work)
    said = listen(reads, _FIRST_S, enough=1) + listen(reads, random.uniform(0, 0.1))
    # From here on nothing becomes durable, whatever the writer believes.
    parent = os.open(path.parent.parent, os.O_RDONLY)
    fcntl.ioctl(parent, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
    os.close(parent)
    end(pid)
    return said + rest(reads)


@contextmanager
def _mounted(image: Path, place: Path) -> Iterator[None]:
    _run("mount", "-o", "loop", str(image), str(place))
    try:
        yield
    finally:
        _run("umount", str(place))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    """What runs on the faulty disk; prints JSON."""
    directory, n, control = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    lost, acks, first = _cuts(directory, n, flushes=True)
    lied, _, _ = _cuts(directory, control, flushes=False)
    found = {"lost": lost, "acks": acks, "control": lied, "first": first}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

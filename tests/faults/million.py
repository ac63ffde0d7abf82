"""P7: what recovery costs: time, memory, and how large the files are."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Final

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.ormap import Entry
from barrel_p2p.storage.database import Database, log_path
from barrel_p2p.storage.rows import Row, encode_row
from barrel_p2p.wire.terms import key_bytes
from tests.faults.goals import Outcome
from tests.tree import ROOT

__all__ = ["fill", "p7"]

NODE: Final = "a@h"
STORE: Final = "faults"
ROWS: Final = 1_000_000
SECONDS_MAX: Final = 10.0
MEGABYTES_MAX: Final = 300
RATIO_MAX: Final = 2.5
SEED: Final = 7
_GROUP: Final = 4_096


def p7(deep: bool, directory: Path) -> Outcome:
    """Recover a million records in a new process, and weigh the files."""
    path = directory / "s.db"
    live = fill(path, ROWS)
    size = path.stat().st_size
    log = log_path(path)
    size += log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", __name__, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    found = json.loads(done.stdout)
    found["live_ratio"] = round(size / live, 2)
    passed = (
        found["rows"] == ROWS
        and found["seconds"] <= SECONDS_MAX
        and found["megabytes"] <= MEGABYTES_MAX
        and found["live_ratio"] <= RATIO_MAX
    )
    return Outcome(
        figure=found,
        target=f"<= {SECONDS_MAX:g} s, <= {MEGABYTES_MAX} MB, <= {RATIO_MAX} x live",
        n=ROWS,
        passed=passed,
        seed=SEED,
    )


def fill(path: Path, rows: int) -> int:
    """Write so many records in no order, a tenth of them twice; leave the log behind.

    Returns:
        Bytes of keys, stamps, nodes and values.
    """
    order = list(range(rows))
    Random(SEED).shuffle(order)
    database, _ = Database.open(path, store=STORE, node=NODE)
    live = 0
    for start in range(0, rows, _GROUP):
        batch = [_row(number, 1) for number in order[start : start + _GROUP]]
        live += sum(len(k) + len(s) + len(n) + len(v) for k, s, n, _, v, _ in batch)
        database.commit([], batch)
        if database.is_due:
            database.checkpoint()
    for start in range(0, rows // 10, _GROUP):
        batch = [_row(number, 2) for number in order[start : start + _GROUP]]
        database.commit([], batch)
        if database.is_due:
            database.checkpoint()
    database.drop()
    return live


def _row(number: int, version: int) -> Row:
    key = f"user-{number:07d}"
    stamp = Timestamp(1_790_000_000_000 + version, number & 0xFFF)
    return encode_row(key_bytes(key), Entry(key, stamp, NODE, b"value %08d" % number))


def main() -> None:
    """Recover the store named in argv; print what it took."""
    begun = time.perf_counter()
    database, delta = Database.open(Path(sys.argv[1]), store=STORE, node=NODE)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    database.drop()
    found = {
        "rows": len(delta),
        "seconds": round(seconds, 2),
        "megabytes": round(peak / 1024),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()

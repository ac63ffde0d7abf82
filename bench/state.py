"""State that survives, beside its peers: ``python -m bench.state [--json]``.

Every figure is of this run; what it is compared with runs in it too. ``--only`` takes
parts of it; ``--dir`` says on which disk, for a figure in memory is none.

- ``maps``: reads and writes of maps in memory, and how soon other nodes see a write;
- ``persisted``: puts to a map that persists, by 1, 8 and 64 writers at once, beside
  sqlite3 and lmdb with a transaction a write;
- ``recovery``: a store of a million records, opened and checked;
- ``placement``: whose a key is, on a node that knows 100 members;
- ``reminders``: set by 64 writers at once; and on five nodes, how late they are told,
  how many are not, and how many twice;
- ``failover``: from the end of a leader, or its silence, until another one leads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench import (
    state_failover,
    state_map,
    state_reminder,
    state_shard,
    state_store,
)
from bench.harness import ForeignCpu, calib_ns, emit_json
from bench.ratios import Bar

__all__ = ["BARS", "PARTS", "main"]

type Part = Callable[[bool, Path], Mapping[str, float | None]]

PARTS: Final[dict[str, Part]] = {
    "maps": state_map.map_figures,
    "persisted": state_store.persisted,
    "recovery": state_store.recovery,
    "placement": state_shard.placement,
    "reminders": state_reminder.reminders,
    "failover": state_failover.failover_figures,
}
"""Name to what measures it; each is told whether to be quick, and a directory."""

BARS: Final = (
    Bar("map_get_vs_dict", True, None, 0.5),
    Bar("map_put_per_s", True, None, 50_000),
    Bar("map_put_same_key_tail_vs_head", True, None, 0.9),
    Bar("persisted_put_64_vs_sqlite", True, None, 5.0),
    Bar("place_100_members_per_s", True, None, 1_000_000),
    Bar("remind_64_per_s", True, None, 7_400),
    Bar("reminder_late_p99_ms", False, None, 100.0),
    Bar("reminders_missed", False, None, 0),
    Bar("reminders_duplicate", False, None, 0),
    Bar("recovery_1m_s", False, None, 10.0),
    Bar("failover_kill9_p99_ms", False, None, 3_000.0),
    Bar("failover_silent_p99_ms", False, None, 7_500.0),
)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="State that survives.")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--only", default=",".join(PARTS), help="some parts")
    parser.add_argument("--quick", action="store_true", help="small, for tests")
    parser.add_argument("--dir", type=Path, default=Path(), help="on which disk")
    args = parser.parse_args()
    wanted = args.only.split(",")
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        parser.error(f"--only {','.join(unknown)}: choose from {','.join(PARTS)}")
    result: dict[str, Any] = {"bench": "state", "quick": args.quick}
    result["calib"] = calib_ns()
    with ForeignCpu() as foreign:
        for name in wanted:
            sys.stderr.write(f"{name}\n")
            with TemporaryDirectory(prefix=".bench-state-", dir=args.dir) as made:
                result |= PARTS[name](args.quick, Path(made).absolute())
    result["foreign_cpu"] = foreign.cores
    result["missed"] = [
        f"{bar.key} {bar.comparison} {bar.single_run:g}: {result[bar.key]:.3g}"
        for bar in BARS
        if result.get(bar.key) is not None
        and bar.single_run is not None
        and not bar.is_met(result[bar.key], bar.single_run)
    ]
    if args.json:
        emit_json(result)
    else:
        for key, value in result.items():
            print(f"{key:32} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

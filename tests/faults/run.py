"""Run goals about faults: ``python -m tests.faults.run [--deep] [GOAL ...]``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from tests.faults.goals import GOALS, Goal, Outcome

__all__ = ["goal", "main", "said"]


def goal(name: str) -> Goal:
    """The goal of that name."""
    module, function = GOALS[name].split(":")
    found: Goal = getattr(import_module(module), function)
    return found


def said(name: str, outcome: Outcome, *, seconds: float) -> dict[str, object]:
    """The line of JSON, as a dict."""
    line: dict[str, object] = {
        "goal": name,
        "figure": outcome.figure,
        "target": outcome.target,
        "seed": outcome.seed,
        "n": outcome.n,
        "pass": outcome.passed,
        "seconds": round(seconds, 1),
    }
    if outcome.note is not None:
        line["note"] = outcome.note
    return line


def main() -> int:
    """Print a line a goal; 1 if one was missed."""
    parser = argparse.ArgumentParser(description="Faults that state survives.")
    parser.add_argument("--deep", action="store_true", help="whole loops")
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=" ".join(GOALS))
    given = parser.parse_args()
    unknown = set(given.goals) - set(GOALS)
    if unknown:
        parser.error(f"no such goal: {' '.join(sorted(unknown))}")
    logging.getLogger("barrel_p2p").setLevel(logging.CRITICAL)
    missed = 0
    for name in given.goals or GOALS:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="barrel-p2p-faults-") as directory:
            outcome = goal(name)(given.deep, Path(directory))
        line = said(name, outcome, seconds=time.monotonic() - begun)
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        missed += outcome.passed is False
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""D2: whether the node simulator finds defects that were planted on purpose.

Each ``*.patch`` beside this file plants one. ``python -m tests.mutants.hunt`` applies
it to a copy of the package, runs seeds on the copy until one fails, and says which:
a JSON line for each defect, and one for the goal.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.tree import ROOT

__all__ = ["PATCHES", "applies", "hunt", "main", "planted"]

HERE: Final = Path(__file__).parent
PATCHES: Final = tuple(sorted(HERE.glob("*.patch")))
FOUND_MIN: Final = 19

_SEEK: Final = """
import sys
from barrel_p2p.testing.nodes.trial import trial
for seed in range(1, int(sys.argv[1]) + 1):
    wrong = trial(seed).wrong
    if wrong:
        print(seed, wrong[0])
        break
"""


def applies(patch: Path, tree: Path, *, dry: bool = False) -> bool:
    """Apply ``patch`` to a tree; whether all of it fits."""
    done = subprocess.run(
        ["patch", "-p1", "-s", "-f", *(["--dry-run"] if dry else [])],
        input=patch.read_bytes(),
        cwd=tree,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def planted(patch: Path, tree: Path) -> Path:
    """A copy of the package in ``tree`` with the defect in it."""
    shutil.copytree(
        ROOT / "barrel_p2p",
        tree / "barrel_p2p",
        ignore=shutil.ignore_patterns("__pycache__", "*.c", "*.pyx"),
    )
    if not applies(patch, tree):
        raise SystemExit(f"{patch.name} fits the package no more: plant it anew")
    return tree


def hunt(patch: Path, *, seeds: int, seconds: float) -> dict[str, Any]:
    """Run seeds on the package with a defect until one fails.

    Args:
        patch: The defect.
        seeds: At most so many.
        seconds: For all of them.
    """
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as kept:
        tree = planted(patch, Path(kept))
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        try:
            done = subprocess.run(
                [sys.executable, "-c", _SEEK, str(seeds)],
                cwd=tree,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
            text = done.stdout.strip()
            # A package that does not even run is no find.
            broken = done.returncode != 0
        except subprocess.TimeoutExpired:
            text, broken = "", False
    seed, _, wrong = text.partition(" ")
    return {
        "mutant": patch.stem,
        "seed": int(seed) if seed and not broken else None,
        "wrong": done.stderr[-300:] if broken else wrong[:200],
        "seconds": round(time.monotonic() - began_s, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunt all, or those named; 0 if enough were found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=600.0, help="for each")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    chosen = [p for p in PATCHES if not options.names or p.stem in options.names]

    def one(patch: Path) -> dict[str, Any]:
        return hunt(patch, seeds=options.seeds, seconds=options.seconds)

    found = 0
    with ThreadPoolExecutor(options.workers) as pool:
        for line in pool.map(one, chosen):
            found += line["seed"] is not None
            _say(line)
    least = min(FOUND_MIN, len(chosen))
    _say(
        {
            "goal": "D2",
            "n": len(chosen),
            "seeds": options.seeds,
            "figure": found,
            "target": f"planted defects found >= {least}",
            "pass": found >= least,
        }
    )
    return 0 if found >= least else 1


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

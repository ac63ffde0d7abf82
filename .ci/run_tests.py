"""Run the suite: what can share the machine first, timing tests alone after it.

Options for pytest may follow ``--``. With ``--every`` the suite runs on every
Python >= 3.12 found, each in an environment of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import List

import setup_env

ROOT = Path(__file__).resolve().parent.parent
WORKERS = "2"
NO_TESTS = 5  # pytest's exit code when nothing was selected


def run(python: Path, options: List[str]) -> int:
    """Run both parts with ``python``; return the exit code of the worse one."""
    pytest = [str(python), "-m", "pytest", "-q"]
    together = [*pytest, "-n", WORKERS, "-m", "not serial", *options]
    alone = [*pytest, "-p", "no:xdist", "-m", "serial", *options]
    codes = [subprocess.run(c, cwd=str(ROOT)).returncode for c in (together, alone)]
    if codes == [NO_TESTS, NO_TESTS]:
        return NO_TESTS
    return max(0 if code == NO_TESTS else abs(code) for code in codes)


def main() -> int:
    """Run the suite on this Python, or prepare and use every one found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", action="store_true", help="every Python found")
    parser.add_argument("options", nargs="*", help="options for pytest, after --")
    arguments = parser.parse_args()
    if not arguments.every:
        return run(Path(sys.executable), arguments.options)
    code = 0
    try:
        for environment in setup_env.environments(os.environ):
            with setup_env.alone():
                setup_env.prepare(environment)
            print(f"\nPython {environment.interpreter.version}", flush=True)
            code = max(code, run(environment.python, arguments.options))
    except setup_env.Missing as missing:
        print(f"setup: {missing}", file=sys.stderr, flush=True)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())

"""A disk that fails on demand: ``faulty_disk.c`` under a process, and how to arm it."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from enum import IntEnum, IntFlag
from pathlib import Path

from tests.tree import ROOT

__all__ = ["Action", "Kind", "arm", "counted", "run_on"]

SOURCE = Path(__file__).with_suffix(".c")


class Action(IntEnum):
    """What happens at the call that is asked for; the numbers of the C file."""

    OFF = 0
    KILL = 1
    TEAR = 2
    FAIL = 3
    FAIL_ON = 4
    SWALLOW = 5


class Kind(IntFlag):
    """Which calls count."""

    WRITES = 1
    FLUSHES = 2
    NAMES = 4
    DIRECTORIES = 8


def arm(at: int, action: Action, kinds: Kind, error: int = 0) -> None:
    """Let ``action`` happen at the ``at``-th call from now, in this process.

    Args:
        at: From 1.
        action: ``TEAR`` writes a half and kills; ``FAIL_ON`` fails from then on;
            ``SWALLOW`` makes every flush a success that does nothing.
        kinds: Which calls count.
        error: ``errno`` of the failing ones.
    """
    _library().fault_arm(ctypes.c_long(at), int(action), int(kinds), error)


def counted() -> int:
    """How many calls have counted since ``arm``."""
    count = _library().fault_count
    count.restype = ctypes.c_long
    return int(count())


def run_on(module: str, *words: str, directory: Path) -> object:
    """Run ``python -m module words`` on such a disk; return the JSON that it prints.

    Raises:
        RuntimeError: The compiler or the process failed.
    """
    library = directory / "faulty_disk.so"
    flags = ["-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    _run(["gcc", *flags, "-o", str(library), str(SOURCE), "-ldl"], {})
    said = _run(
        [sys.executable, "-m", module, *words],
        {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)},
    )
    return json.loads(said.splitlines()[-1])


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[:3]} ended with {done.returncode}: {done.stderr}")
    return done.stdout

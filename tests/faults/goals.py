"""The goals about faults that state survives: their names, and where they are.

A goal is a function of ``deep`` and a directory that returns an ``Outcome``.
``python -m tests.faults.run`` prints one JSON line for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["GOALS", "Goal", "Outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a goal measured.

    Attributes:
        figure: What was found.
        target: What it should be.
        n: How often it was tried.
        passed: Whether it was reached; None if this machine cannot tell.
        seed: Of chance, where there is any.
        note: What else there is to say.
    """

    figure: object
    target: str
    n: int
    passed: bool | None
    seed: int | None = None
    note: str | None = None


type Goal = Callable[[bool, Path], Outcome]

GOALS: Final = {
    "P1": "tests.faults.kills:p1",
    "P2": "tests.faults.power:p2",
    "P3": "tests.faults.crash_points:p3",
    "P4": "tests.faults.crash_points:p4",
    "P5": "tests.faults.full:p5",
    "P6": "tests.faults.flips:p6",
    "P7": "tests.faults.million:p7",
    "P8": "tests.faults.simulated:p8",
    "C1": "tests.faults.simulated:c1",
    "C2": "tests.faults.simulated:c2",
    "C3": "tests.faults.simulated:c3",
    "C4": "tests.faults.simulated:c4",
    "C5": "tests.faults.simulated:c5",
    "C6": "tests.faults.simulated:c6",
    "C7": "tests.faults.simulated:c7",
    "C8": "tests.faults.placement:c8",
    "C9": "tests.faults.placement:c9",
    "D6": "tests.faults.simulated:d6",
    "D7": "tests.faults.simulated:d7",
}
"""Goal to ``module:function``."""

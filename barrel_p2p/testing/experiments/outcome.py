"""What one run of an experiment gives, and what a goal makes of several."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

from barrel_p2p.testing.overlay.garbage import uncollected

__all__ = ["Goal", "Job", "Outcome", "Verdict"]


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """One run.

    Args:
        case: What was varied, such as the share that crashed.
        seed: Of the run.
        figures: What was measured, by name.
        events: How many events it took.
        curve: Points over time, where the experiment has a curve.
        cpu_s: Processor time it took; says nothing about the outcome.
    """

    case: str
    seed: int
    figures: Mapping[str, float]
    events: int = 0
    curve: tuple[tuple[float, float], ...] = ()
    cpu_s: float = field(default=0.0, compare=False)


@final
@dataclass(frozen=True, slots=True)
class Job:
    """One run to be made: ``call(**arguments)`` in any process."""

    call: Callable[..., Outcome]
    arguments: Mapping[str, object] = field(default_factory=dict)

    def run(self) -> Outcome:
        """Make the run."""
        began_s = time.process_time()
        with uncollected():
            outcome = self.call(**self.arguments)
            # A simulation refers to itself all over, so it is there until it is found.
            gc.collect()
        return replace(outcome, cpu_s=time.process_time() - began_s)


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a goal is reached.

    Args:
        figure: The one that counts: the worst of all runs.
        passed: Whether it, and all others that have a target, reach it.
        detail: The others, by name.
    """

    figure: float
    passed: bool
    detail: Mapping[str, float] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True)
class Goal:
    """A promise, and the runs that test it.

    Args:
        name: Its id, such as ``S1``.
        title: What is promised, in words.
        n: Nodes of a run.
        seeds: Runs of each case.
        target: What ``figure`` has to be, in words.
        jobs: The runs.
        judge: What they mean.
    """

    name: str
    title: str
    n: int
    seeds: int
    target: str
    jobs: tuple[Job, ...]
    judge: Callable[[Sequence[Outcome]], Verdict]

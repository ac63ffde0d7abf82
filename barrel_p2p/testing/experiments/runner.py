"""Runs the jobs of goals in several processes and prints one JSON line a goal."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from barrel_p2p.testing.experiments.outcome import Goal, Job, Outcome, Verdict

__all__ = ["judge_all", "line_of", "run_jobs", "text_of", "workers"]


def workers() -> int:
    """As many processes as this machine has processors for them."""
    return max(1, len(os.sched_getaffinity(0)))


def run_jobs(jobs: Sequence[Job], *, processes: int) -> Iterator[Outcome]:
    """The outcomes of ``jobs``, in their order.

    Args:
        jobs: Each is made in whatever process is free.
        processes: How many; 1 makes them in this one.
    """
    if processes == 1 or len(jobs) < 2:
        for job in jobs:
            yield job.run()
        return
    # Not forked: a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(Job.run, jobs)


def judge_all(
    goals: Iterable[Goal], *, processes: int, say: Callable[[dict[str, object]], None]
) -> bool:
    """Test every goal and say what came of it.

    Returns:
        Whether all are reached.
    """
    chosen = list(goals)
    jobs = [job for goal in chosen for job in goal.jobs]
    outcomes = run_jobs(jobs, processes=processes)
    passed = True
    started_s = time.monotonic()
    for goal in chosen:
        found = [next(outcomes) for _ in goal.jobs]
        verdict = goal.judge(found)
        took_s, started_s = time.monotonic() - started_s, time.monotonic()
        say(line_of(goal, found, verdict, took_s=took_s))
        passed = passed and verdict.passed
    return passed


def line_of(
    goal: Goal, found: Sequence[Outcome], verdict: Verdict, *, took_s: float
) -> dict[str, object]:
    """What is printed of a goal."""
    events = sum(outcome.events for outcome in found)
    cpu_s = sum(outcome.cpu_s for outcome in found)
    return {
        "goal": goal.name,
        "n": goal.n,
        "seeds": goal.seeds,
        "figure": _plain(verdict.figure),
        "target": goal.target,
        "pass": verdict.passed,
        "detail": {name: _plain(value) for name, value in verdict.detail.items()},
        "runs": len(found),
        "events": events,
        "events_per_core_s": round(events / cpu_s) if cpu_s else None,
        "seconds": round(took_s, 1),
    }


def text_of(line: dict[str, object]) -> str:
    """``line`` as JSON."""
    return json.dumps(line, ensure_ascii=False)


def _plain(value: float) -> float | None:
    """JSON has no infinity: what never happened is null."""
    return round(value, 6) if math.isfinite(value) else None

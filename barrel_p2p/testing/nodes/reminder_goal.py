"""C5 to C7, and P8: reminders at rest, under churn, and after everybody was killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from barrel_p2p.testing.experiments.outcome import Goal, Job, Outcome, Verdict
from barrel_p2p.testing.nodes.reminder_trial import reminder_trial

__all__ = [
    "SEEDS_DEEP",
    "SEEDS_SMALL",
    "goals_reminders",
    "judge_aimed",
    "judge_churn",
    "judge_restart",
    "judge_steady",
    "reminders_run",
]

SEEDS_SMALL: Final = 5
SEEDS_DEEP: Final = 100
"""Seeds of each goal, for every change and in depth."""

REMINDERS: Final = 1_000
"""Reminders of a seed."""

LATE_MS: Final = 100.0
DUPLICATES: Final = 0.001

_NODES: Final = 5
_SEEDS_BEFORE: Final = 30_000  # No seeds of other goals.


def goals_reminders(count: int) -> tuple[Goal, ...]:
    """C5, C6, C7 and P8.

    Args:
        count: Seeds of each, from 1 on; of P8 more.
    """
    return (
        _goal(
            "C5",
            "Without faults each reminder is told once and in time.",
            f"missed: 0; duplicate: 0; 99 of 100 within {LATE_MS:.0f} ms",
            count,
            judge_steady,
        ),
        _goal(
            "C6",
            "Kills lose none, and whatever is told twice has the same fence.",
            "missed, but for those being fired when their node was killed: 0;"
            f" duplicate <= {DUPLICATES:.1%}, with another fence: 0",
            count,
            judge_churn,
            churn="kill",
        ),
        _goal(
            "C7",
            "What a handler acknowledges survives a kill while it fires.",
            "missed: 0; with another fence: 0",
            count,
            judge_aimed,
            churn="aimed",
            acknowledge=True,
        ),
        _goal(
            "P8",
            "When all nodes are killed at once, what had fired does not fire again.",
            "missed, but for those being fired: 0; told again: 0",
            (4 if count <= SEEDS_SMALL else 2) * count,
            judge_restart,
            churn="all",
        ),
    )


def reminders_run(seed: int, **options: object) -> Outcome:
    """Run a seed.

    Args:
        seed: What decides everything.
        options: As for ``reminder_trial``.
    """
    trial = reminder_trial(seed, reminders=REMINDERS, **options)  # type: ignore[arg-type]
    return Outcome(
        "reminders",
        seed,
        {
            "failed": len(trial.wrong),
            "seed": seed,
            "acknowledged": trial.acknowledged,
            "missed": trial.missed,
            "doubtful": trial.doubtful,
            "lost": trial.missed - trial.doubtful,
            "duplicate": trial.duplicate,
            "other_fence": trial.other_fence,
            "killed": trial.killed,
            "late_p99_ms": trial.late_p99_ms,
        },
    )


def judge_steady(outcomes: Sequence[Outcome]) -> Verdict:
    """C5: none missed, none twice, none late."""
    late_ms = max(outcome.figures["late_p99_ms"] for outcome in outcomes)
    verdict = _verdict(outcomes, ("missed", "duplicate"), late_p99_ms=late_ms)
    passed = verdict.passed and late_ms <= LATE_MS
    return Verdict(verdict.figure, passed=passed, detail=verdict.detail)


def judge_churn(outcomes: Sequence[Outcome]) -> Verdict:
    """C6: none missed, few twice, and some nodes must have died.

    What is told at most once can be lost with a node that was about to tell it.
    """
    verdict = _verdict(outcomes, ("lost", "other_fence"))
    share = _sum(outcomes, "duplicate") / _sum(outcomes, "acknowledged")
    killed = _sum(outcomes, "killed")
    passed = verdict.passed and share <= DUPLICATES and killed > 0
    return Verdict(verdict.figure, passed=passed, detail=verdict.detail)


def judge_aimed(outcomes: Sequence[Outcome]) -> Verdict:
    """C7: none missed, and kills must have led to second tellings."""
    verdict = _verdict(outcomes, ("missed", "other_fence"))
    passed = verdict.passed and _sum(outcomes, "duplicate") > 0
    return Verdict(verdict.figure, passed=passed, detail=verdict.detail)


def judge_restart(outcomes: Sequence[Outcome]) -> Verdict:
    """P8: none lost, and none told twice."""
    return _verdict(outcomes, ("lost", "duplicate", "other_fence"))


def _goal(
    name: str,
    title: str,
    target: str,
    count: int,
    judge: Callable[[Sequence[Outcome]], Verdict],
    **options: object,
) -> Goal:
    seeds = range(_SEEDS_BEFORE + 1, _SEEDS_BEFORE + 1 + count)
    jobs = tuple(Job(reminders_run, {"seed": seed, **options}) for seed in seeds)
    return Goal(name, title, _NODES, count, target, jobs, judge)


def _sum(outcomes: Sequence[Outcome], key: str) -> float:
    return sum(outcome.figures[key] for outcome in outcomes)


def _verdict(
    outcomes: Sequence[Outcome], wrong: Sequence[str], **detail: float
) -> Verdict:
    """What counts is wrong of ``wrong``; no run may have failed in another way."""
    figure = sum(_sum(outcomes, key) for key in wrong)
    counted = {
        key: _sum(outcomes, key)
        for key in ("acknowledged", "duplicate", "killed", "doubtful")
    }
    bad = [o.figures for o in outcomes if o.figures["failed"]]
    bad += [o.figures for o in outcomes if any(o.figures[key] for key in wrong)]
    replay = {"replay": bad[0]["seed"]} if bad else {}
    return Verdict(figure, not bad, {**counted, **detail, **replay})

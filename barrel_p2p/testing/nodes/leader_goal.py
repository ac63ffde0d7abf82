"""C1 to C4: elections under every fault, and what has to hold of their fences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from barrel_p2p.testing.experiments.outcome import Goal, Job, Outcome, Verdict
from barrel_p2p.testing.nodes.leader_trial import LeaderTrial, leader_trial

__all__ = [
    "SEEDS_DEEP",
    "SEEDS_SMALL",
    "goals_leaders",
    "judge_failovers",
    "judge_fences",
    "judge_resource",
    "judge_rest",
    "leaders_run",
]

SEEDS_SMALL: Final = 20
SEEDS_DEEP: Final = 1_000
"""Seeds of each goal, for every change and in depth."""

STALE_SHARE: Final = 0.1
"""Stale writes that have to be tried in each run, on average, or C2 shows nothing."""

_BATCH: Final = 5
_NAMES_MANY: Final = 24  # So that one fault begins many terms.
_SEEDS_BEFORE: Final = 20_000  # No seeds of other goals.


def goals_leaders(count: int) -> tuple[Goal, ...]:
    """C1, C2, C3 and C4.

    Args:
        count: Seeds of each, from 1 on.
    """
    return (
        _goal(
            "C1",
            "A fence is above all that its component knows, and none repeats.",
            "fences that are not: 0",
            count,
            judge_fences,
            names=_NAMES_MANY,
            deeds=False,
        ),
        _goal(
            "C2",
            "A resource that checks fences never goes back.",
            f"stale writes taken: 0; tried: >= {STALE_SHARE} a run",
            count,
            judge_resource,
            deeds=False,
        ),
        _goal(
            "C3",
            "When a leader dies another leads in time; one that stood still knows it.",
            "deaths with no leader in time: 0; acts after a pause: 0",
            count,
            judge_failovers,
            faulty_s=0.0,
        ),
        _goal(
            "C4",
            "At rest each name has one leader, which all know, with the newest term.",
            "names of which that is not so: 0",
            count,
            judge_rest,
        ),
    )


def leaders_run(first: int, after: int, **options: object) -> Outcome:
    """Run the seeds from ``first`` to before ``after``.

    Args:
        first: Of the seeds.
        after: The seed after the last.
        options: As for ``leader_trial``.
    """
    trials = [leader_trial(seed, **options) for seed in range(first, after)]  # type: ignore[arg-type]
    failed = [trial.seed for trial in trials if trial.failed]

    def total(count: Callable[[LeaderTrial], int]) -> int:
        return sum(count(trial) for trial in trials)

    failovers = [ms for trial in trials for ms in trial.failovers_ms]
    return Outcome(
        "leaders",
        first,
        {
            "runs": len(trials),
            "failed": len(failed),
            "seed": failed[0] if failed else 0,
            "terms": total(lambda t: t.terms),
            "fences": total(lambda t: len(t.fences)),
            "stale": total(lambda t: t.stale),
            "went_back": total(lambda t: len(t.went_back)),
            "acted": total(lambda t: len(t.acted)),
            "late": total(lambda t: len(t.late)),
            "failovers": len(failovers),
            "failover_ms": max(failovers, default=0.0),
            "at_rest": total(lambda t: len(t.at_rest)),
        },
    )


def judge_fences(outcomes: Sequence[Outcome]) -> Verdict:
    """C1: no fence may be wrong."""
    return _verdict(outcomes, ("fences",), {"terms": _sum(outcomes, "terms")})


def judge_resource(outcomes: Sequence[Outcome]) -> Verdict:
    """C2: none may go back, and some must have had a chance to."""
    stale, runs = _sum(outcomes, "stale"), _sum(outcomes, "runs")
    verdict = _verdict(outcomes, ("went_back",), {"stale tried": stale, "runs": runs})
    if stale >= STALE_SHARE * runs:
        return verdict
    return Verdict(verdict.figure, passed=False, detail=verdict.detail)


def judge_failovers(outcomes: Sequence[Outcome]) -> Verdict:
    """C3: none may be late, none may act, and some leaders must have died."""
    deaths = _sum(outcomes, "failovers")
    detail = {
        "deaths": deaths,
        "failover_ms": max(outcome.figures["failover_ms"] for outcome in outcomes),
    }
    verdict = _verdict(outcomes, ("late", "acted"), detail)
    if deaths:
        return verdict
    return Verdict(verdict.figure, passed=False, detail=verdict.detail)


def judge_rest(outcomes: Sequence[Outcome]) -> Verdict:
    """C4: nothing may be otherwise."""
    return _verdict(outcomes, ("at_rest",), {"terms": _sum(outcomes, "terms")})


def _goal(
    name: str,
    title: str,
    target: str,
    count: int,
    judge: Callable[[Sequence[Outcome]], Verdict],
    **options: object,
) -> Goal:
    firsts = range(_SEEDS_BEFORE + 1, _SEEDS_BEFORE + 1 + count, _BATCH)
    end = _SEEDS_BEFORE + 1 + count
    return Goal(
        name,
        title,
        9,
        count,
        target,
        tuple(
            Job(
                leaders_run,
                {"first": first, "after": min(first + _BATCH, end), **options},
            )
            for first in firsts
        ),
        judge,
    )


def _sum(outcomes: Sequence[Outcome], key: str) -> float:
    return sum(outcome.figures[key] for outcome in outcomes)


def _verdict(
    outcomes: Sequence[Outcome], wrong: Sequence[str], detail: dict[str, float]
) -> Verdict:
    """What counts is wrong of ``wrong``; no run may have failed in another way."""
    figure = sum(_sum(outcomes, key) for key in wrong)
    seeds = [o.figures["seed"] for o in outcomes if o.figures["seed"]]
    if seeds:
        detail = {**detail, "replay": seeds[0]}
    return Verdict(figure, not seeds and not figure, detail)

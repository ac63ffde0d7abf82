"""D6 and D7: what is written to maps under every fault, and what may come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from barrel_p2p.testing.experiments.outcome import Goal, Job, Outcome, Verdict
from barrel_p2p.testing.nodes.map_trial import map_trial

__all__ = [
    "SEEDS_DEEP",
    "SEEDS_SMALL",
    "goals_maps",
    "judge_removed",
    "judge_superseded",
    "maps_run",
]

SEEDS_SMALL: Final = 6
SEEDS_DEEP: Final = 2_000
"""Seeds of each goal, for every change and in depth."""

_BATCH: Final = 10
_SEEDS_BEFORE: Final = 40_000  # No seeds of other goals.


def goals_maps(count: int) -> tuple[Goal, ...]:
    """D6 and D7.

    Args:
        count: Seeds of each, from 1 on.
    """
    return (
        _goal(
            "D6",
            "A key that was removed stays so, whoever comes back, however late.",
            "runs in which maps differ, or a key came back: 0; and some were tried",
            count,
            judge_removed,
        ),
        _goal(
            "D7",
            "Writes of several nodes to one key supersede each other; of one, none.",
            "writes to keys of one writer that were lost: 0",
            count,
            judge_superseded,
        ),
    )


def maps_run(first: int, after: int) -> Outcome:
    """Run the seeds from ``first`` to before ``after``."""
    trials = [map_trial(seed) for seed in range(first, after)]
    failed = [trial.seed for trial in trials if trial.wrong]
    return Outcome(
        "maps",
        first,
        {
            "runs": len(trials),
            "failed": len(failed),
            "seed": failed[0] if failed else 0,
            "acknowledged": sum(trial.acknowledged for trial in trials),
            "superseded": sum(trial.superseded for trial in trials),
            "revived": sum(trial.revived for trial in trials),
        },
    )


def judge_removed(outcomes: Sequence[Outcome]) -> Verdict:
    """D6: nothing may be otherwise, and late nodes must have come with values."""
    return _verdict(outcomes, "revived")


def judge_superseded(outcomes: Sequence[Outcome]) -> Verdict:
    """D7: nothing may be otherwise, and writes to shared keys must have given way."""
    return _verdict(outcomes, "superseded")


def _goal(
    name: str,
    title: str,
    target: str,
    count: int,
    judge: Callable[[Sequence[Outcome]], Verdict],
) -> Goal:
    end = _SEEDS_BEFORE + 1 + count
    return Goal(
        name,
        title,
        7,
        count,
        target,
        tuple(
            Job(maps_run, {"first": first, "after": min(first + _BATCH, end)})
            for first in range(_SEEDS_BEFORE + 1, end, _BATCH)
        ),
        judge,
    )


def _verdict(outcomes: Sequence[Outcome], tried: str) -> Verdict:
    def total(key: str) -> float:
        return sum(outcome.figures[key] for outcome in outcomes)

    detail = {key: total(key) for key in ("acknowledged", tried)}
    seeds = [o.figures["seed"] for o in outcomes if o.figures["seed"]]
    if seeds:
        detail["replay"] = seeds[0]
    passed = not total("failed") and total(tried) > 0
    return Verdict(total("failed"), passed, detail)

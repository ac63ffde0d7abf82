"""D1: whole nodes under every fault, and what has to hold when the faults are over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from barrel_p2p.testing.experiments.outcome import Goal, Job, Outcome, Verdict
from barrel_p2p.testing.nodes.trial import NODES, trial

__all__ = ["SEEDS_DEEP", "SEEDS_SMALL", "goal_nodes", "judge_nodes", "nodes_run"]

SEEDS_SMALL: Final = 200
SEEDS_DEEP: Final = 5_000
"""Seeds of the goal, for every change and in depth."""

_BATCH: Final = 10  # Seeds of one job: a job of its own is too much for half a second.


def goal_nodes(count: int) -> Goal:
    """D1.

    Args:
        count: Seeds, from 1 on.
    """
    firsts = range(1, count + 1, _BATCH)
    return Goal(
        "D1",
        "Whole nodes agree again after any faults, and told everything once.",
        NODES[1],
        count,
        "seeds that fail: 0; seconds of CPU a seed <= 1",
        tuple(
            Job(nodes_run, {"first": first, "after": min(first + _BATCH, count + 1)})
            for first in firsts
        ),
        judge_nodes,
    )


def nodes_run(first: int, after: int) -> Outcome:
    """Run the seeds from ``first`` to before ``after``."""
    trials = [trial(seed) for seed in range(first, after)]
    failed = [t.seed for t in trials if t.wrong]
    return Outcome(
        "nodes",
        first,
        {
            "failed": len(failed),
            "seed": failed[0] if failed else 0,
            "calm_s": max(t.calm_s for t in trials),
            "cpu_s": sum(t.cpu_s for t in trials) / len(trials),
            "virtual_s": sum(t.virtual_s for t in trials),
        },
        events=sum(t.events for t in trials),
    )


def judge_nodes(outcomes: Sequence[Outcome]) -> Verdict:
    """None may fail. ``replay`` is the first seed that did: ``sim nodes SEED``."""
    failed = sum(outcome.figures["failed"] for outcome in outcomes)
    seeds = [o.figures["seed"] for o in outcomes if o.figures["seed"]]
    cpu_s = sum(outcome.figures["cpu_s"] for outcome in outcomes) / len(outcomes)
    detail = {
        "cpu_s": cpu_s,
        "calm_s": max(outcome.figures["calm_s"] for outcome in outcomes),
        "virtual_s": sum(outcome.figures["virtual_s"] for outcome in outcomes),
    }
    if seeds:
        detail["replay"] = seeds[0]
    return Verdict(failed, not failed and cpu_s <= 1.0, detail)

"""The promises about the overlay, with the runs that test them, small and whole.

The small set is for every change; the whole one varies more and reaches 10,000 nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from barrel_p2p.testing.experiments.arrival import arrival
from barrel_p2p.testing.experiments.cluster import Arrivals, Policy
from barrel_p2p.testing.experiments.crash import heal, reliability, reunion
from barrel_p2p.testing.experiments.outcome import Goal, Job, Outcome, Verdict
from barrel_p2p.testing.experiments.partition import PERIODS_MAX, split
from barrel_p2p.testing.experiments.replicated import goals_replicated
from barrel_p2p.testing.experiments.tree import burst, senders
from barrel_p2p.testing.nodes.goal import SEEDS_SMALL, goal_nodes

__all__ = [
    "ARRIVALS",
    "POLICIES",
    "RELIABILITY_MIN",
    "by_case",
    "goal_crash",
    "goal_heal",
    "goal_islands",
    "goal_reunion",
    "goal_split",
    "goal_tree",
    "goals_small",
    "jobs_of",
    "judge_crash",
    "judge_heal",
    "judge_islands",
    "judge_rounds",
    "judge_split",
    "judge_tree",
]

RELIABILITY_MIN: Final[Mapping[str, float]] = {
    "10%": 0.9999,
    "30%": 0.9999,
    "50%": 0.9999,
    "70%": 0.9999,
    "80%": 0.9999,
    "90%": 0.999,
    "95%": 0.97,
}
"""Share that crashed to the mean share of survivors that a message has to reach."""

POLICIES: Final[tuple[Policy, ...]] = ("single", "three", "random")
ARRIVALS: Final[tuple[Arrivals, ...]] = ("at once", "1 % a round")


def seeds(count: int) -> range:
    """That many seeds; each tenth passes its messages through their encoding."""
    return range(1, count + 1)


def jobs_of(
    call: Callable[..., Outcome], count: int, *cases: Mapping[str, object]
) -> tuple[Job, ...]:
    """One job for each case and seed."""
    return tuple(
        Job(call, {**case, "seed": seed}) for case in cases for seed in seeds(count)
    )


def by_case(outcomes: Sequence[Outcome], name: str) -> dict[str, list[float]]:
    """The figures of that name, by case."""
    found: dict[str, list[float]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.case, []).append(outcome.figures[name])
    return found


def judge_crash(outcomes: Sequence[Outcome]) -> Verdict:
    """S1: the mean of each share against its own target; the figure is the worst."""
    means = {
        case: sum(values) / len(values)
        for case, values in by_case(outcomes, "reliability").items()
    }
    repeated = sum(outcome.figures["repeated"] for outcome in outcomes)
    passed = all(mean >= RELIABILITY_MIN[case] for case, mean in means.items())
    detail = {f"crashed {case}": mean for case, mean in means.items()}
    return Verdict(
        min(means.values()),
        passed and not repeated,
        detail | {"delivered twice": repeated},
    )


def judge_rounds(limit: float) -> Callable[[Sequence[Outcome]], Verdict]:
    """The worst number of rounds, which has to be at most ``limit``."""

    def judge(outcomes: Sequence[Outcome]) -> Verdict:
        worst = {
            case: max(values) for case, values in by_case(outcomes, "rounds").items()
        }
        figure = max(worst.values())
        return Verdict(figure, figure <= limit, worst)

    return judge


def judge_split(outcomes: Sequence[Outcome]) -> Verdict:
    """S3: the worst rounds until one, and periods from then until all hold the same."""
    verdict = judge_rounds(3)(outcomes)
    periods = max(outcome.figures["periods"] for outcome in outcomes)
    return Verdict(
        verdict.figure,
        verdict.passed and periods <= PERIODS_MAX,
        dict(verdict.detail) | {"periods until alike": periods},
    )


def judge_islands(outcomes: Sequence[Outcome]) -> Verdict:
    """S2: the share of runs that ended in one component, which has to be all."""
    whole = [outcome.figures["components"] == 1 for outcome in outcomes]
    detail = {
        f"rounds, {case}": max(values)
        for case, values in by_case(outcomes, "rounds").items()
    }
    breaches = sum(outcome.figures["faults"] for outcome in outcomes)
    return Verdict(
        sum(whole) / len(whole),
        all(whole) and not breaches,
        detail | {"breaches": breaches},
    )


def judge_tree(outcomes: Sequence[Outcome]) -> Verdict:
    """S4: the worst of each figure; the one that counts is the single sender's RMR."""
    limits = {
        "rmr single": 0.02,
        "ldh single": 12,
        "rmr random": 0.10,
        "ldh random": 18,
        "rmr burst": 1.0,
        "missed single": 0,
        "missed random": 0,
        "missed burst": 0,
    }
    detail = {
        f"{name} {case}": max(values)
        for name in ("rmr", "ldh", "missed")
        for case, values in by_case(outcomes, name).items()
    }
    passed = all(detail[name] <= limit for name, limit in limits.items())
    return Verdict(detail["rmr single"], passed, detail)


def judge_heal(outcomes: Sequence[Outcome]) -> Verdict:
    """S5: the first message reaches everybody, and the tenth costs little."""
    first = {
        f"first {case}": min(values)
        for case, values in by_case(outcomes, "first").items()
    }
    rmr = {
        f"rmr 10th {case}": max(values)
        for case, values in by_case(outcomes, "rmr_last").items()
    }
    passed = min(first.values()) == 1 and max(rmr.values()) <= 0.05
    return Verdict(min(first.values()), passed, first | rmr)


def goals_small() -> tuple[Goal, ...]:
    """S1 to S5, D1 and D3 to D5 as every change is tested."""
    n = 1_000
    shares = ({"n": n, "share": s, "messages": 20} for s in (0.5, 0.8, 0.95))
    every = [{"policy": p, "arrivals": a} for p in POLICIES for a in ARRIVALS]
    splits: list[Mapping[str, object]] = [
        {"n": 200, "shares": parts, "rounds": rounds}
        for rounds in (5, 50, 200)
        for parts in ((0.5, 0.5), (0.9, 0.1))
    ]
    return (
        goal_crash(n, 3, *shares),
        goal_reunion(n, 5),
        goal_islands(n, 5, *every),
        goal_islands(50, 20, *every),
        goal_split(200, 3, *splits),
        goal_tree(n, 3),
        goal_heal(n, 3),
        goal_nodes(SEEDS_SMALL),
        *goals_replicated(100_000, 1_000_000),
    )


def goal_crash(n: int, count: int, *cases: Mapping[str, object]) -> Goal:
    """S1."""
    return Goal(
        "S1",
        "A message reaches who is left after most have crashed.",
        n,
        count,
        ">= 0.9999 to 80 %, >= 0.999 at 90 %, >= 0.97 at 95 %",
        jobs_of(reliability, count, *cases),
        judge_crash,
    )


def goal_reunion(n: int, count: int) -> Goal:
    """S1b."""
    return Goal(
        "S1b",
        "With a seed among them, those who are left are one soon.",
        n,
        count,
        "rounds <= 3",
        jobs_of(reunion, count, {"n": n, "share": 0.95}),
        judge_rounds(3),
    )


def goal_islands(n: int, count: int, *cases: Mapping[str, object]) -> Goal:
    """S2."""
    return Goal(
        "S2",
        "Whoever arrives, however, ends in one cluster.",
        n,
        count,
        "one component within 5 rounds, every time",
        jobs_of(arrival, count, *({"n": n, **case} for case in cases)),
        judge_islands,
    )


def goal_split(n: int, count: int, *cases: Mapping[str, object]) -> Goal:
    """S3."""
    return Goal(
        "S3",
        "A cluster that was split is one soon after.",
        n,
        count,
        f"rounds <= 3, all alike <= {PERIODS_MAX} periods of anti-entropy later",
        jobs_of(split, count, *cases),
        judge_split,
    )


def goal_tree(n: int, count: int) -> Goal:
    """S4."""
    return Goal(
        "S4",
        "A broadcast costs little more than one payload a node.",
        n,
        count,
        "RMR <= 0.02 single, 0.10 random, 1.0 burst; LDH <= 12, 18; missed 0",
        (
            *jobs_of(senders, count, {"n": n, "is_single": True}),
            *jobs_of(senders, count, {"n": n, "is_single": False}),
            *jobs_of(burst, count, {"n": n}),
        ),
        judge_tree,
    )


def goal_heal(n: int, count: int) -> Goal:
    """S5."""
    return Goal(
        "S5",
        "The first message after a crash reaches all, the tenth costs little.",
        n,
        count,
        "first 1.0 up to 80 %, RMR of the tenth <= 0.05",
        jobs_of(heal, count, {"n": n, "share": 0.5}, {"n": n, "share": 0.8}),
        judge_heal,
    )

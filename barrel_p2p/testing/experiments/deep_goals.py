"""The goals at their full size, and those that only a long run can test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from barrel_p2p.errors import InvalidValue
from barrel_p2p.testing.experiments.churn import churn
from barrel_p2p.testing.experiments.goals import (
    ARRIVALS,
    POLICIES,
    RELIABILITY_MIN,
    by_case,
    goal_crash,
    goal_heal,
    goal_islands,
    goal_reunion,
    goal_split,
    goal_tree,
    goals_small,
    jobs_of,
)
from barrel_p2p.testing.experiments.liars import liars
from barrel_p2p.testing.experiments.loss import loss
from barrel_p2p.testing.experiments.outcome import Goal, Outcome, Verdict
from barrel_p2p.testing.experiments.replicated import goals_replicated
from barrel_p2p.testing.nodes.goal import SEEDS_DEEP, goal_nodes

__all__ = ["chosen_goals", "goals_deep"]

_LARGE = 10_000


def chosen_goals(names: Sequence[str], *, is_deep: bool) -> tuple[Goal, ...]:
    """The goals of those names, or all.

    Args:
        names: Such as ``S2``, in any case.
        is_deep: At their full size.

    Raises:
        InvalidValue: There is none of that name.
    """
    goals = goals_deep() if is_deep else goals_small()
    known = [goal.name.lower() for goal in goals]
    for name in names:
        if name.lower() not in known:
            listed = ", ".join(dict.fromkeys(goal.name for goal in goals))
            raise InvalidValue(f"no goal {name}: there are {listed}")
    wanted = [name.lower() for name in names] or known
    return tuple(goal for goal in goals if goal.name.lower() in wanted)


def goals_deep() -> tuple[Goal, ...]:
    """S1 to S7, S9, D1 and D3 to D5 over all their cases."""
    every = [{"policy": p, "arrivals": a} for p in POLICIES for a in ARRIVALS]
    at_once = [case for case in every if case["arrivals"] == "at once"]
    parts = ((0.5, 0.5), (0.9, 0.1), (0.4, 0.3, 0.3))
    splits: list[Mapping[str, object]] = [
        {"n": 200, "shares": shares, "rounds": rounds}
        for rounds in (1, 5, 20, 50, 200, 2_000)
        for shares in parts
    ]
    return (
        goal_crash(1_000, 20, *_shares(1_000)),
        goal_crash(_LARGE, 3, *_shares(_LARGE)),
        goal_reunion(1_000, 20),
        goal_reunion(_LARGE, 3),
        goal_islands(50, 50, *every),
        goal_islands(1_000, 50, *every),
        goal_islands(_LARGE, 3, *at_once),
        goal_split(200, 10, *splits),
        goal_tree(1_000, 10),
        goal_tree(_LARGE, 3),
        goal_heal(1_000, 10),
        goal_heal(_LARGE, 3),
        goal_churn(1_000, 3),
        goal_loss(1_000, 3),
        goal_liars(1_000, 5),
        goal_nodes(SEEDS_DEEP),
        *goals_replicated(1_000_000, 10_000_000),
    )


def goal_churn(n: int, count: int) -> Goal:
    """S6."""
    return Goal(
        "S6",
        "Who stays while others come and go hears everything.",
        n,
        count,
        "delivered >= 0.9999, mean active view >= 4.5, symmetric >= 0.999",
        jobs_of(churn, count, *({"n": n, "share": s} for s in (0.01, 0.05, 0.1))),
        judge_churn,
    )


def goal_loss(n: int, count: int) -> Goal:
    """S7."""
    return Goal(
        "S7",
        "What was written arrives although messages of the machines get lost.",
        n,
        count,
        "delivered 1.0 within two periods of anti-entropy",
        jobs_of(loss, count, *({"n": n, "share": s} for s in (0.01, 0.1, 0.3))),
        judge_loss,
    )


def goal_liars(n: int, count: int) -> Goal:
    """S9."""
    return Goal(
        "S9",
        "Members that lie neither divide the honest nor crowd their views.",
        n,
        count,
        "one component, held <= 2 x share of liars, a fake is dialled once",
        jobs_of(liars, count, {"n": n}),
        judge_liars,
    )


def judge_churn(outcomes: Sequence[Outcome]) -> Verdict:
    """S6: the worst of each figure; the one that counts is what was delivered."""
    worst = {
        f"{name}, {case}": min(values)
        for name in ("delivered", "active_mean", "symmetric")
        for case, values in by_case(outcomes, name).items()
    }
    limits = {"delivered": 0.9999, "active_mean": 4.5, "symmetric": 0.999}
    passed = all(worst[key] >= limits[key.partition(",")[0]] for key in worst)
    figure = min(value for key, value in worst.items() if key.startswith("delivered"))
    return Verdict(figure, passed, worst)


def judge_loss(outcomes: Sequence[Outcome]) -> Verdict:
    """S7: everything has to have arrived, at every rate of loss."""
    worst = {
        f"lost {case}": min(values)
        for case, values in by_case(outcomes, "delivered").items()
    }
    heard = {
        f"broadcasts, lost {case}": min(values)
        for case, values in by_case(outcomes, "heard").items()
    }
    return Verdict(min(worst.values()), min(worst.values()) == 1, worst | heard)


def judge_liars(outcomes: Sequence[Outcome]) -> Verdict:
    """S9: the share of honest links that liars hold, and what else was promised."""
    held = max(outcome.figures["held"] for outcome in outcomes)
    parts = max(outcome.figures["components"] for outcome in outcomes)
    probes = max(outcome.figures["probes"] for outcome in outcomes)
    allowed = outcomes[0].figures["allowed"]
    passed = held <= allowed and parts == 1 and probes <= 1
    return Verdict(held, passed, {"components": parts, "dials of a fake": probes})


def _shares(n: int) -> list[Mapping[str, object]]:
    return [
        {"n": n, "share": int(share.rstrip("%")) / 100, "messages": 100}
        for share in RELIABILITY_MIN
    ]

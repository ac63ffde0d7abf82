"""Experiments as charts: the machines as they are beside one with a known defect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from barrel_p2p.testing.drawing.chart import Chart, Series
from barrel_p2p.testing.experiments.cluster import Cluster
from barrel_p2p.testing.experiments.controls import Control, planted
from barrel_p2p.testing.experiments.crash import SETTLE_ROUNDS, reliability
from barrel_p2p.testing.experiments.outcome import Job, Outcome
from barrel_p2p.testing.experiments.runner import run_jobs
from barrel_p2p.testing.experiments.tree import senders

__all__ = ["CURVES", "Curve", "cost", "crash", "join", "split"]

_SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
_NAMES: Mapping[Control, str] = {
    "": "as it is",
    "textbook": "views as published",
    "no repair": "without repair",
    "flood": "without PRUNE",
}


class Curve(NamedTuple):
    """How to make a chart.

    Args:
        draw: Takes nodes, seeds and processes.
        nodes: How many by default.
        seeds: Runs a point, by default.
    """

    draw: Callable[[int, int, int], Chart]
    nodes: int
    seeds: int


def crash(nodes: int, seeds: int, processes: int) -> Chart:
    """How much of what is left a message reaches, by the share that crashed."""
    controls: tuple[Control, ...] = ("", "no repair")
    cases = [
        {"n": nodes, "share": share, "messages": 10, "control": control}
        for control in controls
        for share in _SHARES
    ]
    outcomes = _run(reliability, cases, seeds, processes)
    means = [
        100 * sum(o.figures["reliability"] for o in group) / seeds
        for group in _groups(outcomes, seeds)
    ]
    xs = [100 * share for share in _SHARES]
    return Chart(
        f"Broadcasts after a crash, {nodes:,} nodes",
        "nodes that crashed at the same instant (%)",
        "survivors reached (%)",
        [
            Series(_NAMES[control], _points(xs, means[at * len(xs) :]))
            for at, control in enumerate(controls)
        ],
    )


def split(nodes: int, seeds: int, processes: int) -> Chart:
    """The largest component while a cluster is split for long, and after that."""
    controls: tuple[Control, ...] = ("", "textbook")
    cases = [{"n": nodes, "control": control} for control in controls]
    outcomes = _run(_split_curve, cases, seeds, processes)
    return Chart(
        f"A cluster split in half for {_SPLIT_ROUNDS} rounds, {nodes:,} nodes",
        "rounds (of 10 s)",
        "nodes in the largest component (%)",
        [
            Series(_NAMES[control], _mean_curve(group))
            for control, group in zip(controls, _groups(outcomes, seeds), strict=True)
        ],
        mark_x=(_WHOLE_ROUNDS + _SPLIT_ROUNDS, "healed"),
    )


def cost(nodes: int, seeds: int, processes: int) -> Chart:
    """Payloads that a node receives needlessly, as the tree forms."""
    controls: tuple[Control, ...] = ("", "flood")
    cases = [
        {"n": nodes, "is_single": True, "control": control} for control in controls
    ]
    outcomes = _run(senders, cases, seeds, processes)
    return Chart(
        f"What a broadcast costs, {nodes:,} nodes, one sender",
        "message",
        "relative message redundancy",
        [
            Series(_NAMES[control], _mean_curve(group))
            for control, group in zip(controls, _groups(outcomes, seeds), strict=True)
        ],
    )


def join(nodes: int, seeds: int, processes: int) -> Chart:
    """The largest component after all nodes were started at the same instant."""
    policies = ("single", "three", "random")
    cases = [{"n": nodes, "policy": policy} for policy in policies]
    outcomes = _run(_join_curve, cases, seeds, processes)
    names = ("one contact", "three contacts", "a random contact")
    return Chart(
        f"All started at once, {nodes:,} nodes",
        "seconds",
        "nodes in the largest component (%)",
        [
            Series(name, _mean_curve(group))
            for name, group in zip(names, _groups(outcomes, seeds), strict=True)
        ],
    )


CURVES: Mapping[str, Curve] = {
    "crash": Curve(crash, 500, 3),
    "split": Curve(split, 200, 3),
    "cost": Curve(cost, 500, 3),
    "join": Curve(join, 500, 3),
}

_WHOLE_ROUNDS = 5
_SPLIT_ROUNDS = 50
_AFTER_ROUNDS = 15


def _split_curve(*, n: int, seed: int, control: Control) -> Outcome:
    cluster = Cluster(n, seed, policy="three", **planted(control))
    cluster.start_all(n)
    cluster.rounds(SETTLE_ROUNDS)
    order = cluster.rng.sample(range(n), n)
    curve = []
    for at in range(_WHOLE_ROUNDS + _SPLIT_ROUNDS + _AFTER_ROUNDS + 1):
        curve.append((float(at), 100 * cluster.shape().components[0] / n))
        if at == _WHOLE_ROUNDS:
            cluster.world.split([order[: n // 2], order[n // 2 :]])
        if at == _WHOLE_ROUNDS + _SPLIT_ROUNDS:
            cluster.world.heal()
        cluster.rounds(1)
    return Outcome(control, seed, {}, cluster.world.schedule.events, tuple(curve))


def _join_curve(*, n: int, seed: int, policy: str) -> Outcome:
    cluster = Cluster(n, seed, policy=policy)  # type: ignore[arg-type]
    cluster.start_all(n)
    curve = []
    for at in range(81):
        curve.append((at / 4, 100 * cluster.shape().components[0] / n))
        cluster.rounds(0.025)
    return Outcome(policy, seed, {}, cluster.world.schedule.events, tuple(curve))


def _run(
    call: Callable[..., Outcome],
    cases: Sequence[Mapping[str, object]],
    seeds: int,
    processes: int,
) -> list[Outcome]:
    jobs = [
        Job(call, {**case, "seed": seed})
        for case in cases
        for seed in range(1, seeds + 1)
    ]
    return list(run_jobs(jobs, processes=processes))


def _groups(outcomes: Sequence[Outcome], size: int) -> list[Sequence[Outcome]]:
    return [outcomes[at : at + size] for at in range(0, len(outcomes), size)]


def _points(
    xs: Sequence[float], ys: Sequence[float]
) -> tuple[tuple[float, float], ...]:
    return tuple(zip(xs, ys[: len(xs)], strict=True))


def _mean_curve(group: Sequence[Outcome]) -> tuple[tuple[float, float], ...]:
    return tuple(
        (points[0][0], sum(y for _, y in points) / len(points))
        for points in zip(*(outcome.curve for outcome in group), strict=True)
    )

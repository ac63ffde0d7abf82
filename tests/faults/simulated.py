"""The goals of coordination and of maps that the node simulator tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from barrel_p2p.testing.experiments.outcome import Goal as Simulated
from barrel_p2p.testing.experiments.runner import run_jobs, workers
from barrel_p2p.testing.nodes import leader_goal, map_goal, reminder_goal
from tests.faults.goals import Goal, Outcome

__all__ = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "d6", "d7", "p8"]

type _Made = Callable[[int], tuple[Simulated, ...]]

_ROOMS: Final[dict[str, tuple[_Made, int, int]]] = {
    name: (made, small, deep)
    for names, made, small, deep in (
        (
            ("C1", "C2", "C3", "C4"),
            leader_goal.goals_leaders,
            leader_goal.SEEDS_SMALL,
            leader_goal.SEEDS_DEEP,
        ),
        (
            ("C5", "C6", "C7", "P8"),
            reminder_goal.goals_reminders,
            reminder_goal.SEEDS_SMALL,
            reminder_goal.SEEDS_DEEP,
        ),
        (
            ("D6", "D7"),
            map_goal.goals_maps,
            map_goal.SEEDS_SMALL,
            map_goal.SEEDS_DEEP,
        ),
    )
    for name in names
}


def _simulated(name: str) -> Goal:
    """The goal of that name, as ``tests.faults.run`` runs it."""

    def run(deep: bool, directory: Path) -> Outcome:
        made, small, many = _ROOMS[name]
        count = many if deep else small
        (goal,) = (each for each in made(count) if each.name == name)
        verdict = goal.judge(list(run_jobs(goal.jobs, processes=workers())))
        detail = dict(verdict.detail)
        replay = detail.pop("replay", None)
        return Outcome(
            verdict.figure,
            goal.target,
            goal.seeds,
            verdict.passed,
            seed=None if replay is None else int(replay),
            note=", ".join(f"{key}: {value:g}" for key, value in detail.items()),
        )

    return run


c1, c2, c3, c4 = (_simulated(name) for name in ("C1", "C2", "C3", "C4"))
c5, c6, c7 = (_simulated(name) for name in ("C5", "C6", "C7"))
p8 = _simulated("P8")
d6, d7 = (_simulated(name) for name in ("D6", "D7"))

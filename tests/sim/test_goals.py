from __future__ import annotations

from collections.abc import Mapping

import pytest

from barrel_p2p.errors import InvalidValue
from barrel_p2p.testing.experiments.crash import reliability
from barrel_p2p.testing.experiments.deep_goals import (
    chosen_goals,
    goals_deep,
    judge_churn,
    judge_liars,
    judge_loss,
)
from barrel_p2p.testing.experiments.goals import (
    goals_small,
    judge_crash,
    judge_heal,
    judge_islands,
    judge_rounds,
    judge_tree,
)
from barrel_p2p.testing.experiments.outcome import Goal, Job, Outcome
from barrel_p2p.testing.experiments.runner import judge_all, run_jobs

TREE = {
    "single": {"rmr": 0.02, "ldh": 12, "missed": 0},
    "random": {"rmr": 0.10, "ldh": 18, "missed": 0},
    "burst": {"rmr": 1.0, "ldh": 40, "missed": 0},
}
CHURN = {"delivered": 0.9999, "active_mean": 4.5, "symmetric": 0.999}
LIARS = {"held": 0.2, "components": 1, "probes": 1, "allowed": 0.2}


def one(case: str, **figures: float) -> Outcome:
    return Outcome(case, 1, figures)


def tree(case: str = "single", **changed: float) -> list[Outcome]:
    return [
        Outcome(name, 1, {**figures, **(changed if name == case else {})})
        for name, figures in TREE.items()
    ]


@pytest.mark.parametrize(
    ("share", "mean", "passed"),
    [("80%", 0.9999, True), ("80%", 0.9998, False), ("95%", 0.97, True)],
)
def test_each_share_of_crashed_nodes_has_its_own_target(
    share: str, mean: float, passed: bool
) -> None:
    assert judge_crash([one(share, reliability=mean, repeated=0)]).passed is passed


def test_a_message_delivered_twice_is_no_success() -> None:
    assert not judge_crash([one("50%", reliability=1, repeated=1)]).passed


def test_the_slowest_run_decides() -> None:
    judge = judge_rounds(3)
    assert judge([one("a", rounds=1), one("a", rounds=3)]).passed
    verdict = judge([one("a", rounds=1), one("b", rounds=float("inf"))])
    assert not verdict.passed


def test_one_island_in_one_run_is_a_failure() -> None:
    whole = one("a", components=1, rounds=1, faults=0)
    assert judge_islands([whole, whole]).passed
    assert not judge_islands([whole, one("a", components=2, rounds=1, faults=0)]).passed
    assert not judge_islands([whole, one("a", components=1, rounds=1, faults=1)]).passed


def test_every_figure_of_the_tree_has_a_limit() -> None:
    assert judge_tree(tree()).passed
    assert not judge_tree(tree("single", rmr=0.021)).passed
    assert not judge_tree(tree("single", ldh=13)).passed
    assert not judge_tree(tree("random", rmr=0.11)).passed
    assert not judge_tree(tree("random", ldh=19)).passed
    assert not judge_tree(tree("burst", rmr=1.1)).passed
    assert not judge_tree(tree("burst", missed=1)).passed


def test_a_crash_is_healed_when_the_first_reaches_all_and_the_tenth_is_cheap() -> None:
    assert judge_heal([one("50%", first=1, rmr_last=0.05)]).passed
    assert not judge_heal([one("50%", first=0.999, rmr_last=0.05)]).passed
    assert not judge_heal([one("50%", first=1, rmr_last=0.06)]).passed


@pytest.mark.parametrize("name", [None, *CHURN])
def test_churn_has_three_limits(name: str | None) -> None:
    figures = {key: value - (key == name) * 0.001 for key, value in CHURN.items()}
    assert judge_churn([one("1% a round", **figures)]).passed is (name is None)


def test_nothing_may_be_missing_in_the_end() -> None:
    """What broadcasts alone have brought is told beside it, and may be less."""
    all_there = one("1%", delivered=1, heard=0.99)
    assert judge_loss([all_there]).passed
    assert not judge_loss([all_there, one("30%", delivered=0.9999, heard=1)]).passed


@pytest.mark.parametrize(
    "changed", [{}, {"held": 0.21}, {"components": 2}, {"probes": 2}]
)
def test_liars_are_held_to_three_limits(changed: Mapping[str, float]) -> None:
    assert judge_liars([one("10%", **{**LIARS, **changed})]).passed is (not changed)


def test_the_goals_of_each_size_are_chosen_by_name() -> None:
    names = [goal.name for goal in chosen_goals(("s2", "S4"), is_deep=False)]
    assert names == ["S2", "S2", "S4"]
    assert {goal.name for goal in goals_small()} == {
        "D1",
        "D3",
        "D4",
        "D5",
        "S1",
        "S1b",
        "S2",
        "S3",
        "S4",
        "S5",
    }
    assert {goal.name for goal in goals_deep()} >= {"S6", "S7", "S9"}
    assert max(goal.n for goal in goals_deep()) == 10_000
    with pytest.raises(InvalidValue, match="no goal S6: there are S1, S1b"):
        chosen_goals(("S6",), is_deep=False)


@pytest.mark.parametrize("control", ["", "no repair"])
def test_a_goal_is_said_in_one_line_and_fails_the_run_when_it_is_missed(
    control: str,
) -> None:
    case = {"n": 60, "share": 0.5, "messages": 3, "control": control}
    jobs = tuple(Job(reliability, {**case, "seed": seed}) for seed in (1, 2))
    goal = Goal("S1", "", 60, 2, "all", jobs, judge_crash)
    said: list[dict[str, object]] = []
    assert judge_all([goal], processes=1, say=said.append) is (control == "")
    (line,) = said
    assert {key: line[key] for key in ("goal", "n", "seeds", "target", "pass")} == {
        "goal": "S1",
        "n": 60,
        "seeds": 2,
        "target": "all",
        "pass": control == "",
    }


def test_other_processes_find_the_same_as_this_one() -> None:
    jobs = [
        Job(reliability, {"n": 30, "share": 0.5, "messages": 2, "seed": seed})
        for seed in (1, 2, 3)
    ]
    alone = list(run_jobs(jobs, processes=1))
    assert list(run_jobs(jobs, processes=2)) == alone
    assert [outcome.seed for outcome in alone] == [1, 2, 3]

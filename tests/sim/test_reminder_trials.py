"""Reminders in the node simulator: none is missed, and few are told twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrel_p2p.testing.experiments.outcome import Goal
from barrel_p2p.testing.nodes.reminder_goal import goals_reminders
from barrel_p2p.testing.nodes.reminder_trial import reminder_trial
from tests.sim.elsewhere import elsewhere, need_same_digests
from tests.sim.traced_reminders import digest_of

SEEDS = (41, 42)


@elsewhere
def test_reminders_depend_on_the_seed_and_on_nothing_else(
    python: Path, hash_seed: str
) -> None:
    need_same_digests(
        "tests.sim.traced_reminders",
        digest_of,
        SEEDS,
        python=python,
        hash_seed=hash_seed,
    )


@pytest.mark.parametrize("goal", goals_reminders(1), ids=lambda goal: goal.name)
def test_every_goal_of_reminders_is_reached_by_its_first_seed(goal: Goal) -> None:
    """C5, C6, C7, P8; ``make state-faults`` runs more of them."""
    verdict = goal.judge([job.call(**job.arguments) for job in goal.jobs])
    assert verdict.passed, verdict
    assert verdict.figure == 0


def test_without_faults_five_thousand_are_told_once_and_in_time() -> None:
    """C5."""
    tried = reminder_trial(51, reminders=5_000, spread_s=20.0)
    assert tried.wrong == ()
    assert (tried.acknowledged, tried.missed, tried.duplicate) == (5_000, 0, 0)
    assert tried.late_p99_ms <= 100


def test_unacknowledged_a_kill_can_lose_what_is_being_fired_and_nothing_else() -> None:
    """The control of C7: at most once means that the same kills do lose some."""
    tried = reminder_trial(2, reminders=1_000, churn="aimed", spread_s=20.0)
    assert tried.wrong == ()
    assert 0 < tried.missed == tried.doubtful


@pytest.mark.parametrize("seed", [61, 62])
def test_whatever_is_told_twice_has_one_fence(seed: int) -> None:
    """C6, C7."""
    tried = reminder_trial(
        seed, reminders=600, churn="aimed", acknowledge=True, spread_s=15.0
    )
    assert tried.wrong == ()
    assert tried.duplicate > 0
    assert (tried.missed, tried.other_fence) == (0, 0)


@pytest.mark.parametrize("seed", [71, 72, 73])
def test_no_fired_reminder_fires_again_after_all_nodes_were_killed(seed: int) -> None:
    """P8: every node is killed at once, and they come back one after the other."""
    tried = reminder_trial(seed, reminders=200, churn="all", spread_s=20.0)
    assert tried.wrong == ()
    assert tried.killed == 5
    assert tried.missed == tried.doubtful
    assert tried.duplicate == 0

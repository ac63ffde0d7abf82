"""D3 to D5: maps converge, deltas are enough, stamps grow; defects are seen."""

from __future__ import annotations

import pytest

from barrel_p2p.testing.experiments.goals import goals_small
from barrel_p2p.testing.experiments.replicated import (
    clock_run,
    deltas_run,
    judge_none,
    schedules_run,
)
from tests.tools import rounds


@pytest.mark.timeout(600)
def test_maps_are_the_same_after_every_schedule_and_miss_no_write() -> None:
    """Whatever is lost, repeated or reordered, all end with each key's greatest write;
    ``sim goals D3`` tries many more."""
    assert schedules_run(0, rounds(2_000, whole=100_000)).figures["failed"] == 0


@pytest.mark.timeout(600)
def test_all_deltas_in_any_order_make_what_the_snapshots_make() -> None:
    assert deltas_run(0, rounds(2_000, whole=100_000)).figures["failed"] == 0


def test_stamps_grow_and_stay_near_the_wall_clock_whatever_that_and_peers_say() -> None:
    outcome = clock_run(1, rounds(20_000, whole=1_000_000))
    assert outcome.figures["failed"] == 0
    assert outcome.figures["refused"] > 1_000


def test_maps_that_do_not_compare_are_seen_to_differ() -> None:
    healed, unhealed = schedules_run(0, 200), schedules_run(0, 200, rounds=0)
    assert judge_none([healed]).passed
    assert unhealed.figures["failed"] > 50
    verdict = judge_none([healed, unhealed])
    assert not verdict.passed
    assert verdict.figure == unhealed.figures["failed"]
    assert verdict.detail == {"replay": unhealed.figures["seed"]}


def test_a_delta_that_is_missing_is_seen() -> None:
    assert deltas_run(0, 200, misses=1).figures["failed"] > 50


def test_a_stamp_beyond_the_drift_is_seen() -> None:
    assert clock_run(1, 5_000, slack_ms=-5).figures["failed"] > 0


def test_the_goals_have_the_sizes_that_were_promised() -> None:
    sizes = {goal.name: goal.seeds for goal in goals_small()}
    assert sizes["D3"] == sizes["D4"] == 100_000
    (clocks,) = [goal for goal in goals_small() if goal.name == "D5"]
    assert sum(int(str(job.arguments["events"])) for job in clocks.jobs) == 1_000_000

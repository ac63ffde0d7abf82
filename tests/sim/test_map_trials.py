"""Replicated maps in simulation: what holds after a seed, and what checks can see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.core.ormap import Delta
from barrel_p2p.services.map_lives import Fate, Lives
from barrel_p2p.services.map_owner import MapOwner
from barrel_p2p.services.map_removed import Removed
from barrel_p2p.testing.nodes.map_goal import (
    SEEDS_SMALL,
    goals_maps,
    judge_removed,
    judge_superseded,
    maps_run,
)
from barrel_p2p.testing.nodes.map_trial import map_trial
from tests.sim.elsewhere import elsewhere, need_same_digests
from tests.sim.traced_maps import digest_of

SEEDS = (11,)
FEW = (7, 1, 8, 9, 10)


@elsewhere
def test_maps_depend_on_the_seed_and_on_nothing_else(
    python: Path, hash_seed: str
) -> None:
    need_same_digests(
        "tests.sim.traced_maps", digest_of, SEEDS, python=python, hash_seed=hash_seed
    )


def test_every_goal_of_maps_is_reached_by_its_first_seeds() -> None:
    """D6: late nodes come with removed keys. D7: writes are superseded, unless each
    node writes its own keys."""
    removed, superseded = goals_maps(SEEDS_SMALL)
    outcomes = [job.run() for job in removed.jobs]  # The other's are the same.
    for goal in (removed, superseded):
        verdict = goal.judge(outcomes)
        assert verdict.passed, (goal.name, verdict)


def forget_what_was_removed(patch: pytest.MonkeyPatch) -> None:
    def admit(self: Removed, delta: Delta, knows: Any) -> tuple[Delta, Delta]:
        return delta, {}

    patch.setattr(Removed, "admit", admit)


def show_the_dead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lives, "fate", lambda *_: Fate.HERE)


def tell_nothing_of_removals(patch: pytest.MonkeyPatch) -> None:
    def hide(self: MapOwner, key: object) -> None:
        self.shown.pop(key, None)

    patch.setattr(MapOwner, "_hide", hide)


def keep_later_lives_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MapOwner, "reconsider", lambda *_: None)


@pytest.mark.parametrize(
    "defect",
    [
        forget_what_was_removed,
        show_the_dead,
        tell_nothing_of_removals,
        keep_later_lives_out,
    ],
)
def test_a_defect_fails_within_few_seeds(
    defect: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    defect(monkeypatch)
    assert any(map_trial(seed).wrong for seed in FEW)


def test_a_goal_that_nothing_has_tried_is_not_reached() -> None:
    outcome = maps_run(1, 2)
    nothing = {**outcome.figures, "revived": 0, "superseded": 0}
    idle = type(outcome)(outcome.case, outcome.seed, nothing)
    assert not judge_removed([idle]).passed
    assert not judge_superseded([idle]).passed

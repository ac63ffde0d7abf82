"""Elections in simulation: what holds after every seed, and what the checks can see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from barrel_p2p.services.leader_events import Elected
from barrel_p2p.services.leadership import Term
from barrel_p2p.testing.experiments.outcome import Outcome
from barrel_p2p.testing.nodes.leader_goal import (
    SEEDS_SMALL,
    goals_leaders,
    judge_failovers,
    judge_fences,
    judge_resource,
    judge_rest,
    leaders_run,
)
from barrel_p2p.testing.nodes.leader_trial import leader_trial
from barrel_p2p.testing.nodes.leading import Leading, Resource
from barrel_p2p.testing.nodes.world import World
from tests.sim.elsewhere import elsewhere, need_same_digests
from tests.sim.traced_leaders import digest_of

SEEDS = (6,)

type Course = Callable[[World, Leading], Awaitable[None]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(1, nodes=4, directory=tmp_path) as made:
        yield made


async def virtual(seconds: float) -> None:
    await asyncio.sleep(seconds)  # not synchronisation: the time is virtual


def run(world: World, course: Course) -> None:
    async def whole() -> None:
        for machine in world.machines:
            await world.start(machine.index)
        leading = Leading(world, 1)
        looking = world.loop.create_task(leading.look())
        await virtual(1)
        for watch in world.watches.values():
            if (watch, leading.names[0]) not in leading._standing:
                leading._toggle(watch, leading.names[0])
        await virtual(12)
        await course(world, leading)
        looking.cancel()

    world.loop.run(whole())


@elsewhere
def test_elections_depend_on_the_seed_and_on_nothing_else(
    python: Path, hash_seed: str
) -> None:
    need_same_digests(
        "tests.sim.traced_leaders", digest_of, SEEDS, python=python, hash_seed=hash_seed
    )


@pytest.mark.parametrize("seed", range(3_001, 3_005))
def test_one_leads_again_after_any_faults(seed: int) -> None:
    """C1 to C4, a few seeds of them."""
    tried = leader_trial(seed)
    assert not tried.failed, tried
    assert tried.terms


def test_every_goal_of_leaders_is_reached_by_its_first_seeds() -> None:
    """C1, C2, C3, C4; ``make state-faults`` runs more of them."""
    for goal in goals_leaders(1):
        verdict = goal.judge([job.call(**job.arguments) for job in goal.jobs])
        assert verdict.passed, (goal.name, verdict)
        assert verdict.figure == 0
    assert sum(len(goal.jobs) for goal in goals_leaders(SEEDS_SMALL)) == 16


def test_a_leader_that_dies_is_replaced_and_one_that_stood_still_asks_again(
    world: World,
) -> None:
    async def course(world: World, leading: Leading) -> None:
        name = leading.names[0]
        (first,) = leading.leaders(name)
        assert leading.problems() == []
        world.crash(first)
        await virtual(6)
        (second,) = leading.leaders(name)
        assert leading.problems() == []
        world.freeze(second)
        await virtual(12)
        (third,) = (i for i in leading.leaders(name) if i != second)
        assert third not in (first, second)
        world.thaw(second)
        await virtual(6)
        assert leading.leaders(name) == [second]  # It has the smaller name.
        assert leading.problems() == []
        assert leading.faults == {"C1": [], "C3": []}
        assert leading.revoked >= 1

    run(world, course)
    assert world.wrong == []


def test_both_sides_of_a_cut_have_a_leader_and_one_is_left_when_it_heals(
    world: World,
) -> None:
    async def course(world: World, leading: Leading) -> None:
        name = leading.names[0]
        pairs = [(a, b) for a in (0, 1) for b in (2, 3)]
        mend = world.cut(pairs + [(b, a) for a, b in pairs])
        await virtual(15)
        sides = leading.leaders(name)
        assert len(sides) == 2
        fences = [world.node(i).fence(name) for i in sides]
        mend()
        await virtual(40)
        (leader,) = leading.leaders(name)
        assert world.node(leader).fence(name) > max(fences)
        assert leading.problems() == []

    run(world, course)
    assert world.wrong == []


def test_the_checks_see_what_they_are_for(world: World) -> None:
    async def course(world: World, leading: Leading) -> None:
        name = leading.names[0]
        (leader,) = leading.leaders(name)
        watch = world.watches[leader]
        fence = world.node(leader).fence(name)
        leading._told(watch, Elected(name, fence))
        assert leading.faults["C1"][-1].endswith(f"has known {fence}")
        other = world.watches[(leader + 1) % 4]
        leading._told(other, Elected(name, fence))
        assert any("both got" in fault for fault in leading.faults["C1"])
        world.freeze(leader)
        await virtual(10)
        leading._need_awake(watch, name, Term(name, fence), 0.0)
        assert len(leading.faults["C3"]) == 1
        world.thaw(leader)
        await virtual(10)
        assert leading.problems() == []
        own = watch.node.parts.leaders._machine.table.races[name].own
        assert own is not None
        own.stamp = None  # Nobody leads, and that is wrong.
        assert len(leading.problems()) == 1

    run(world, course)


def test_a_resource_takes_no_write_of_an_earlier_term() -> None:
    resource = Resource()
    for fence in (3, 3, 5, 3, 5, 4, 6):
        resource.write(fence)
    assert resource.accepted == [3, 3, 5, 5, 6]
    assert resource.stale == 2
    assert not resource.went_back
    resource.accepted.append(5)
    assert resource.went_back


GOOD = Outcome(
    "leaders",
    1,
    {
        "runs": 5,
        "failed": 0,
        "seed": 0,
        "terms": 50,
        "fences": 0,
        "stale": 4,
        "went_back": 0,
        "acted": 0,
        "late": 0,
        "failovers": 3,
        "failover_ms": 2_500.0,
        "at_rest": 0,
    },
)


@pytest.mark.parametrize(
    ("judge", "wrong"),
    [
        (judge_fences, {"fences": 1, "seed": 7}),
        (judge_resource, {"went_back": 1, "seed": 7}),
        (judge_resource, {"stale": 0}),
        (judge_failovers, {"late": 1, "seed": 7}),
        (judge_failovers, {"acted": 1, "seed": 7}),
        (judge_failovers, {"failovers": 0}),
        (judge_rest, {"at_rest": 1, "seed": 7}),
        (judge_rest, {"failed": 1, "seed": 7}),
    ],
)
def test_a_goal_fails_for_what_it_forbids_and_for_showing_nothing(
    judge: Callable[[list[Outcome]], object], wrong: dict[str, float]
) -> None:
    assert judge([GOOD]).passed  # type: ignore[attr-defined]
    bad = replace(GOOD, figures={**GOOD.figures, **wrong})
    verdict = judge([bad])
    assert not verdict.passed  # type: ignore[attr-defined]
    if "seed" in wrong:
        assert verdict.detail["replay"] == 7  # type: ignore[attr-defined]


def test_a_run_of_seeds_adds_up_what_its_trials_gave() -> None:
    outcome = leaders_run(1, 3, faulty_s=3.0, deeds=False)
    single = [leader_trial(seed, faulty_s=3.0, deeds=False) for seed in (1, 2)]
    assert outcome.figures["terms"] == sum(tried.terms for tried in single)
    assert outcome.figures["runs"] == 2

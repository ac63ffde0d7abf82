"""Whole nodes in simulation: what a seed gives, and what the checks can see."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from barrel_p2p.core.names import Address
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import PeerUnreachable
from barrel_p2p.testing.experiments.outcome import Outcome
from barrel_p2p.testing.nodes.checks import problems
from barrel_p2p.testing.nodes.goal import judge_nodes, nodes_run
from barrel_p2p.testing.nodes.loop import SimLoop, SimulationError
from barrel_p2p.testing.nodes.moments import Moments
from barrel_p2p.testing.nodes.trial import trial
from barrel_p2p.testing.nodes.world import World
from tests.sim.elsewhere import elsewhere, need_same_digests
from tests.sim.traced_trial import digest_of
from tests.tree import ROOT

SEEDS = (1, 9, 24)

type Course = Callable[[World], Awaitable[None]]


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
        await virtual(10)
        assert problems(world) == []
        await course(world)

    world.loop.run(whole())


@elsewhere
def test_whole_nodes_depend_on_the_seed_and_on_nothing_else(
    python: Path, hash_seed: str
) -> None:
    need_same_digests(
        "tests.sim.traced_trial", digest_of, SEEDS, python=python, hash_seed=hash_seed
    )


def test_two_seeds_are_two_runs() -> None:
    assert digest_of(1) != digest_of(2)


@pytest.mark.parametrize("seed", range(1_001, 1_013))
def test_nodes_agree_again_after_any_faults(seed: int) -> None:
    """D1, a few seeds of it; ``sim nodes SEED`` replays one."""
    tried = trial(seed)
    assert tried.wrong == ()
    assert tried.events > 100


def test_a_crash_is_seen_as_a_death_and_takes_its_services_along(world: World) -> None:
    async def course(world: World) -> None:
        await world.on(3, world.node(3).start_service_holder("svc"))
        await virtual(1)
        assert [entry.node for entry in world.node(0).lookup("svc")] == ["n3@sim"]
        world.crash(3)
        await virtual(4)
        assert world.node(0).members() == ["n0@sim", "n1@sim", "n2@sim"]
        assert world.node(0).lookup("svc") == []
        assert problems(world) == []

    run(world, course)
    assert world.wrong == []


def test_a_frozen_node_does_nothing_and_goes_on_where_it_stood(world: World) -> None:
    async def course(world: World) -> None:
        heard: list[bytes] = []
        world.call(
            2,
            world.node(2).parts.broadcast.subscribe,
            "t",
            lambda delivery: heard.append(delivery.payload),
        )
        world.freeze(2)
        await world.on(0, world.node(0).parts.broadcast.broadcast("t", b"x"))
        await virtual(1)
        assert heard == []
        world.thaw(2)
        await virtual(0.1)
        assert heard == [b"x"]

    run(world, course)


def test_a_cut_ends_channels_and_what_it_held_back_arrives_if_it_heals_sooner(
    world: World,
) -> None:
    async def course(world: World) -> None:
        ways = [(1, other) for other in (0, 2, 3)] + [(o, 1) for o in (0, 2, 3)]
        mend = world.cut(ways)
        await world.on(1, world.node(1).start_service_holder("held"))
        await virtual(2)
        assert world.node(0).lookup("held") == []
        mend()
        await virtual(2)
        assert len(world.node(0).lookup("held")) == 1
        mend = world.cut(ways)
        await virtual(9)
        assert world.node(1).nodes() == []
        assert "n1@sim" not in world.node(0).members()
        mend()
        await virtual(40)
        assert len(world.node(0).lookup("held")) == 1
        assert world.node(0).members() == [f"n{i}@sim" for i in range(4)]

    run(world, course)
    assert world.wrong == []


def test_a_deaf_way_stops_dials_and_nothing_else(world: World) -> None:
    async def course(world: World) -> None:
        nodes = world.node(0), world.node(1)
        world.network.deaf[0, 1] = 1
        for index, other in ((0, "n1@sim"), (1, "n0@sim")):
            world.call(index, nodes[index].block_peers, [other])
        world.call(0, nodes[0].disconnect, "n1@sim")
        await virtual(0.5)
        address = Address("n1@sim", "host1", 9_100)
        with pytest.raises(PeerUnreachable):
            await world.on(0, nodes[0].connect(address, timeout=3.0))
        back = Address("n0@sim", "host0", 9_100)
        assert await world.on(1, nodes[1].connect(back, timeout=3.0)) == "n0@sim"

    run(world, course)


def test_the_checks_see_a_missing_and_a_false_registration(world: World) -> None:
    async def course(world: World) -> None:
        world.watches[0].registrations["ghost"] = Pid("n0@sim", 1, 1), {}
        assert len(problems(world)) == 4
        world.watches[0].registrations.clear()
        await world.on(1, world.node(1).start_service_holder("unknown"))
        await virtual(2)
        assert len([p for p in problems(world) if "unknown" in p]) == 4

    run(world, course)


def test_the_checks_see_metadata_that_was_not_told(world: World) -> None:
    async def course(world: World) -> None:
        await world.on(0, world.node(0).start_service_holder("svc"))
        await virtual(1)
        entry = world.node(0).lookup("svc")[0]
        world.watches[0].registrations["svc"] = entry.pid, dict(entry.meta)
        assert problems(world) == []
        world.watches[0].registrations["svc"] = entry.pid, {"other": 1}
        assert len(problems(world)) == 4

    run(world, course)


def test_what_holds_at_every_moment_holds_while_a_node_is_cut_off(world: World) -> None:
    async def course(world: World) -> None:
        moments = Moments(world)
        ways = [(1, other) for other in (0, 2, 3)] + [(o, 1) for o in (0, 2, 3)]
        mend = world.cut(ways)
        for second in range(40):
            await virtual(1)
            assert list(moments.faults()) == []
            if second == 15:
                mend()
        assert problems(world) == []

    run(world, course)
    assert world.wrong == []


def test_a_look_sees_rooms_that_disagree_and_a_number_that_goes_back(
    world: World,
) -> None:
    async def course(world: World) -> None:
        moments = Moments(world)
        assert list(moments.faults()) == []
        parts = world.node(0).parts
        del parts.members._machine._peers[world.node(0).active_view()[0]]
        parts.membership.counters.failures -= 1
        found = list(moments.faults())
        assert len(found) == 2
        assert "n0@sim has" in found[0]
        assert "members" in found[0]
        assert "failures back" in found[1]

    run(world, course)


def test_a_look_sees_rooms_that_do_not_agree_whether_the_node_has_left(
    world: World,
) -> None:
    """While it dials to join again, it is out for all of them."""

    async def course(world: World) -> None:
        moments, node = Moments(world), world.node(3)
        await world.leave(3)
        world.call(3, node.disconnect, "n2@sim")
        world.network.deaf[3, 2] = 1
        joining = world.spawn(3, world.join(3, 2, timeout=3))
        await virtual(1)
        assert list(moments.faults()) == []
        world.network.deaf[3, 2] = 0
        await joining
        assert list(moments.faults()) == []
        node.parts.members._machine._left = True
        assert list(moments.faults()) == [
            "n3@sim has left for one room and not for another"
        ]

    run(world, course)


def test_a_verdict_that_nothing_excuses_is_wrong(world: World) -> None:
    async def course(world: World) -> None:
        world.truth.is_calm = True
        world.crash(3)
        await virtual(4)
        assert world.wrong == []
        world.freeze(2)
        await virtual(12)
        told = [wrong for wrong in world.wrong if "MemberDead(node='n2@sim'" in wrong]
        assert len(told) == 2
        world.thaw(2)

    run(world, course)


def test_two_nodes_that_lose_each_other_stay_members(world: World) -> None:
    async def course(world: World) -> None:
        world.truth.is_calm = True
        mend = world.sever(0, 1)
        await virtual(0.5)
        assert "n1@sim" not in world.node(0).nodes()
        await virtual(5)
        assert world.node(0).members() == [f"n{i}@sim" for i in range(4)]
        mend()
        await virtual(10)
        assert problems(world) == []

    run(world, course)
    assert world.wrong == []


def test_a_node_that_joins_after_it_was_told_to_leave_is_reported(world: World) -> None:
    async def course(world: World) -> None:
        await world.leave(2)
        address = world.machines[0].address
        await world.on(2, world.node(2).join(address))  # Behind the watch's back.
        assert any("although it has left" in wrong for wrong in world.wrong)

    run(world, course)


def test_a_node_that_stands_still_forever_is_no_member_and_no_peer(
    world: World,
) -> None:
    async def course(world: World) -> None:
        world.freeze(3)
        await virtual(12)
        assert any("n3@sim" in problem for problem in problems(world))
        world.thaw(3)
        await virtual(30)
        assert problems(world) == []

    run(world, course)
    assert world.wrong == []


def test_time_passes_only_when_nothing_else_is_left() -> None:
    loop = SimLoop()  # type: ignore[abstract]

    async def main() -> list[float]:
        seen: list[float] = []
        loop.call_later(3_600.0, lambda: seen.append(loop.time()))
        await virtual(7_200.0)
        seen.append(loop.time())
        return seen

    assert loop.run(main()) == pytest.approx([3_600.0, 7_200.0])


def test_a_wait_for_nothing_is_an_error_and_no_hang() -> None:
    loop = SimLoop()  # type: ignore[abstract]

    async def main() -> None:
        await loop.create_future()

    with pytest.raises(SimulationError):
        loop.run(main())


def test_d1_fails_with_its_first_bad_seed_to_be_replayed() -> None:
    good = nodes_run(1, 2)
    assert judge_nodes([good]).passed
    bad = Outcome("nodes", 11, {**good.figures, "failed": 2, "seed": 17})
    verdict = judge_nodes([good, bad])
    assert not verdict.passed
    assert (verdict.figure, verdict.detail["replay"]) == (2, 17)


@pytest.mark.parametrize("python", [Path(sys.executable)])
def test_a_seed_is_replayed_from_the_command_line(python: Path) -> None:
    done = subprocess.run(
        [str(python), "-m", "barrel_p2p", "sim", "nodes", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"trace {digest_of(1)}" in done.stdout

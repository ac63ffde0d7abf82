"""Leaders on real nodes: stood for, elected, revoked, fenced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

import barrel_p2p
from barrel_p2p import (
    AlreadyCandidate,
    BarrelError,
    Conflict,
    Elected,
    InvalidValue,
    LeadershipLost,
    NoLeader,
    NoProc,
    NotEncodable,
    NotLeader,
    NotStarted,
    Process,
    Revoked,
    Role,
)
from barrel_p2p.node.node import Node
from barrel_p2p.node.operations import Operations
from barrel_p2p.node.requests import Elections, WatchEvents
from barrel_p2p.runtime.event_stream import EventStream
from barrel_p2p.services.leader_events import LeaderEvent
from barrel_p2p.services.leader_inputs import Withdraw
from barrel_p2p.services.leadership import Term
from barrel_p2p.testing import FakeClock, cluster, eventually
from tests.endpoints import within
from tests.unit.node.nodes import config

NAME = "roller"


async def idle(process: Process) -> None:
    """A process that only ends when it is told to."""
    await process.receive(lambda message: False)


def leaders_of(nodes: list[Node]) -> list[str]:
    return [node.name for node in nodes if node.is_leader(NAME)]


async def settled(*nodes: Node) -> None:
    """Wait until they have compared what they know of leaders."""
    machines = [node._running().leaders._machine for node in nodes]
    await eventually(lambda: all(machine.is_settled for machine in machines))


def block(node: Node) -> None:
    """Hold the loop for so long that the node may have been replaced."""
    seconds = node.config.member_ttl_ms / 1_000 + 0.1
    time.sleep(seconds)  # not synchronisation: it is the pause


async def elected(events: EventStream[LeaderEvent]) -> Elected:
    """The next election that is told there."""
    event = await events.until(lambda e: isinstance(e, Elected), timeout=10)
    assert isinstance(event, Elected)
    return event


async def test_a_sole_candidate_leads_at_once(tmp_path: Path) -> None:
    """LDR-01."""
    async with cluster(1, directory=tmp_path) as (a,), a.mailbox() as me:
        with pytest.raises(NoLeader):
            a.leader(NAME)
        role = await a.lead(NAME)
        assert role.leader
        assert type(role.fence) is int
        assert 0 < role.fence < 1 << 63
        assert a.is_leader(NAME)
        assert a.leader(NAME) == (a.name, me.pid)
        assert a.fence(NAME) == a.high_water(NAME) == role.fence
        assert [(c.node, c.pid) for c in a.candidates(NAME)] == [(a.name, me.pid)]
        assert a.elections() == [NAME]


async def test_who_resigns_leads_no_more_and_is_sent_nothing(tmp_path: Path) -> None:
    """LDR-02, LDR-07: and the next term's fence is greater."""
    async with cluster(1, directory=tmp_path) as (a,), a.mailbox() as me:
        first = await a.lead(NAME)
        await a.resign(NAME)
        assert not a.is_leader(NAME)
        with pytest.raises(NoLeader):
            a.leader(NAME)
        with pytest.raises(NotLeader):
            a.fence(NAME)
        assert me.drain() == []
        second = await a.lead(NAME)
        assert first.fence is not None
        assert second.fence is not None
        assert second.fence > first.fence


async def test_a_singleton_is_used_as_the_documentation_has_it(tmp_path: Path) -> None:
    """DOC-03: a worker that campaigns, is told, asks, and steps down."""
    async with cluster(1, directory=tmp_path) as (a,):
        told: list[object] = []

        async def worker(me: Process) -> None:
            role = await barrel_p2p.lead("report_roller")
            told.append(role.leader)
            told.append(barrel_p2p.is_leader("report_roller"))
            told.append(barrel_p2p.fence("report_roller") == role.fence)
            told.append(barrel_p2p.leader("report_roller") == (a.name, me.pid))
            await barrel_p2p.resign("report_roller")
            told.append(barrel_p2p.is_leader("report_roller"))
            for gone in (barrel_p2p.leader, barrel_p2p.fence):
                try:
                    gone("report_roller")
                except BarrelError as error:
                    told.append(error.code)

        a.spawn(worker)
        await eventually(lambda: len(told) == 7)
        assert told == [True, True, True, True, False, "no_leader", "not_leader"]


async def test_two_nodes_agree_and_the_other_takes_over(tmp_path: Path) -> None:
    async with (
        cluster(2, directory=tmp_path) as (a, b),
        a.mailbox() as of_a,
        b.mailbox() as of_b,
    ):
        await settled(a, b)
        first = await b.lead(NAME, pid=of_b.pid)
        assert first.fence is not None
        await eventually(lambda: a.high_water(NAME) == first.fence)
        assert a.leader(NAME) == (b.name, of_b.pid)
        second = await a.lead(NAME, pid=of_a.pid)
        assert second.fence is not None
        assert second.fence > first.fence
        assert await of_b.receive(timeout=5) == Revoked(NAME)
        assert not b.is_leader(NAME)
        assert b.leader(NAME) == (a.name, of_a.pid)
        await a.resign(NAME)
        told = await of_b.receive(timeout=5)
        assert told == Elected(NAME, b.fence(NAME))
        assert told.fence > second.fence


async def test_no_fence_repeats_over_a_restart_with_a_clock_set_back(
    tmp_path: Path,
) -> None:
    """C1: the bound of the clock is on disk before the fence is given."""
    clock, fences = FakeClock(wall_ms=1_790_000_000_000), list[int]()
    for _ in range(3):
        node = Node(config=config(tmp_path, "a@127.0.0.1"), clock=clock)
        async with node, node.mailbox() as me:
            await node.lead(NAME, pid=me.pid)
            fences.append(node.fence(NAME))
        clock.step(-3_600_000)
    assert fences == sorted(set(fences))


async def test_a_priority_wins_on_every_node_against_smaller_names(
    tmp_path: Path,
) -> None:
    """LDR-12, LDR-06."""
    async with cluster(3, directory=tmp_path) as nodes, AsyncExitStack() as stack:
        for node in nodes:
            pid = node.spawn(idle)
            priority = 1 if node is nodes[-1] else 0
            await node.lead(NAME, pid=pid, priority=priority)
        last = nodes[-1].name

        def agree() -> bool:
            return all(node.leader(NAME)[0] == last for node in nodes)

        await eventually(agree)
        await eventually(lambda: leaders_of(nodes) == [last])
        events = await stack.enter_async_context(nodes[0].leader_events())
        await nodes[-1].resign(NAME)
        await elected(events)
        await eventually(lambda: leaders_of(nodes) == [nodes[0].name])


async def test_a_second_candidate_of_a_node_is_refused(tmp_path: Path) -> None:
    """LDR-04."""
    async with cluster(1, directory=tmp_path) as (a,), a.mailbox():
        await a.lead(NAME)
        with pytest.raises(AlreadyCandidate) as refused:
            await a.lead(NAME)
        assert isinstance(refused.value, Conflict)
        assert refused.value.code == "already_candidate"
        with pytest.raises(AlreadyCandidate):
            await anext(a.leadership(NAME))
        assert a.is_leader(NAME)


async def test_what_cannot_stand_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        with pytest.raises(NotStarted):
            await a.lead(NAME)
        pid, far = a.spawn(idle), b.spawn(idle)
        with pytest.raises(InvalidValue, match="process"):
            await a.lead(NAME, pid=far)
        with pytest.raises(InvalidValue, match="priority"):
            await a.lead(NAME, pid=pid, priority=1 << 40)
        with pytest.raises(NotEncodable):
            await a.lead([1], pid=pid)
        await pid.exit("kill")
        with pytest.raises(NoProc):
            await a.lead(NAME, pid=pid)
        await a.resign(NAME)
        assert a.candidates(NAME) == []
        assert a.high_water(NAME) is None


async def test_a_candidate_that_ends_is_none_any_more(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path) as (a, b), b.leader_events() as events:
        pid = a.spawn(idle)
        await a.lead(NAME, pid=pid)
        await eventually(lambda: b.candidates(NAME) != [])
        assert await b.lead(NAME, pid=b.spawn(idle)) == Role(False, None)
        await pid.exit("shutdown")
        assert (await elected(events)).fence == b.fence(NAME)
        with pytest.raises(NotLeader):
            a.fence(NAME)
        await eventually(lambda: a.leader(NAME)[0] == b.name)


async def test_a_node_that_stops_is_replaced_and_its_candidate_is_told(
    tmp_path: Path,
) -> None:
    async with (
        cluster(2, directory=tmp_path) as (a, b),
        b.leader_events() as events,
    ):
        heard: list[object] = []

        async def listens(me: Process) -> None:
            async for message in me:
                heard.append(message)

        await settled(a, b)
        first = await a.lead(NAME, pid=a.spawn(listens))
        await eventually(lambda: b.high_water(NAME) == first.fence)
        await b.lead(NAME, pid=b.spawn(idle))
        await a.stop()
        assert heard == [Revoked(NAME)]
        told = await elected(events)
        assert first.fence is not None
        assert told.fence > first.fence
        assert b.leader(NAME)[0] == b.name


async def test_revoked_comes_before_messages_that_wait(tmp_path: Path) -> None:
    async with cluster(1, directory=tmp_path) as (a,), a.mailbox() as me:
        await a.lead(NAME)
        await a.send(me.pid, "work")
        block(a)
        assert not a.is_leader(NAME)
        with pytest.raises(NotLeader):
            a.fence(NAME)
        assert await me.receive(timeout=5) == Revoked(NAME)
        assert await me.receive(timeout=5) == "work"


async def test_an_election_that_was_not_heard_is_taken_back_silently(
    tmp_path: Path,
) -> None:
    async with cluster(1, directory=tmp_path) as (a,), a.mailbox() as me:
        await a.lead(NAME)
        block(a)
        assert not a.is_leader(NAME)  # It looks, and is elected anew right away.
        await eventually(lambda: a.is_leader(NAME))
        block(a)
        a.is_leader(NAME)
        await eventually(lambda: a.is_leader(NAME))
        told = me.drain()
        assert told == [Revoked(NAME), Elected(NAME, a.fence(NAME))]


async def test_a_node_that_stood_still_asks_again(tmp_path: Path) -> None:
    """It compares with others, and its next fence is above all."""
    async with cluster(2, directory=tmp_path) as (a, b), a.mailbox() as me:
        await settled(a, b)
        first = await a.lead(NAME, pid=me.pid)
        await eventually(lambda: b.high_water(NAME) == first.fence)
        block(a)  # Both nodes: they share a loop.
        assert await me.receive(timeout=5) == Revoked(NAME)
        again = await me.receive(timeout=10)
        assert first.fence is not None
        assert isinstance(again, Elected)
        assert again.fence > first.fence
        await eventually(lambda: b.high_water(NAME) == again.fence)


# Terms as blocks.


async def test_a_term_is_a_block_that_is_cancelled_when_it_is_revoked(
    tmp_path: Path,
) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        seen: list[Term] = []
        done: list[str] = []

        async def work() -> None:
            async for term in b.leadership(NAME):
                seen.append(term)
                async with term:
                    await asyncio.Event().wait()
                    done.append("not cancelled")
                done.append("next")

        working = asyncio.create_task(work())
        await eventually(lambda: b.is_leader(NAME))
        pid = a.spawn(idle)
        await a.lead(NAME, pid=pid)
        await eventually(lambda: done == ["next"])
        assert seen[0].lost
        with pytest.raises(LeadershipLost) as lost:
            seen[0].check()
        assert lost.value.code == "revoked"
        assert b.leader(NAME) == (a.name, pid)
        await a.resign(NAME)
        await eventually(lambda: len(seen) == 2)
        assert seen[1].fence > seen[0].fence
        seen[1].check()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        await eventually(lambda: b.candidates(NAME) == [])


async def test_a_block_is_cancelled_after_a_pause_and_told_so_before(
    tmp_path: Path,
) -> None:
    async with (
        cluster(1, directory=tmp_path) as (a,),
        aclosing(a.leadership(NAME)) as terms,
    ):
        term = await within(anext(terms))
        steps: list[bool] = []
        async with term:
            asyncio.get_running_loop().call_later(0.05, block, a)
            while True:
                steps.append(a.is_leader(NAME))
                await asyncio.sleep(0.01)  # not synchronisation: it works
        assert term.lost
        # What was about to run when the loop was held still does, and is told.
        assert sum(not leads for leads in steps) <= 1
        assert all(steps[:-1])
        again = await within(anext(terms))
        assert again.fence > term.fence


async def test_leaving_the_loop_resigns(tmp_path: Path) -> None:
    async with cluster(1, directory=tmp_path) as (a,):
        processes = a._running().processes
        before = len(processes)
        async for term in a.leadership(NAME):
            async with term:
                assert a.fence(NAME) == term.fence
                assert len(processes) == before + 1
            break
        await eventually(lambda: a.candidates(NAME) == [])
        await eventually(lambda: len(processes) == before)


async def test_a_loop_that_was_left_can_be_entered_again_at_once(
    tmp_path: Path,
) -> None:
    async with cluster(1, directory=tmp_path) as (a,):
        processes = a._running().processes
        before = len(processes)
        fences: list[int] = []
        errors: list[ValueError] = []
        for _ in range(3):
            async for term in a.leadership(NAME):
                fences.append(term.fence)
                break
            try:
                async for after in a.leadership(NAME):
                    fences.append(after.fence)
                    raise ValueError
            except ValueError as error:
                errors.append(error)  # It holds this frame, and not the loop.
        assert fences == sorted(set(fences))
        assert len(fences) == 2 * len(errors) == 6
        await a.lead(NAME, pid=a.spawn(idle))
        await a.resign(NAME)
        await eventually(lambda: a.candidates(NAME) == [])
        await eventually(lambda: len(processes) == before + 1)


async def test_two_cannot_wait_for_the_terms_of_one_loop(tmp_path: Path) -> None:
    async with cluster(1, directory=tmp_path) as (a,):
        terms = a.leadership(NAME)
        async with aclosing(terms):
            await within(anext(terms))
            waiting = asyncio.ensure_future(anext(terms))
            await asyncio.sleep(0)
            with pytest.raises(Conflict):
                await anext(terms)
        with pytest.raises(StopAsyncIteration):
            await within(waiting)
        assert a.candidates(NAME) == []


async def test_a_process_that_leads_by_terms_is_the_candidate(tmp_path: Path) -> None:
    async with cluster(1, directory=tmp_path) as (a,):
        heard: list[object] = []

        async def serve(me: Process) -> None:
            async for term in a.leadership(NAME):
                async with term:
                    heard.extend(await me.receive_many())

        pid = a.spawn(serve)
        await eventually(lambda: a.is_leader(NAME))
        assert a.leader(NAME) == (a.name, pid)
        await a.send(pid, "hello")
        await eventually(lambda: heard == ["hello"])
        await pid.exit("shutdown")
        await eventually(lambda: a.candidates(NAME) == [])


async def test_a_loop_of_terms_ends_with_its_node(tmp_path: Path) -> None:
    ends: list[str] = []
    async with cluster(1, directory=tmp_path) as (a,):

        async def work() -> None:
            async for term in a.leadership(NAME):
                async with term:
                    try:
                        await asyncio.Event().wait()
                    finally:
                        ends.append("block")
            ends.append("loop")

        working = asyncio.create_task(work())
        await eventually(lambda: a.is_leader(NAME))
        await a.stop()
        await within(working)
    assert ends == ["block", "loop"]
    with pytest.raises(NotStarted):
        a.leadership(NAME)


async def test_a_cancellation_from_elsewhere_is_not_swallowed(tmp_path: Path) -> None:
    async with cluster(1, directory=tmp_path) as (a,):
        inside = asyncio.Event()

        async def work() -> None:
            async for term in a.leadership(NAME):
                async with term:
                    inside.set()
                    await asyncio.Event().wait()

        working = asyncio.create_task(work())
        await within(inside.wait())
        await a.resign(NAME)  # The term ends, and so does the loop.
        await within(working)
        working = asyncio.create_task(work())
        inside.clear()
        await within(inside.wait())
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working


async def test_a_block_that_ends_as_it_is_cancelled_leaves_no_cancellation(
    tmp_path: Path,
) -> None:
    async with (
        cluster(1, directory=tmp_path) as (a,),
        aclosing(a.leadership(NAME)) as terms,
    ):
        term = await within(anext(terms))
        async with term:
            block(a)
            with pytest.raises(LeadershipLost):
                term.check()
            assert not a.is_leader(NAME)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        with pytest.raises(LeadershipLost):
            async with term:
                pass
        other = await within(anext(terms))
        with pytest.raises(ValueError, match="of its own"):
            async with other:
                raise ValueError("of its own")
        async with other:
            with pytest.raises(Conflict):
                await other.__aenter__()


# Subscribers.


async def test_subscribers_hear_of_this_node_s_candidates(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path) as (a, b), a.mailbox() as me:
        await a.subscribe_leaders(me.pid)
        async with a.leader_events(name="other") as other:
            pid = a.spawn(idle)
            await settled(a)
            role = await a.lead(NAME, pid=pid)
            assert await me.receive(timeout=5) == Elected(NAME, role.fence or 0)
            await a.resign(NAME)
            assert await me.receive(timeout=5) == Revoked(NAME)
            await a.unsubscribe_leaders(me.pid)
            role = await a.lead("other", pid=pid)
            assert await other.next(timeout=5) == Elected("other", role.fence or 0)
        await b.lead(NAME, pid=b.spawn(idle))
        await eventually(lambda: a.candidates(NAME) != [])
        assert me.drain() == []


# A room that begins anew.


async def test_candidates_are_told_when_the_room_begins_anew(tmp_path: Path) -> None:
    """Defect of the original: it forgot them without a word."""
    async with (
        cluster(2, directory=tmp_path) as (a, b),
        a.mailbox() as me,
        a.leader_events() as events,
    ):
        await settled(a, b)
        first = await a.lead(NAME, pid=me.pid)
        assert (await events.next(timeout=5)) == Elected(NAME, first.fence or 0)
        await b.lead("theirs", pid=b.spawn(idle))
        await eventually(lambda: a.candidates("theirs") != [])
        a._running().leaders.restart()
        assert await me.receive(timeout=5) == Revoked(NAME)
        again = await me.receive(timeout=5)
        assert isinstance(again, Elected)
        assert first.fence is not None
        assert again.fence == a.fence(NAME) > first.fence
        assert a.leader("theirs")[0] == b.name
        told = [await events.next(timeout=5) for _ in range(2)]
        assert told == [Revoked(NAME), again]
        await eventually(lambda: b.high_water(NAME) == again.fence)


async def test_a_defect_in_deciding_ends_terms_and_not_the_room(tmp_path: Path) -> None:
    async with cluster(1, directory=tmp_path) as (a,), a.mailbox() as me:
        for name in (NAME, "other"):
            await a.lead(name)
        leaders = a._running().leaders
        del leaders._machine._inputs[Withdraw]  # The defect.
        await a.resign("other")
        assert me.drain() == [Revoked(NAME), Elected(NAME, a.fence(NAME))]
        assert a.candidates("other") == []
        await a.resign(NAME)
        assert (await a.lead(NAME)).leader


async def test_programs_of_the_host_are_told_who_leads(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        await settled(a, b)
        operations = Operations(a)
        watching = await operations.perform(WatchEvents(("leader",)))
        assert isinstance(watching, AsyncGenerator)
        async with aclosing(watching) as told:
            assert (await anext(told))["event"] == "watching"
            pid = a.spawn(idle)
            role = await a.lead(("room", 7), pid=pid, priority=2)
            event = await within(anext(told))
        assert (event["event"], event["fence"]) == ("elected", role.fence)
        await b.lead(("room", 7), pid=b.spawn(idle))
        await eventually(lambda: len(a.candidates(("room", 7))) == 2)
        answer = await operations.perform(Elections())
        assert answer == await operations.perform(Elections(["room", 7], False))
        assert isinstance(answer, dict)
        (room,) = answer["leaders"]
        assert (room["name"], room["leader"]) == (["room", 7], a.name)
        assert room["fence"] == role.fence
        priorities = [(each["node"], each["priority"]) for each in room["candidates"]]
        assert priorities == [(a.name, 2), (b.name, 0)]

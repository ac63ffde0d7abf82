"""Links, monitors and exits, on one node and across two."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from barrel_p2p.core.events import Down, Exit
from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import InvalidValue, NoProc
from barrel_p2p.runtime.process import Process, ProcessExit
from tests.endpoints import eventually, within
from tests.runtime_nodes import lone_node, lose, two_nodes

pytestmark = pytest.mark.every_loop


async def idle(process: Process) -> None:
    """A process that only ends when it is told to."""
    await process.receive(lambda message: False)


async def obeys(process: Process) -> None:
    """Ends with the reason it is sent."""
    raise ProcessExit((await process.receive())[0])


async def linked_to(process: Process, other: Pid, told: Pid) -> None:
    process.link(other)
    await told.send("linked")
    await idle(process)


async def test_a_monitor_tells_how_a_process_ended_once() -> None:
    async with lone_node() as node, node.processes.mailbox() as me:
        pid = node.processes.spawn(obeys).pid
        ref = me.monitor(pid)
        await pid.send(("done",))
        assert await within(me.receive()) == Down(ref, pid, "done")
        again = me.monitor(pid)
        assert await within(me.receive()) == Down(again, pid, "noproc")
        assert len(node.processes.ties._machine.monitors) == 0


async def test_a_monitor_across_nodes_tells_how_a_process_ended() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        pid = b.processes.spawn(obeys).pid
        ref = me.monitor(pid)
        await pid.send((("some", {"term": 1}),))
        assert await within(me.receive()) == Down(ref, pid, ("some", {"term": 1}))
        again = me.monitor(pid)
        assert await within(me.receive()) == Down(again, pid, "noproc")


async def test_a_down_comes_after_what_the_process_sent_before_it_ended() -> None:
    async def talks(process: Process, to: Pid) -> None:
        await process.receive()
        for i in range(2_000):
            await to.send((i, b"x" * 100))

    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        pid = b.processes.spawn(talks, me.pid).pid
        me.monitor(pid)
        await pid.send("go")
        got = [await within(me.receive()) for _ in range(2_001)]
        assert [m[0] for m in got[:2_000]] == list(range(2_000))
        assert isinstance(got[-1], Down)


async def test_an_untrapping_linker_dies_of_the_same_reason() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        for where in (a, b):
            victim = where.processes.spawn(obeys)
            linker = a.processes.spawn(linked_to, victim.pid, me.pid)
            ref = me.monitor(linker.pid)
            assert await within(me.receive()) == "linked"
            await victim.pid.send(("broken",))
            assert await within(me.receive()) == Down(ref, linker.pid, "broken")


async def test_a_link_works_from_the_side_that_did_not_make_it() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        victim = b.processes.spawn(idle)
        linker = a.processes.spawn(linked_to, victim.pid, me.pid)
        assert await within(me.receive()) == "linked"
        ref = me.monitor(victim.pid)
        await linker.pid.exit("broken")
        assert await within(me.receive()) == Down(ref, victim.pid, "broken")


async def test_a_normal_end_spares_an_untrapping_linker() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        victim = b.processes.spawn(obeys)
        linker = a.processes.spawn(linked_to, victim.pid, me.pid)
        assert await within(me.receive()) == "linked"
        ref = me.monitor(victim.pid)
        await victim.pid.send(("normal",))
        assert (await within(me.receive())).ref == ref
        await within(asyncio.sleep(0))
        assert a.switch.box_of(linker.pid.id) is not None


async def test_a_trapping_process_gets_exits_as_messages() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        victim = b.processes.spawn(obeys).pid
        me.link(victim)
        await victim.send(("normal",))
        assert await within(me.receive()) == Exit(victim, "normal")
        me.link(victim)
        assert await within(me.receive()) == Exit(victim, "noproc")


async def test_kill_cannot_be_trapped_and_its_linkers_see_killed() -> None:
    async def stubborn(process: Process) -> None:
        process.trap_exit = True
        while True:
            try:
                await process.receive()
            except asyncio.CancelledError:
                await asyncio.sleep(0)

    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        for where in (a, b):
            process = where.processes.spawn(stubborn)
            me.link(process.pid)
            await process.pid.send("hello")
            await eventually(lambda box=process._box: len(box) == 0)  # type: ignore[misc]
            await process.pid.exit("kill")
            assert await within(me.receive()) == Exit(process.pid, "killed")
            assert where.switch.box_of(process.pid.id) is None
            assert process._task is not None
            await within(asyncio.wait([process._task]))


async def test_an_exit_signal_ends_or_is_trapped() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        process = b.processes.spawn(idle)
        ref = me.monitor(process.pid)
        await process.pid.exit("normal")
        await process.pid.exit("enough")
        assert await within(me.receive()) == Down(ref, process.pid, "enough")
        await me.pid.exit("for me")
        assert await within(me.receive()) == Exit(me.pid, "for me")


async def test_after_unlink_no_exit_of_that_link_arrives() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        victim = b.processes.spawn(obeys).pid
        me.link(victim)
        ref = me.monitor(victim)
        await victim.send(("broken",))
        me.unlink(victim)  # The signal may be under way already.
        assert await within(me.receive()) == Down(ref, victim, "broken")
        assert len(me._box) == 0
        await eventually(lambda: len(b.processes.ties._machine.links) == 0)


async def test_demonitor_drops_a_down_that_is_queued() -> None:
    async with lone_node() as node, node.processes.mailbox() as me:
        pid = node.processes.spawn(obeys).pid
        ref = me.monitor(pid)
        await me.pid.send("before")
        await pid.send(("done",))
        await eventually(lambda: len(me._box) == 2)
        me.demonitor(ref, flush=False)
        assert len(me._box) == 2
        me.demonitor(ref)
        assert await me.receive_many() == ["before"]


async def test_a_lost_channel_fires_every_tie_once() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        victim = b.processes.spawn(idle).pid
        me.link(victim)
        ref = me.monitor(victim)
        async with b.processes.mailbox() as other:
            back = other.monitor(me.pid)
            await other.pid.send("x")
            await lose(a, b)
            got = await within(me.receive_many())
            assert got == [
                Exit(victim, "noconnection"),
                Down(ref, victim, "noconnection"),
            ]
            assert await within(other.receive(Down)) == Down(
                back, me.pid, "noconnection"
            )
        assert len(a.processes.ties._machine.links) == 0
        assert len(b.processes.ties._machine.monitors) == 0


async def test_a_pid_of_an_earlier_life_is_noproc() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        live = b.processes.spawn(idle).pid
        for pid in (Pid("b@h", live.id, 7), Pid("a@h", me.pid.id, 7)):
            ref = me.monitor(pid)
            assert await within(me.receive()) == Down(ref, pid, "noproc")
            me.link(pid)
            assert await within(me.receive()) == Exit(pid, "noproc")


async def test_a_name_can_be_monitored_here_and_there() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        for node in (a, b):
            process = node.processes.spawn(obeys, name=("greeter", 1))
            at = At(("greeter", 1), node.name)
            ref = me.monitor(at)
            await process.pid.send(("done",))
            assert await within(me.receive()) == Down(ref, at, "done")
            again = me.monitor(at)
            assert await within(me.receive()) == Down(again, at, "noproc")


async def test_a_name_s_monitor_can_be_undone() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        process = b.processes.spawn(obeys, name="greeter")
        ref = me.monitor(At("greeter", "b@h"))
        await eventually(lambda: len(b.processes.ties._machine.monitors) == 1)
        me.demonitor(ref)
        await eventually(lambda: len(b.processes.ties._machine.monitors) == 0)
        await process.pid.exit("enough")


async def test_a_monitor_dials_and_says_noconnection_when_that_fails() -> None:
    async def dial(name: str) -> None:
        raise OSError(name)

    async with lone_node() as node, node.processes.mailbox() as me:
        pid = Pid("far@h", 1, 1)
        for node.switch.dial in (dial, None):
            ref = me.monitor(pid)
            me.link(pid)
            assert await within(me.receive()) == Exit(pid, "noconnection")
            assert await within(me.receive()) == Down(ref, pid, "noconnection")


async def test_what_waits_for_a_dial_is_sent_when_the_channel_is_up() -> None:
    async with lone_node("a@h") as a, lone_node("b@h") as b:

        async def dial(name: str) -> None:
            near, far = await asyncio.gather(
                a.endpoint.connect(*b.endpoint.address), b.endpoint.accept()
            )
            b.meet(far, "a@h")
            a.meet(near, "b@h")

        a.switch.dial = dial
        async with a.processes.mailbox() as me:
            victim = b.processes.spawn(obeys).pid
            old = Pid("b@h", victim.id, 9)
            me.link(victim)
            ref, stale = me.monitor(victim), me.monitor(old)
            assert await within(me.receive()) == Down(stale, old, "noproc")
            await victim.send(("done",))
            got = [await within(me.receive()) for _ in range(2)]
            assert got == [Exit(victim, "done"), Down(ref, victim, "done")]


async def test_reasons_that_are_no_terms_become_text() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError

    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        for reason, text in (
            (Odd(), "<Odd>"),
            (ValueError("x"), "ValueError('x')"),
            ("\ud800", "'\\ud800'"),
        ):

            async def ends(process: Process, reason: Any = reason) -> None:
                await process.receive()
                raise ProcessExit(reason)

            for node in (a, b):
                pid = node.processes.spawn(ends).pid
                ref = me.monitor(pid)
                await pid.send("go")
                assert await within(me.receive()) == Down(ref, pid, text)


async def test_spawn_link_and_spawn_monitor_tie_from_the_first_moment() -> None:
    async def crashes(process: Process) -> None:
        raise ProcessExit("at once")

    async with lone_node() as node:
        with pytest.raises(InvalidValue, match="spawn_link"):
            node.processes.spawn_link(crashes)
        async with node.processes.mailbox() as me:
            linked = node.processes.spawn_link(crashes)
            assert await within(me.receive()) == Exit(linked, "at once")
            pid, ref = node.processes.spawn_monitor(crashes)
            assert await within(me.receive()) == Down(ref, pid, "at once")


async def test_a_process_that_is_ended_before_its_first_step_is_seen_to_end() -> None:
    async with lone_node() as node, node.processes.mailbox() as me:
        pid, ref = node.processes.spawn_monitor(idle)
        await pid.exit("too soon")
        assert await within(me.receive()) == Down(ref, pid, "too soon")


async def test_a_closed_mailbox_says_so_and_does_not_spin() -> None:
    async with lone_node() as node:
        async with node.processes.mailbox() as me:
            await me.pid.exit("kill")
            with pytest.raises(NoProc):
                await within(me.receive())
        with pytest.raises(NoProc):
            await within(me.receive("tag"))
        with pytest.raises(NoProc):
            await within(me.receive_many())


async def test_a_mailbox_sends_as_itself() -> None:
    async def says_who(process: Process) -> None:
        call = await process.receive()
        call.reply(call.caller)

    async with lone_node() as node:
        async with node.processes.mailbox() as me:
            pid = node.processes.spawn(says_who).pid
            assert await pid.call("who?") == me.pid
        assert await node.processes.spawn(says_who).pid.call("who?") == node.pid(0)


async def test_timers_fire_in_time_or_are_cancelled() -> None:
    async with (
        two_nodes() as (a, b),
        b.processes.mailbox() as far,
        a.processes.mailbox() as me,
    ):
        cancelled = me.send_after(0.001, me.pid, "cancelled")
        assert me.cancel_timer(cancelled)
        assert not me.cancel_timer(cancelled)
        fired = me.send_after(0, me.pid, "now")
        assert await within(me.receive()) == "now"
        assert not me.cancel_timer(fired)
        me.send_after(0.002, far.pid, "far")
        assert await within(far.receive()) == "far"
        for delay in (-1, float("nan"), 1e9):
            with pytest.raises(InvalidValue, match="TIMER_SECONDS_MAX"):
                me.send_after(delay, me.pid, "x")


async def test_the_timers_of_a_process_end_with_it() -> None:
    async def sets(process: Process, to: Pid) -> None:
        process.send_after(0, to, "never")

    async with lone_node() as node, node.processes.mailbox() as me:
        node.processes.spawn(sets, me.pid)
        me.send_after(0.01, me.pid, "mine")
        assert await within(me.receive()) == "mine"
        assert len(node.processes._timers) == 0

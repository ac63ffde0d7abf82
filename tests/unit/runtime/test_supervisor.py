"""A supervisor starts its children in order, restarts them, and takes them along."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from barrel_p2p.core.events import Down
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import Conflict, InvalidValue, NoProc, Overloaded
from barrel_p2p.runtime import supervisor as module
from barrel_p2p.runtime.process import Process, ProcessExit
from barrel_p2p.runtime.server import GenServer, start_server
from barrel_p2p.runtime.supervisor import (
    ChildSpec,
    DynamicSupervisor,
    Supervisor,
)
from tests.endpoints import eventually, within
from tests.runtime_nodes import RuntimeNode, lone_node

pytestmark = pytest.mark.every_loop

log: list[tuple[str, Any]] = []


@pytest.fixture(autouse=True)
def empty_log() -> None:
    log.clear()
    Worker.broken.clear()


class Worker(GenServer):
    """Says when it starts and ends; crashes when told to."""

    broken: ClassVar[set[str]] = set()

    async def init(self, label: str) -> None:
        if label in self.broken:
            raise ValueError(f"{label} is broken")
        self.label = label
        log.append(("start", label))

    async def handle_info(self, message: Any) -> None:
        match message:
            case "crash":
                raise RuntimeError(self.label)
            case ("stop", reason):
                self.stop(reason)

    async def terminate(self, reason: object) -> None:
        log.append(("end", self.label))


class Stubborn(Worker):
    """Does not end when it should."""

    async def terminate(self, reason: object) -> None:
        log.append(("asked", self.label))
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            log.append(("gone", self.label))


def worker(label: str, **kwargs: Any) -> ChildSpec:
    return ChildSpec(server=Worker, args=(label,), name=label, **kwargs)


def family(strategy: Any, *specs: ChildSpec, most: int = 5) -> type[Supervisor]:
    class Family(Supervisor):
        intensity = most
        children = specs

    Family.strategy = strategy
    return Family


ABC = (worker("a"), worker("b"), worker("c"))


async def running(node: RuntimeNode, *labels: str) -> list[Pid]:
    await eventually(
        lambda: all(node.processes.whereis(label) is not None for label in labels)
    )
    pids = [node.processes.whereis(label) for label in labels]
    return [pid for pid in pids if pid is not None]


async def gone(node: RuntimeNode, pid: Pid) -> None:
    await eventually(lambda: node.switch.box_of(pid.id) is None)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", [("end", "b"), ("start", "b")]),
        (
            "one_for_all",
            [
                *[("end", "b"), ("end", "c"), ("end", "a")],
                *[("start", "a"), ("start", "b"), ("start", "c")],
            ],
        ),
        ("rest_for_one", [("end", "b"), ("end", "c"), ("start", "b"), ("start", "c")]),
    ],
)
async def test_children_restart_as_the_strategy_says(
    strategy: str, expected: list[tuple[str, str]]
) -> None:
    async with lone_node() as node:
        pid = await start_server(node.processes, family(strategy, *ABC))
        assert log == [("start", "a"), ("start", "b"), ("start", "c")]
        log.clear()
        before = await running(node, "a", "b", "c")
        await before[1].send("crash")
        await eventually(lambda: len(log) == len(expected))
        assert log == expected
        after = await running(node, "a", "b", "c")
        assert before[1] != after[1]
        supervisor = Supervisor.at(pid)
        await eventually(lambda: [c.pid for c in supervisor.which_children()] == after)


async def test_a_supervisor_stops_its_children_in_reverse_and_none_outlives_it() -> (
    None
):
    async with lone_node() as node:
        pid = await start_server(node.processes, family("one_for_one", *ABC))
        log.clear()
        box = node.switch.box_of(pid.id)
        assert box is not None
        node.processes.end(box.owner, "shutdown")
        await eventually(lambda: len(node.processes) == 0)
        assert log == [("end", "c"), ("end", "b"), ("end", "a")]
        with pytest.raises(NoProc):
            Supervisor.at(pid)


async def test_children_of_a_killed_supervisor_end_too() -> None:
    class Outer(Supervisor):
        async def init(self) -> None:
            self.inner = await self.start_child(family("one_for_one", *ABC))

    async with lone_node() as node:
        pid = await start_server(node.processes, Outer)
        box = node.switch.box_of(pid.id)
        assert box is not None
        node.processes.kill(box.owner)
        await eventually(lambda: len(node.processes) == 0)


async def test_too_many_restarts_end_the_supervisor_and_its_own_sees_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inner = family("one_for_one", worker("a"), worker("b"), most=2)
    outer = family("one_for_one", ChildSpec(server=inner, name="inner"))
    async with lone_node() as node, node.processes.mailbox() as me:
        await start_server(node.processes, outer)
        (first,) = await running(node, "inner")
        ref = me.monitor(first)
        for _ in range(3):
            (pid,) = await running(node, "a")
            await pid.send("crash")
            await gone(node, pid)
        assert await within(me.receive()) == Down(ref, first, "shutdown")
        assert "gives up" in caplog.text
        (second,) = await running(node, "inner")
        assert second != first
        await running(node, "a", "b")


async def test_a_child_that_cannot_start_again_uses_up_the_restarts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with lone_node() as node, node.processes.mailbox() as me:
        pid = await start_server(node.processes, family("rest_for_one", *ABC, most=3))
        ref = me.monitor(pid)
        (b,) = await running(node, "b")
        Worker.broken.add("c")
        log.clear()
        await b.send("crash")
        assert await within(me.receive()) == Down(ref, pid, "shutdown")
        assert caplog.text.count("could not restart") == 3
        assert len(node.processes) == 1  # the mailbox of this test
        assert log[-1] == ("end", "a")


async def test_children_that_end_together_restart_once() -> None:
    async with lone_node() as node:
        pid = await start_server(node.processes, family("one_for_all", *ABC, most=1))
        before = await running(node, "a", "b", "c")
        for one in before[:2]:
            box = node.switch.box_of(one.id)
            assert box is not None
            node.processes.kill(box.owner)
        supervisor = Supervisor.at(pid)
        await eventually(lambda: log.count(("start", "c")) == 2)
        after = await running(node, "a", "b", "c")
        await eventually(lambda: [c.pid for c in supervisor.which_children()] == after)
        assert not set(before) & set(after)
        assert supervisor.dropped == 0


async def test_a_start_that_fails_leaves_nothing_behind() -> None:
    Worker.broken.add("c")
    async with lone_node() as node:
        with pytest.raises(ValueError, match="c is broken"):
            await start_server(node.processes, family("one_for_one", *ABC))
        await eventually(lambda: len(node.processes) == 0)
        assert log[2:] == [("end", "b"), ("end", "a")]


async def test_a_transient_child_restarts_only_when_it_failed() -> None:
    class Kinds(Supervisor):
        async def init(self) -> None:
            for restart in ("transient", "temporary"):
                await self.start_child(
                    Worker,
                    restart,
                    name=restart,
                    restart=restart,
                )

    async with lone_node() as node:
        pid = await start_server(node.processes, Kinds)
        supervisor = Supervisor.at(pid)
        transient, temporary = await running(node, "transient", "temporary")
        await transient.send("crash")
        await temporary.send("crash")
        await eventually(
            lambda: [c.spec.name for c in supervisor.which_children()] == ["transient"]
        )
        (again,) = await running(node, "transient")
        await again.send(("stop", "normal"))
        await eventually(lambda: supervisor.which_children()[0].pid is None)
        assert log[-1] == ("end", "transient")


async def test_a_child_that_does_not_end_in_time_is_killed() -> None:
    class Slow(Supervisor):
        async def init(self) -> None:
            await self.start_child(Stubborn, "x", shutdown=0.05)
            await self.start_child(Stubborn, "y", shutdown=0)

    async with lone_node() as node:
        pid = await start_server(node.processes, Slow)
        supervisor = Supervisor.at(pid)
        for child in supervisor.which_children():
            assert child.pid is not None
            await within(supervisor.terminate_child(child.pid))
        await eventually(lambda: ("gone", "x") in log)
        assert ("asked", "x") in log
        assert ("asked", "y") not in log
        assert supervisor.which_children() == []


async def test_children_start_restart_and_stop_on_demand() -> None:
    async with lone_node() as node:
        pid = await start_server(node.processes, Supervisor)
        supervisor = Supervisor.at(pid)
        child = await supervisor.start_child(Worker, "a", name="a")
        with pytest.raises(Conflict):
            await supervisor.start_child(Worker, "a", name="a")
        Worker.broken.add("b")
        with pytest.raises(ValueError, match="broken"):
            await supervisor.start_child(Worker, "b")
        again = await supervisor.restart_child(child)
        assert again != child
        with pytest.raises(NoProc, match="no child"):
            await supervisor.terminate_child(child)
        await supervisor.terminate_child(again)
        assert supervisor.which_children() == []
        assert log == [("start", "a"), ("end", "a"), ("start", "a"), ("end", "a")]
        assert supervisor.dropped == 0


async def test_orders_to_a_supervisor_that_ends_fail() -> None:
    class Never(GenServer):
        async def init(self) -> None:
            await asyncio.get_running_loop().create_future()

    async with lone_node() as node:
        pid = await start_server(node.processes, Supervisor)
        supervisor = Supervisor.at(pid)
        starts = [
            asyncio.ensure_future(supervisor.start_child(Never)) for _ in range(3)
        ]
        await eventually(lambda: len(node.processes) == 2)
        box = node.switch.box_of(pid.id)
        assert box is not None
        node.processes.end(box.owner, "shutdown")
        for start in starts:
            with pytest.raises(NoProc):
                await within(start)
        await eventually(lambda: len(node.processes) == 0)
        with pytest.raises(NoProc):
            await supervisor.start_child(Worker, "a")


async def test_a_function_may_be_a_child() -> None:
    async def beat(process: Process, label: str) -> None:
        log.append(("start", label))
        raise ProcessExit(await process.receive())

    class Functions(Supervisor):
        children = (ChildSpec(server=beat, args=("f",), name="f"),)

    async with lone_node() as node:
        await start_server(node.processes, Functions)
        (pid,) = await running(node, "f")
        await pid.send("normal")
        await eventually(lambda: len(log) == 2)


async def test_a_dynamic_supervisor_holds_many_and_forgets_those_that_are_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHILDREN_MAX", 50)
    async with lone_node() as node:
        pid = await start_server(node.processes, DynamicSupervisor)
        pool = Supervisor.at(pid)
        pids = await asyncio.gather(
            *[pool.start_child(Worker, str(i), restart="transient") for i in range(50)]
        )
        with pytest.raises(Overloaded):
            await pool.start_child(Worker, "more")
        for one in pids[:20]:
            await one.send(("stop", "normal"))
        await eventually(lambda: len(pool.which_children()) == 30)
        await pids[30].send("crash")
        await eventually(lambda: log.count(("start", "30")) == 2)
        box = node.switch.box_of(pid.id)
        assert box is not None
        node.processes.end(box.owner, "shutdown")
        await eventually(lambda: len(node.processes) == 0)


def test_specs_are_checked() -> None:
    with pytest.raises(InvalidValue, match="none of"):
        worker("a", restart="always")
    with pytest.raises(InvalidValue, match="below 0"):
        worker("a", shutdown=-1)

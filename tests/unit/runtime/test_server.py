"""A server answers one request after another, and outlives whatever its callers do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from barrel_p2p.core.events import Down
from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import (
    CallTimeout,
    Conflict,
    InvalidValue,
    NoProc,
    NoSuchFunction,
    Overloaded,
    RemoteError,
)
from barrel_p2p.runtime import addresses, server_loop
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.proxy import proxy
from barrel_p2p.runtime.server import NO_REPLY, GenServer, start_server
from barrel_p2p.runtime.verbs import REQUEST_TAG, call, cast
from tests.endpoints import eventually, within
from tests.runtime_nodes import RuntimeNode, lone_node, lose, two_nodes

pytestmark = pytest.mark.every_loop


class Counter(GenServer):
    """Counts, and remembers what happened to it."""

    async def init(self, start: int = 0) -> None:
        self.value = start
        self.seen: list[object] = []
        self.later: list[Any] = []

    @call
    async def add(self, amount: int = 1, *, twice: bool = False) -> int:
        """Add, and tell the sum."""
        self.value += 2 * amount if twice else amount
        return self.value

    @call
    async def fail(self, text: str) -> None:
        raise LookupError(text)

    @call
    async def unnameable(self) -> None:
        raise OSError("no such file: \udcff")

    @call
    async def hang(self) -> None:
        begun.append(self)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise

    @call
    async def swallow(self) -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.seen.append("swallowed")
        return "too late"

    @call
    async def wait_for_cancelled(self) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    @call(concurrent=True)
    async def wait(self, gate: str) -> str:
        await self.gates.setdefault(gate, asyncio.Event()).wait()
        return gate

    @cast
    async def open(self, gate: str) -> None:
        self.gates.setdefault(gate, asyncio.Event()).set()

    @call
    async def defer(self) -> Any:
        self.later.append(self.current_call)
        return NO_REPLY

    @cast
    async def answer(self, value: int) -> None:
        self.later.pop(0).reply(value)

    @call
    async def seen_so_far(self) -> list[object]:
        return list(self.seen)

    @call
    async def unsendable(self) -> Any:
        return object()

    @call
    async def blob(self, size: int) -> bytes:
        return bytes(size)

    @call
    async def quit(self, reason: str) -> str:
        self.stop(reason)
        return "bye"

    async def handle_call(self, request: Any, caller: Pid) -> Any:
        if request == "who":
            return caller
        return await super().handle_call(request, caller)

    async def handle_cast(self, request: Any) -> None:
        self.seen.append(("cast", request))

    async def handle_info(self, message: Any) -> None:
        if message == "crash":
            raise RuntimeError("told to")
        self.seen.append(("info", message))

    async def terminate(self, reason: object) -> None:
        ends.append(reason)

    gates: dict[str, asyncio.Event]

    def __init__(self) -> None:
        self.gates = {}


ends: list[object] = []
begun: list[Counter] = []


@pytest.fixture(autouse=True)
def no_ends() -> None:
    ends.clear()
    begun.clear()


async def counter_on(node: RuntimeNode, **kwargs: Any) -> tuple[Pid, Counter]:
    pid = await start_server(node.processes, Counter, **kwargs)
    return pid, proxy(node.switch.origin, Counter, pid)


async def test_a_proxy_calls_and_casts() -> None:
    async with lone_node() as node:
        pid = await start_server(node.processes, Counter, 5, name="counter")
        counter = proxy(node.switch.origin, Counter, pid)
        assert await counter.add() == 6
        assert await counter.add(4) == 10
        assert await counter.add(1, twice=True) == 12
        await counter.open("gate")
        assert await counter.wait("gate") == "gate"
        assert counter.add.__doc__ == "Add, and tell the sum."


async def test_a_proxy_calls_across_nodes_by_pid_and_by_name() -> None:
    async with two_nodes() as (a, b):
        pid = await start_server(b.processes, Counter, name=("counter", 1))
        for to in (pid, At(("counter", 1), "b@h")):
            counter = proxy(a.switch.origin, Counter, to)
            assert await within(counter.add()) >= 1
            await counter.open("gate")
            assert await within(counter.wait("gate")) == "gate"
        at = At(("counter", 1), "b@h")
        await addresses.send(a.switch.origin, at, "hello")
        await addresses.cast(a.switch.origin, at, {"k": 1})
        # Messages to a name travel in one order, and so do calls to it.
        seen = await proxy(a.switch.origin, Counter, at).seen_so_far()
        assert seen == [("info", "hello"), ("cast", {"k": 1})]
        with pytest.raises(NoProc):
            await addresses.call(a.switch.origin, At("nobody", "b@h"), 1)


async def test_a_name_on_this_node_is_resolved_here() -> None:
    async with lone_node() as node:
        me = node.switch.origin
        with pytest.raises(NoProc, match="nobody has the name 'counter'"):
            await addresses.send(me, "counter", 1)
        with pytest.raises(NoProc):
            proxy(me, Counter, At("counter", "a@h"))
        await start_server(node.processes, Counter, name="counter")
        assert await proxy(me, Counter, At("counter", "a@h")).add() == 1
        assert await proxy(me, Counter, "counter").add() == 2
        with pytest.raises(Conflict):
            await start_server(node.processes, Counter, name="counter")


async def test_a_proxy_has_marked_methods_only() -> None:
    async with lone_node() as node:
        _, counter = await counter_on(node)
        with pytest.raises(AttributeError, match="without @call or @cast"):
            counter.terminate  # noqa: B018 - the look-up is the test
        with pytest.raises(AttributeError, match="no method of Counter"):
            counter.nonsense  # type: ignore[attr-defined]  # noqa: B018


async def test_only_marked_methods_are_reachable() -> None:
    async with lone_node() as node:
        pid, counter = await counter_on(node)
        for name in ("init", "terminate", "stop", "handle_call", "__init__", "open"):
            with pytest.raises(NoSuchFunction):
                await pid.call((REQUEST_TAG, name, (), {}))
        for bad in (b"add", 3, ["add"], {"add": 1}):
            with pytest.raises(NoSuchFunction):
                await pid.call((REQUEST_TAG, bad, (), {}))
        await pid.cast((REQUEST_TAG, "add", (1,), {}))
        assert await counter.add() == 1


async def test_arguments_are_checked_before_the_body_runs() -> None:
    async with lone_node() as node:
        pid, counter = await counter_on(node)
        bad: list[tuple[Any, Any]] = [
            (("1",), {}),
            ((1, 2), {}),
            ((), {"twice": 1}),
            ((), {"more": 1}),
            ((1,), {"amount": 2}),
            ([1], {}),
            ((1,), [("twice", True)]),
            ((), {1: 2}),
            ((True,), {}),
        ]
        for args, kwargs in bad:
            with pytest.raises(InvalidValue, match=r"Counter\.add"):
                await pid.call((REQUEST_TAG, "add", args, kwargs))
        for gate in (1, None):
            await pid.cast((REQUEST_TAG, "open", (gate,), {}))
        assert await counter.add() == 1


async def test_an_error_of_a_call_reaches_the_caller_and_the_server_stays() -> None:
    async with two_nodes() as (a, b):
        pid = await start_server(b.processes, Counter)
        for node in (a, b):
            counter = proxy(node.switch.origin, Counter, pid)
            with pytest.raises(RemoteError, match="no such thing") as caught:
                await within(counter.fail("no such thing"))
            assert caught.value.remote_type == "LookupError"
            assert "raise LookupError(text)" in caught.value.remote_traceback
            with pytest.raises(RemoteError) as caught:
                await within(counter.wait_for_cancelled())
            assert caught.value.remote_type == "CancelledError"
        with pytest.raises(RemoteError) as caught:
            await within(proxy(a.switch.origin, Counter, pid).unsendable())
        assert caught.value.remote_type == "NotEncodable"
        assert await within(counter.add()) == 1


async def test_a_caller_that_gives_up_cancels_the_handler_alone() -> None:
    async with two_nodes() as (a, b):
        pid = await start_server(b.processes, Counter)
        for node in (a, b):
            impatient = proxy(node.switch.origin, Counter, pid, timeout=0.2)
            patient = proxy(node.switch.origin, Counter, pid)
            with pytest.raises(CallTimeout):
                await impatient.hang()
            with pytest.raises(CallTimeout):
                await impatient.swallow()
            begun.clear()
            task = asyncio.ensure_future(patient.hang())
            await eventually(lambda: bool(begun))
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert await within(patient.add()) > 0
        seen = await within(patient.seen_so_far())
        assert seen.count("swallowed") == 2
        assert seen.count("cancelled") == 4


async def test_the_handler_of_a_caller_whose_node_is_lost_is_cancelled() -> None:
    async with two_nodes() as (a, b):
        pid, counter = await counter_on(b)
        task = asyncio.ensure_future(proxy(a.switch.origin, Counter, pid).hang())
        await eventually(lambda: bool(begun))
        await lose(a, b)
        await asyncio.wait([task])
        assert await within(counter.seen_so_far()) == ["cancelled"]


async def test_ending_a_server_that_runs_a_call_ends_it_and_fails_the_call() -> None:
    async with lone_node() as node:
        pid, counter = await counter_on(node)
        running = asyncio.ensure_future(counter.hang())
        deferred = asyncio.ensure_future(counter.defer())
        waiting = asyncio.ensure_future(counter.add())
        await eventually(lambda: bool(begun))
        box = node.switch.box_of(pid.id)
        assert box is not None
        node.processes.end(box.owner, "shutdown")
        for task in (running, deferred, waiting):
            with pytest.raises(NoProc):
                await within(task)
        assert ends == ["shutdown"]


async def test_concurrent_calls_run_beside_others() -> None:
    async with lone_node() as node:
        _, counter = await counter_on(node)
        waits = [asyncio.ensure_future(counter.wait(f"g{i}")) for i in range(3)]
        assert await counter.add() == 1
        waits[1].cancel()
        for i in (2, 0):
            await counter.open(f"g{i}")
            assert await within(waits[i]) == f"g{i}"


async def test_concurrent_calls_beyond_the_limit_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_loop, "CONCURRENT_CALLS_MAX", 2)
    async with lone_node() as node:
        _, counter = await counter_on(node)
        waits = [asyncio.ensure_future(counter.wait("gate")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await counter.wait("gate")
        await counter.open("gate")
        assert await within(asyncio.gather(*waits)) == ["gate", "gate"]
        assert await counter.wait("gate") == "gate"


async def test_answers_that_fill_the_way_back_do_not_stop_the_server() -> None:
    async with two_nodes() as (a, b):
        pid, near = await counter_on(b)
        far = proxy(a.switch.origin, Counter, pid)
        blobs = [asyncio.ensure_future(far.blob(300_000)) for _ in range(60)]
        assert await within(near.add()) == 1
        assert {len(blob) for blob in await within(asyncio.gather(*blobs))} == {300_000}
        assert len(await within(far.blob(300_000))) == 300_000


async def test_a_peer_that_leaves_its_answers_is_told_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_loop, "ANSWERS_WAITING_MAX", 2)
    async with two_nodes() as (a, b):
        pid, near = await counter_on(b)
        far = proxy(a.switch.origin, Counter, pid)
        blobs = [asyncio.ensure_future(far.blob(300_000)) for _ in range(60)]
        answers = await within(asyncio.gather(*blobs, return_exceptions=True))
        kinds = {type(answer) for answer in answers}
        assert kinds == {bytes, Overloaded}
        assert await within(near.add()) == 1
        assert len(await within(far.blob(300_000))) == 300_000


async def test_an_answer_may_come_later() -> None:
    async with lone_node() as node:
        _, counter = await counter_on(node)
        first = asyncio.ensure_future(counter.defer())
        assert await counter.add() == 1
        await counter.answer(7)
        assert await within(first) == 7


async def test_a_deferred_call_fails_when_its_server_ends() -> None:
    async with lone_node() as node:
        _, counter = await counter_on(node)
        deferred = asyncio.ensure_future(counter.defer())
        assert await counter.quit("shutdown") == "bye"
        with pytest.raises(NoProc):
            await within(deferred)
        await eventually(lambda: ends == ["shutdown"])


async def test_an_error_whose_text_has_no_form_in_utf_8_is_told_all_the_same() -> None:
    async with two_nodes() as (a, b):
        pid = await start_server(b.processes, Counter)
        counter = proxy(a.switch.origin, Counter, pid)
        with pytest.raises(RemoteError, match=r"\\udcff"):
            await counter.unnameable()
        assert await counter.add(1) == 1


async def test_an_error_outside_of_calls_ends_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with lone_node() as node, node.processes.mailbox() as me:
        pid, _ = await counter_on(node)
        ref = me.monitor(pid)
        await pid.send("crash")
        reason = ("error", "RuntimeError", "told to")
        assert await within(me.receive()) == Down(ref, pid, reason)
        assert ends == [reason]
        assert "crashed" in caplog.text


async def test_an_error_of_init_is_the_starters() -> None:
    class Fails(GenServer):
        async def init(self, text: str) -> None:
            raise ValueError(text)

    async with lone_node() as node:
        with pytest.raises(ValueError, match="not today"):
            await start_server(node.processes, Fails, "not today", name="x")
        await eventually(lambda: node.processes.whereis("x") is None)


async def test_a_server_that_always_has_work_leaves_the_loop_to_others() -> None:
    class Busy(GenServer):
        async def init(self) -> None:
            await self.pid.send("again")

        async def handle_info(self, message: Any) -> None:
            await self.pid.send("again")

    async with lone_node() as node, node.processes.mailbox() as me:
        pid = await start_server(node.processes, Busy)
        await asyncio.sleep(0)
        node.processes.kill(node.switch.box_of(pid.id).owner)  # type: ignore[union-attr]
        me.monitor(pid)
        assert (await within(me.receive())).reason == "noproc"


async def test_a_server_that_traps_exits_ends_with_whom_it_was_started_for() -> None:
    class Traps(Counter):
        async def init(self, start: int = 0) -> None:
            await super().init(start)
            self.trap_exit = True

    async def parent(process: Process) -> None:
        await start_server(node.processes, Traps, name="child", link=process)
        reason = await process.receive()
        process.exit(reason)

    async with lone_node() as node:
        pid = node.processes.spawn(parent).pid
        await eventually(lambda: node.processes.whereis("child") is not None)
        await pid.send("done")
        await eventually(lambda: node.processes.whereis("child") is None)
        assert ends == ["done"]


async def test_a_start_that_is_cancelled_leaves_no_process() -> None:
    class Slow(GenServer):
        async def init(self) -> None:
            await asyncio.get_running_loop().create_future()

    async with lone_node() as node:
        task = asyncio.ensure_future(start_server(node.processes, Slow, name="x"))
        await eventually(lambda: node.processes.whereis("x") is not None)
        task.cancel()
        await asyncio.wait([task])
        assert node.processes.whereis("x") is None


async def test_the_caller_of_a_handler_is_the_process_that_called() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        pid = await start_server(b.processes, Counter)
        assert await within(pid.call("who")) == me.pid
        with pytest.raises(RemoteError, match="takes no such call"):
            await within(pid.call("what"))


async def test_strict_messages_copy_requests_and_answers() -> None:
    class Keeper(GenServer):
        @call
        async def keep(self, values: list[int]) -> list[int]:
            self.kept = values
            return values

    async with lone_node(strict=True) as node:
        pid = await start_server(node.processes, Keeper)
        mine = [1, 2]
        assert await proxy(node.switch.origin, Keeper, pid).keep(mine) is not mine


def test_an_override_must_say_again_whether_peers_reach_it() -> None:
    with pytest.raises(InvalidValue, match="without being one"):

        class Quiet(Counter):
            async def add(self, amount: int = 1, *, twice: bool = False) -> int:
                return 0

    with pytest.raises(InvalidValue, match="async methods"):

        class Plain(GenServer):
            @call  # type: ignore[arg-type]
            def plain(self) -> int:
                return 0


async def test_required_keyword_arguments_are_missed() -> None:
    class Keyed(GenServer):
        @call
        async def get(self, *, key: str) -> str:
            return key

    async with lone_node() as node:
        pid = await start_server(node.processes, Keyed)
        keyed = proxy(node.switch.origin, Keyed, pid)
        assert await keyed.get(key="k") == "k"
        for _ in range(2):
            with pytest.raises(InvalidValue, match="key"):
                await keyed.get()  # type: ignore[call-arg]

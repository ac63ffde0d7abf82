"""Exposed functions run where they were asked for, for whom they were exposed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from barrel_p2p.core.names import At
from barrel_p2p.errors import (
    CallTimeout,
    Conflict,
    InvalidValue,
    NoSuchFunction,
    Overloaded,
    PeerUnreachable,
    RemoteError,
)
from barrel_p2p.runtime import addresses
from barrel_p2p.runtime import rpc as module
from barrel_p2p.runtime.rpc import RPC_NAME, expose, exposed, multi_rpc, rpc, serve
from tests.endpoints import eventually, within
from tests.runtime_nodes import RuntimeNode, lone_node, lose, two_nodes

pytestmark = pytest.mark.every_loop

began: list[str] = []
ended: list[str] = []
gate = asyncio.Event()


@expose
def rpc_test_add(x: int, y: int = 1) -> int:
    return x + y


@expose(name="rpc_test_scaled")
async def scaled(values: list[float], *, by: float) -> list[float]:
    return [value * by for value in values]


@expose
async def rpc_test_wait(label: str) -> str:
    began.append(label)
    try:
        await gate.wait()
    except asyncio.CancelledError:
        ended.append(label)
        raise
    return label


@expose
def rpc_test_boom() -> None:
    raise KeyError("boom")


@expose(peers=["a@*", "worker-*@h"])
def rpc_test_for_a() -> str:
    return "yes"


@expose
def rpc_test_unsendable() -> Any:
    return object()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    began.clear()
    ended.clear()
    monkeypatch.setitem(globals(), "gate", asyncio.Event())


def serving(*nodes: RuntimeNode) -> None:
    for node in nodes:
        serve(node.processes)


async def test_functions_run_on_other_nodes_both_ways_and_on_ones_own() -> None:
    """CLU-02."""
    async with two_nodes() as (a, b):
        serving(a, b)
        for me, there in ((a, "b@h"), (b, "a@h"), (a, "a@h")):
            origin = me.switch.origin
            assert await within(rpc(origin, there, "rpc_test_add", 2)) == 3
            assert await within(rpc(origin, there, rpc_test_add, 2, y=5)) == 7
            got = await within(rpc(origin, there, "rpc_test_scaled", [1, 2.5], by=2))
            assert got == [2.0, 5.0]


async def test_errors_tell_what_went_wrong_there() -> None:
    async with two_nodes() as (a, b):
        serving(b)
        me = a.switch.origin
        with pytest.raises(NoSuchFunction, match="nothing is exposed as 'nothing'"):
            await within(rpc(me, "b@h", "nothing"))
        for args, kwargs in (((), {}), ((1, 2, 3), {}), (("1",), {}), ((1,), {"z": 1})):
            with pytest.raises(InvalidValue, match="rpc_test_add"):
                await within(rpc(me, "b@h", "rpc_test_add", *args, **kwargs))
        with pytest.raises(RemoteError, match="boom") as caught:
            await within(rpc(me, "b@h", "rpc_test_boom"))
        assert caught.value.remote_type == "KeyError"
        assert caught.value.peer == "b@h"
        assert 'raise KeyError("boom")' in caught.value.remote_traceback
        with pytest.raises(RemoteError, match="NotEncodable"):
            await within(rpc(me, "b@h", "rpc_test_unsendable"))
        with pytest.raises(PeerUnreachable):
            await within(rpc(me, "c@h", "rpc_test_add", 1))
        with pytest.raises(InvalidValue, match="not exposed in this program"):
            await rpc(me, "b@h", lone_node)


async def test_a_list_of_peers_hides_a_function_from_the_others() -> None:
    async with two_nodes() as (a, b):
        serving(a, b)
        assert await within(rpc(a.switch.origin, "b@h", "rpc_test_for_a")) == "yes"
        with pytest.raises(NoSuchFunction):
            await within(rpc(b.switch.origin, "a@h", "rpc_test_for_a"))


async def test_a_function_is_cancelled_when_nobody_waits_for_it() -> None:
    async with two_nodes() as (a, b):
        serving(b)
        me = a.switch.origin
        with pytest.raises(CallTimeout, match=r"rpc"):
            await rpc(me, "b@h", "rpc_test_wait", "late", timeout=0.2)
        await eventually(lambda: ended == ["late"])
        task = asyncio.ensure_future(rpc(me, "b@h", "rpc_test_wait", "given up"))
        await eventually(lambda: "given up" in began)
        task.cancel()
        await asyncio.wait([task])
        await eventually(lambda: "given up" in ended)
        task = asyncio.ensure_future(rpc(me, "b@h", "rpc_test_wait", "lost"))
        await eventually(lambda: "lost" in began)
        await lose(a, b)
        with pytest.raises(PeerUnreachable):
            await task
        await eventually(lambda: "lost" in ended)


async def test_calls_beyond_the_limits_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RPC_CALLS_MAX", 3)
    monkeypatch.setattr(module, "RPC_CALLS_PER_PEER_MAX", 2)
    async with two_nodes() as (a, b):
        serving(b)
        mine, theirs = a.switch.origin, b.switch.origin
        waits = [
            asyncio.ensure_future(rpc(mine, "b@h", "rpc_test_wait", str(i)))
            for i in range(2)
        ]
        await eventually(lambda: len(began) == 2)
        with pytest.raises(Overloaded, match="2 of them for a@h"):
            await within(rpc(mine, "b@h", "rpc_test_wait", "x"))
        waits.append(asyncio.ensure_future(rpc(theirs, "b@h", "rpc_test_wait", "2")))
        await eventually(lambda: len(began) == 3)
        with pytest.raises(Overloaded, match="3 functions"):
            await within(rpc(theirs, "b@h", "rpc_test_wait", "y"))
        gate.set()
        assert await within(asyncio.gather(*waits)) == ["0", "1", "2"]
        assert await within(rpc(mine, "b@h", "rpc_test_wait", "again")) == "again"


async def test_many_nodes_are_asked_at_once() -> None:
    async with two_nodes() as (a, b):
        serving(a, b)
        nodes = ["a@h", "b@h", "c@h", "B@h"]
        found = await within(multi_rpc(a.switch.origin, nodes, rpc_test_add, 1, y=2))
        assert list(found) == ["a@h", "b@h", "c@h"]
        assert (found["a@h"], found["b@h"]) == (3, 3)
        assert isinstance(found["c@h"], PeerUnreachable)
        found = await within(multi_rpc(a.switch.origin, nodes[:2], "nothing"))
        assert {type(error) for error in found.values()} == {NoSuchFunction}


async def test_other_messages_do_not_disturb_the_service() -> None:
    async with two_nodes() as (a, b):
        serving(b)
        at = At(RPC_NAME, "b@h")
        me = a.switch.origin
        await addresses.send(me, at, ("rpc_test_add", (1,), {}))
        await addresses.cast(me, at, ("rpc_test_add", (1,), {}))
        shapes: list[Any] = [1, (), ("rpc_test_add",), (b"rpc_test_add", (), {})]
        for bad in shapes:
            with pytest.raises(InvalidValue):
                await within(addresses.call(me, at, bad))
        with pytest.raises(InvalidValue):
            await within(addresses.call(me, at, ("rpc_test_add", [1], {})))
        assert await within(rpc(me, "b@h", "rpc_test_add", 1)) == 2


def test_names_are_flat_and_belong_to_one_function() -> None:
    def other(x: int) -> int:
        return x

    for name in ("", "a.b", "_hidden", "__call__", "é", "a b", "a" * 65, "1x", "a-b"):
        with pytest.raises(InvalidValue, match="no name"):
            expose(name=name)(other)
    with pytest.raises(Conflict, match="rpc_test_add"):
        expose(name="rpc_test_add")(other)
    with pytest.raises(InvalidValue, match="is no function"):
        expose(name="thing")(object())  # type: ignore[arg-type]
    assert "rpc_test_add" in exposed()
    assert "thing" not in exposed()

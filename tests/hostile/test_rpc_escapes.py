"""No request of a peer reaches anything but what was exposed, or ends the service."""

from __future__ import annotations

import asyncio
import builtins
import os
import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Atom, Pid
from barrel_p2p.errors import BarrelError, InvalidValue, NoSuchFunction
from barrel_p2p.runtime import addresses
from barrel_p2p.runtime.rpc import RPC_NAME, expose, rpc, serve
from barrel_p2p.runtime.server import GenServer, start_server
from barrel_p2p.runtime.typed import MESSAGE_TAG, lift, lower, message
from barrel_p2p.runtime.verbs import REQUEST_TAG, call
from tests.endpoints import within
from tests.runtime_nodes import lone_node, two_nodes

ran: list[object] = []


@expose
def escape_test_take(text: str, count: int = 0) -> int:
    ran.append((text, count))
    return len(text)


@expose
def escape_test_pid(pid: Pid) -> str:
    return pid.node


class Boom:
    """Whoever unpickles this leaves a trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (ran.append, ("unpickled",))


NAMES = [
    *("__class__", "__init__", "__call__", "__globals__", "__import__", "eval"),
    *("os.system", "os", "builtins.exec", "escape_test_take.__globals__"),
    *("escape_test_take\x00", " escape_test_take", "Escape_test_take", ""),
    *("barrel_p2p.runtime.rpc.expose", "expose", "escape_test_take()", "a" * 100_000),
]


async def test_names_lead_nowhere_but_to_exposed_functions() -> None:
    ran.clear()
    async with two_nodes() as (a, b):
        serve(b.processes)
        for name in NAMES:
            with pytest.raises(NoSuchFunction) as caught:
                await within(rpc(a.switch.origin, "b@h", name, "x"))
            assert len(str(caught.value)) < 300
        for bad in (1, None, b"escape_test_take", Atom("escape_test_take"), ["x"]):
            request: Any = (bad, ("x",), {})
            with pytest.raises(InvalidValue):
                await within(
                    addresses.call(a.switch.origin, At(RPC_NAME, "b@h"), request)
                )
        assert ran == []


async def test_arguments_cannot_smuggle_anything_in() -> None:
    ran.clear()
    bad: list[tuple[Any, Any]] = [
        ((), {"text": "x", "self": 1}),
        ((), {"text": "x", "__class__": 1}),
        (("x",), {"text": "y"}),
        (("x", 1, 2), {}),
        (("x", "1"), {}),
        (("x", True), {}),
        (("x", 1.5), {}),
        ((b"x",), {}),
        ((["x"],), {}),
        (({"text": "x"},), {}),
        ((Atom("x"),), {}),
        ((), {Atom("text"): "x"}),
        ((), {b"text": "x"}),
        (("x",) * 10_000, {}),
        ((), {f"k{i}": i for i in range(10_000)}),
        ((), {"k" * 100_000: 1}),
    ]
    async with two_nodes() as (a, b):
        serve(b.processes)
        me, at = a.switch.origin, At(RPC_NAME, "b@h")
        for args, kwargs in bad:
            with pytest.raises(InvalidValue) as caught:
                await within(addresses.call(me, at, ("escape_test_take", args, kwargs)))
            assert len(str(caught.value)) < 5_000
        assert ran == []
        assert await within(rpc(me, "b@h", "escape_test_take", "x" * 1_000_000)) == (
            1_000_000
        )


async def test_a_pickle_is_bytes_and_nothing_more() -> None:
    ran.clear()
    data = pickle.dumps(Boom())
    async with two_nodes() as (a, b):
        serve(b.processes)
        me = a.switch.origin
        with pytest.raises(InvalidValue):
            await within(rpc(me, "b@h", "escape_test_take", data))
        with pytest.raises(InvalidValue):
            await within(addresses.call(me, At(RPC_NAME, "b@h"), data))
        with pytest.raises(InvalidValue):
            await within(rpc(me, "b@h", "escape_test_pid", data))
        assert ran == []


class Vault(GenServer):
    async def init(self) -> None:
        self.secret = "s"

    @call
    async def knock(self, who: str) -> str:
        return f"go away, {who}"


requests = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.sampled_from(
        [REQUEST_TAG, MESSAGE_TAG, "knock", "secret", "__dict__", "init", "stop"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        | st.tuples(st.just(REQUEST_TAG), inner, inner, inner)
        | st.tuples(st.just("escape_test_take"), inner, inner)
    ),
    max_leaves=10,
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(requests, min_size=20, max_size=60))
def test_no_request_ends_a_server_or_the_service(batch: list[Any]) -> None:
    async def attack() -> None:
        async with lone_node(strict=True) as node:
            serve(node.processes)
            pid = await start_server(node.processes, Vault)
            me = node.switch.origin
            for request in batch:
                for to in (pid, RPC_NAME):
                    try:
                        value = await addresses.call(me, to, request)
                    except BarrelError:
                        continue
                    assert isinstance(value, str | int)
                    assert value != "s"
                await addresses.cast(me, RPC_NAME, request)
            answer = await pid.call((REQUEST_TAG, "knock", ("me",), {}))
            assert answer == "go away, me"
            assert await rpc(me, "a@h", "escape_test_take", "abc") == 3

    asyncio.run(attack())


@message(name="hostile.order")
class Order:
    item: str
    count: int
    tags: list[str]

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count={self.count} is below 0")


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("item",),
        ("item", "x", "count", 1),
        ("item", "x", "count", "1", "tags", []),
        ("item", "x", "count", True, "tags", []),
        ("item", "x", "count", 1, "tags", [1]),
        ("item", "x", "count", 1, "tags", "abc"),
        ("item", "x", "count", 1, "tags", [], "item", "y"),
        ("item", "x", "count", -1, "tags", []),
        ("item", "x", "count", 1, "tags", [], 5, 6),
        ("item", (MESSAGE_TAG, "os.system"), "count", 1, "tags", []),
        ("item", (MESSAGE_TAG, "hostile.order"), "count", 1, "tags", []),
    ],
)
def test_a_typed_message_with_wrong_fields_is_refused(fields: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidValue, match="a message of b@h"):
        lift((MESSAGE_TAG, "hostile.order", *fields), "b@h")


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "Order", "", "__main__"]
)
def test_a_message_name_is_never_imported(name: str) -> None:
    value = lift((MESSAGE_TAG, name, "a", 1), "b@h")
    assert type(value).__name__ == "UnknownMessage"
    assert not callable(value)


@pytest.mark.parametrize("name", [1, None, b"x", Atom("x"), ("x",), "x" * 129])
def test_a_message_name_is_short_text(name: Any) -> None:
    with pytest.raises(InvalidValue):
        lift((MESSAGE_TAG, name), "b@h")


def test_messages_in_messages_do_not_exhaust_the_stack() -> None:
    term: Any = "x"
    for _ in range(5_000):
        term = (MESSAGE_TAG, "hostile.unknown", "a", term)
    with pytest.raises(InvalidValue):
        lift(term, "b@h")


def test_what_cannot_be_sent_is_refused_before_it_leaves() -> None:
    for value in (os.system, builtins, Boom(), Boom):
        assert lower(value) is value  # and the encoder refuses it by its type

"""A member that lies to the registry wastes its own words, and bounded memory."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.core.ormap import TOMBSTONE, Delta, Entry, OrMap
from barrel_p2p.core.terms import Pid
from barrel_p2p.services.registry_index import SERVICES_PER_NODE_MAX
from barrel_p2p.services.registry_inputs import META_BYTES_MAX, TOMBSTONES_MAX
from barrel_p2p.wire.crdt_ingest import Refusal
from barrel_p2p.wire.terms import key_bytes
from tests.registry_bench import RegistryBench

PID = Pid("evil@h", 1, 1)


@pytest.fixture
def me() -> RegistryBench:
    made = RegistryBench()
    made.up("evil@h")
    return made


def delta(keys: list[object], value: object, node: str, wall_ms: int) -> Delta:
    stamp = Timestamp(wall_ms, 0)
    return {key_bytes(key): Entry(key, stamp, node, value) for key in keys}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cart", (1, PID, {})),
        (("cart",), (1, PID, {})),
        (("cart", "evil@h", 1), (1, PID, {})),
        (("cart", 7), (1, PID, {})),
        (("cart", "a@h"), (1, PID, {})),
        (("cart", "evil@h"), None),
        (("cart", "evil@h"), (1, PID)[:1]),
        (("cart", "evil@h"), (1, PID, {}, 4)),
        (("cart", "evil@h"), (0, PID, {})),
        (("cart", "evil@h"), (True, PID, {})),
        (("cart", "evil@h"), (1 << 32, PID, {})),
        (("cart", "evil@h"), (1, "pid", {})),
        (("cart", "evil@h"), (1, PID, [])),
        (("cart", "evil@h"), (1, PID, {"x": b"x" * META_BYTES_MAX})),
        (("cart", "evil@h"), (1, b"x" * META_BYTES_MAX)),
    ],
    ids=repr,
)
def test_what_says_nothing_of_a_service_is_left_out(
    me: RegistryBench, key: object, value: object
) -> None:
    """Where a malformed key crashes the original's registry for good."""
    assert me.take(delta([key], value, "evil@h", me.wall)) == []
    assert me.machine.entries.snapshot() == {}
    me.dead("evil@h")
    me.gone("evil@h")
    assert me.register("cart", 1) != []


@given(st.recursive(st.integers() | st.text() | st.binary(), st.lists))
def test_no_value_makes_the_registry_fail(value: object) -> None:
    me = RegistryBench()
    me.up("evil@h")
    me.take(delta([("cart", "evil@h")], value, "evil@h", me.wall))
    me.take(delta([("cart", "evil@h")], (1, value), "evil@h", me.wall + 1))
    assert me.names() == []


def test_a_node_s_names_are_bounded_and_others_have_room(me: RegistryBench) -> None:
    """10^5 names of one member: the rest is refused, at no greater cost (X6)."""
    me.up("good@h")
    started = time.process_time()
    for block in range(25):
        keys: list[object] = [(f"{block}-{i}", "evil@h") for i in range(4_096)]
        me.take(delta(keys, (1, PID, {}), "evil@h", me.wall + block))
    seconds = time.process_time() - started
    assert len(me.machine.index) == SERVICES_PER_NODE_MAX
    assert me.store.refused[Refusal.LEAF] == 25 * 4_096 - SERVICES_PER_NODE_MAX
    assert seconds < 20
    me.take(delta([("cart", "good@h")], (1, PID, {}), "good@h", me.wall))
    assert me.nodes_of("cart") == ["good@h"]
    me.dead("evil@h")
    me.gone("evil@h")
    assert len(me.machine.index) == 1


def test_tombstones_of_names_that_never_were_are_bounded(me: RegistryBench) -> None:
    """Stamped as far ahead as a clock may be, so that no age makes them go."""
    tracemalloc.start()
    for block in range(12):
        keys: list[object] = [(f"{block}-{i}", "evil@h") for i in range(4_096)]
        me.take(delta(keys, TOMBSTONE, "evil@h", me.wall + 59_000))
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert me.machine.entries.tombstones <= TOMBSTONES_MAX + 4_096
    assert grown < 16 << 20


def test_forgeries_of_our_names_are_answered_no_faster_than_once_a_second(
    me: RegistryBench,
) -> None:
    me.register("cart", 1)
    for i in range(100):
        forger = OrMap("me@h", me.machine.entries.clock)
        me.take(forger.add(("cart", "me@h"), (5, PID, {"i": i})))
        me.wait(10)
    assert len(me.told) <= 1 + 2
    me.wait(2_000)
    entry = me.machine.entries.get(("cart", "me@h"))
    assert entry == (5, me.pid(1), {})
    assert [e.pid for e in me.machine.lookup("cart")] == [me.pid(1)]


def test_a_stamp_from_the_future_is_refused(me: RegistryBench) -> None:
    far = delta([("cart", "evil@h")], (1, PID, {}), "evil@h", me.wall + 3_600_000)
    assert me.take(far) == []
    assert me.store.refused == {Refusal.DRIFT: 1}

"""Members that lie to routers: bounded work, nothing raised, the others are served."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.core.inputs import Received, TimerFired
from barrel_p2p.core.peers import NodeDown, PeerDown, PeerUp
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import NameMismatch, WireError
from barrel_p2p.services.router_inputs import (
    ROUTE_TTL,
    ROUTES_MAX,
    SEEN_MAX,
    CacheRoute,
    Find,
)
from barrel_p2p.services.router_messages import (
    ROUTER_KINDS,
    FoundNode,
    FoundService,
    NodeTarget,
    RouteReply,
    RouteRequest,
    Status,
    decode,
    encode,
)
from barrel_p2p.wire.frames import Frame
from barrel_p2p.wire.kinds import Kind
from tests.endpoints import eventually, within
from tests.far_nodes import A, B, C, answering, far_nodes, parts_of
from tests.malicious_members import EVIL, member
from tests.route_net import RouteNet, entry, line, names, service
from tests.tools import rounds

pytestmark = pytest.mark.timeout(120)

CAP = 3
NODES = st.sampled_from([*names(4), "x@h"])
TARGETS = st.sampled_from([service("s"), service("t"), NodeTarget("x@h")])
FOUND = st.sampled_from(
    [
        FoundService("x@h", Pid("x@h", 1, 1), {}),
        FoundService("n00@h", Pid("n00@h", 1, 1), {"a": 1}),
        FoundNode("10.0.0.1", 1),
    ]
)


def reply(
    origin: str, number: int, ttl: int, plain: Status, found: object, told: bool
) -> RouteReply:
    if not told:
        return RouteReply(origin, number, ttl, plain)
    assert isinstance(found, FoundService | FoundNode)
    sort = Status.SERVICE if isinstance(found, FoundService) else Status.NODE
    return RouteReply(origin, number, ttl, sort, found)


PLAIN = st.sampled_from(
    [Status.NOT_FOUND, Status.TTL_EXPIRED, Status.OVERLOADED, Status.SEEN]
)
REQUESTS = st.builds(
    RouteRequest,
    NODES,
    st.integers(0, 2),
    st.sampled_from([0, 1, 2, 5, 255]),
    st.sampled_from([0, 100, 101, 5_000, 65_535]),
    TARGETS,
    st.lists(NODES, max_size=5).map(tuple),
)
REPLIES = st.builds(
    reply,
    NODES,
    st.integers(0, 2),
    st.sampled_from([0, 1, 2, 4, 5, 255]),
    PLAIN,
    FOUND,
    st.booleans(),
)
PEERS = st.sampled_from(names(4)[1:])
STEPS = st.one_of(
    st.builds(Received, PEERS, REQUESTS),
    st.builds(Received, PEERS, REPLIES),
    st.builds(PeerUp, PEERS),
    st.builds(PeerDown, PEERS, st.just("dropped")),
    st.builds(NodeDown, PEERS, st.just("unreachable")),
    st.just("time"),
)


@given(st.sampled_from(ROUTER_KINDS), st.binary(max_size=80))
def test_a_body_decodes_or_is_refused(kind: int, body: bytes) -> None:
    try:
        message = decode(kind, body)
    except WireError:
        return
    assert decode(*encode(message)) == message


@given(REQUESTS | REPLIES, st.data())
def test_a_damaged_message_decodes_or_is_refused(
    message: RouteRequest | RouteReply, data: st.DataObject
) -> None:
    kind, body = encode(message)
    at = data.draw(st.integers(0, len(body) - 1))
    damaged = bytearray(body)
    damaged[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for one in (bytes(damaged), bytes(damaged[:cut])):
        try:
            decode(kind, one)
        except WireError:
            continue


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=rounds(200, whole=5_000), deadline=None)
def test_no_order_of_lies_breaks_a_router_or_its_cap(steps: list[object]) -> None:
    """X10: whatever is forged, places are counted right and come back."""
    net = RouteNet([], max_in_flight=CAP)
    node = net.node("n00@h")
    net.feed(node, Find(1, service("s"), 400))
    for step in steps:
        if step == "time":
            net.run(net.now + 150)
            continue
        sent = len(net.trace)
        net.feed(node, step)
        assert node.machine.in_flight <= CAP
        assert len(net.trace) - sent <= 3 * 8, "one message made too much work"
    net.run(net.now + 25_000)
    assert node.machine.in_flight == node.machine.searches == 0
    assert len([a for _, a in node.answers if a.ref == 1]) == 1
    assert all(key == "sweep" for key in node.timers)


@pytest.mark.parametrize("seed", range(rounds(20, whole=1_000)))
def test_what_was_asked_is_answered_on_a_network_that_loses_messages(seed: int) -> None:
    ring = names(8)
    links = [*line(8), (ring[-1], ring[0]), (ring[0], ring[4])]
    net = RouteNet(links, seed, loss=200, latency=(1, 60), max_in_flight=CAP)
    net.nodes[ring[3]].services["s"] = entry("s", ring[3])
    for at in ring:
        net.begin(at, "s", timeout_ms=3_000)
        net.begin(at, NodeTarget("nobody@h"), timeout_ms=3_000)
    net.run(20_000)
    for node in net.nodes.values():
        assert len(node.answers) == 2
        assert node.most <= CAP
        assert node.machine.in_flight == node.machine.searches == 0
    assert net.sent < 8 * 2 * 200


def test_a_search_s_work_is_bounded_whatever_its_ttl_says() -> None:
    """X10: in a full mesh each node passes each ring on at most once."""
    mesh = names(12)
    pairs = [(a, b) for i, a in enumerate(mesh) for b in mesh[i + 1 :]]
    net = RouteNet(pairs)
    request = RouteRequest("x@h", 1, 255, 65_535, service("s"), ("n00@h", "n00@h"))
    net.feed(net.nodes["n00@h"], Received("n01@h", request))
    net.run(20_000)
    onward = [m for _, _, _, m in net.trace if isinstance(m, RouteRequest)]
    assert max(m.ttl for m in onward) == ROUTE_TTL - 1
    assert len(onward) <= 12 * 11


def test_what_a_router_remembers_of_others_has_an_end() -> None:
    net = RouteNet([("n00@h", "n01@h"), ("n00@h", "n02@h")], max_in_flight=1 << 20)
    node = net.nodes["n00@h"]
    net.nodes["n02@h"].silent = True
    for number in range(SEEN_MAX + 100):
        request = RouteRequest("x@h", number, 5, 5_000, service("s"), ())
        net.feed(node, Received("n01@h", request))
        if number % 1_000 == 0:
            net.trace.clear()
    assert len(node.machine._seen) == SEEN_MAX
    for number in range(ROUTES_MAX + 10):
        net.feed(node, CacheRoute(entry(number, "n05@h")))
    assert len(node.machine.routes) == ROUTES_MAX
    net.run(150_000)
    assert len(node.machine._seen) == len(node.machine.routes) == 0
    assert len(node.machine._quota) == node.machine.in_flight == 0
    assert node.timers == {}


def test_a_timer_that_fires_late_is_harmless() -> None:
    net = RouteNet(line(2))
    for key in (("ring", 9), ("search", 9), ("asked", ("x@h", 1, 1)), "sweep"):
        net.feed(net.nodes["n00@h"], TimerFired(key))
    assert net.sent == 0


def heard(answers: list[RouteReply], count: int) -> bool:
    return len(answers) == count


async def test_a_flood_of_requests_holds_a_node_to_its_cap_and_serves_the_others(
    tmp_path: Path,
) -> None:
    """X10: ttl 255, forged origins, the victim itself among the visited."""
    async with far_nodes(tmp_path, router_max_in_flight=8) as (a, b, c), member() as m:
        await c.register_service("s", c.spawn(answering, "c"))
        hears = m._own.channels.dispatcher
        answers: list[RouteReply] = []

        def hear(channel: object, frame: Frame) -> None:
            said = decode(frame.kind, frame.body)
            assert isinstance(said, RouteReply)
            answers.append(said)

        hears.register(Kind.ROUTE_REPLY, hear, role=StreamRole.CONTROL)
        channel = await m.connect(b)
        router = parts_of(b).router
        most = 0
        for number in range(2_000):
            request = RouteRequest(
                (A, C, EVIL, B, "x@h")[number % 5],
                number,
                255,
                65_535,
                service(f"no service {number}"),
                (B, B, EVIL),
            )
            channel.send_control(*encode(request))
            if number % 100 == 99:
                await eventually(partial(heard, answers, number + 1))
            most = max(most, router.in_flight)
        assert router.stats().requests == len(answers) == 2_000
        assert router.in_flight == 0
        assert most <= 6, "three quarters of 8 for one peer"
        assert router.stats().request_dropped > 0
        assert (await within(a.find_service("s"))).node == C
        assert await within(a.call("s", 1)) == ("c", 1, A)


@pytest.mark.parametrize("kind", ROUTER_KINDS)
async def test_what_is_no_message_ends_the_channel_of_its_sender_alone(
    tmp_path: Path, kind: Kind
) -> None:
    async with far_nodes(tmp_path) as (_, b, _), member() as m:
        channel = await m.connect(b)
        await eventually(lambda: EVIL in b.nodes())
        channel.send_control(kind, b"\xff" * 40)
        await eventually(lambda: EVIL not in b.nodes())
        assert b.nodes() == [A, C]
        assert parts_of(b).channels.dispatcher.failed == 0


async def test_a_lying_answer_does_not_reach_the_wrong_node(tmp_path: Path) -> None:
    """An address is a hint: whoever answers there has to be the node."""
    async with far_nodes(tmp_path) as (a, b, c):
        # The neighbour believes that c is where a third node listens: itself.
        parts_of(b).whereabouts._places[C] = b.address[1:]
        pid = c.spawn(answering, "c")
        with pytest.raises(NameMismatch):
            await within(a.call(pid, 1))
        assert parts_of(a).whereabouts.of(C) is None

"""The router's decisions, on networks in which a test says who knows what."""

from __future__ import annotations

from typing import Any

import pytest

from barrel_p2p.core.effects import Publish, Send, SetTimer
from barrel_p2p.core.inputs import Received, TimerFired
from barrel_p2p.core.members import MemberDead
from barrel_p2p.core.peers import PeerUp
from barrel_p2p.core.terms import Pid
from barrel_p2p.services.router_inputs import (
    HOP_MS,
    RING_MS,
    ROUTE_TTL,
    ROUTE_TTL_MS,
    Answer,
    CacheRoute,
    Find,
    GiveUp,
    Invalidate,
    InvalidateAll,
)
from barrel_p2p.services.router_messages import (
    FoundNode,
    FoundService,
    NodeTarget,
    RouteReply,
    RouteRequest,
    Status,
)
from barrel_p2p.services.service_events import (
    ServiceDown,
    ServiceRegistered,
    ServiceUnregistered,
)
from tests.route_net import RouteNet, Routing, entry, line, names, service

NAME = "greeter"


def lonely() -> tuple[RouteNet, Routing]:
    net = RouteNet([])
    return net, net.node("n00@h")


def star(leaves: int, **options: Any) -> RouteNet:
    """``n00@h`` in the middle, peers ``n01@h`` and so on around it."""
    centre, *others = names(leaves + 1)
    return RouteNet([(centre, other) for other in others], **options)


def outcomes(node: Routing) -> list[object]:
    return [answer.outcome for _, answer in node.answers]


def requests(net: RouteNet) -> list[tuple[str, str, RouteRequest]]:
    return [(a, b, m) for _, a, b, m in net.trace if isinstance(m, RouteRequest)]


def replies(net: RouteNet, at: str) -> list[RouteReply]:
    return [m for _, a, _, m in net.trace if a == at and isinstance(m, RouteReply)]


def ask(
    net: RouteNet,
    at: str,
    peer: str,
    *,
    origin: str = "x@h",
    number: int = 1,
    ttl: int = ROUTE_TTL,
    what: str = NAME,
    left_ms: int = 5_000,
    visited: tuple[str, ...] = (),
) -> list[tuple[str, Any]]:
    """What the machine of ``at`` sends when ``peer`` asks it."""
    request = RouteRequest(origin, number, ttl, left_ms, service(what), visited)
    before = len(net.trace)
    net.feed(net.nodes[at], Received(peer, request))
    return [(to, message) for _, _, to, message in net.trace[before:]]


# Where a search ends.


def test_what_the_registry_knows_is_asked_of_nobody() -> None:
    net = star(3)
    net.nodes["n00@h"].services[NAME] = known = entry(NAME, "n09@h")
    answer = net.find("n00@h", NAME)
    assert answer is not None
    assert answer.outcome == FoundService(known.node, known.pid, {})
    assert net.sent == 0


def test_a_node_without_peers_finds_nothing_at_once() -> None:
    net, node = lonely()
    assert net.find(node.name, NAME) == Answer(1, "not_found")
    assert net.now == 0


@pytest.mark.parametrize("hops", range(1, ROUTE_TTL + 1))
def test_a_service_within_the_ttl_is_found(hops: int) -> None:
    net = RouteNet(line(ROUTE_TTL + 3))
    far = net.nodes[names(ROUTE_TTL + 3)[hops]]
    far.services[NAME] = known = entry(NAME, far.name)
    answer = net.find("n00@h", NAME)
    assert answer is not None
    assert answer.outcome == FoundService(far.name, known.pid, {})
    assert net.now < 1_000


def test_the_last_hop_looks_too_and_asks_nobody() -> None:
    net = RouteNet(line(3))
    net.nodes["n01@h"].services["other"] = entry("other", "n01@h")
    (to, reply) = ask(net, "n01@h", "n00@h", ttl=1, what="other")[0]
    assert (to, reply.status) == ("n00@h", Status.SERVICE)
    (to, reply) = ask(net, "n01@h", "n00@h", ttl=1)[0]
    assert (to, reply.status) == ("n00@h", Status.TTL_EXPIRED)


def test_a_service_beyond_the_ttl_is_not_found() -> None:
    net = RouteNet(line(ROUTE_TTL + 3))
    far = net.nodes[names(ROUTE_TTL + 3)[ROUTE_TTL + 1]]
    far.services[NAME] = entry(NAME, far.name)
    answer = net.find("n00@h", NAME)
    assert answer is not None
    assert answer.outcome == "not_found"


def test_a_small_cluster_is_searched_once_and_not_ring_by_ring() -> None:
    three = names(3)
    net = RouteNet([(three[0], three[1]), (three[0], three[2]), (three[1], three[2])])
    answer = net.find("n00@h", NAME)
    assert answer is not None
    assert answer.outcome == "not_found"
    assert net.sent == 4  # Two requests and their replies.


def test_peers_are_asked_all_at_once() -> None:
    net = star(5)
    net.nodes["n05@h"].services[NAME] = entry(NAME, "n05@h")
    for silent in names(5)[1:]:
        net.nodes[silent].silent = True
    answer = net.find("n00@h", NAME)
    assert answer is not None
    assert isinstance(answer.outcome, FoundService)
    assert net.now <= 10


# One deadline.


def test_a_search_ends_at_its_deadline_however_many_are_silent() -> None:
    net = star(3)
    for silent in names(4)[1:]:
        net.nodes[silent].silent = True
    assert net.find("n00@h", NAME, timeout_ms=700) == Answer(1, "timeout")
    assert net.now == 700


def test_each_hop_gives_up_before_the_one_that_asked_it() -> None:
    net = RouteNet(line(5))
    net.nodes["n04@h"].silent = True
    ref = net.begin("n00@h", NAME, timeout_ms=1_000)
    net.run(5_000)
    told = [m for _, b, m in requests(net) if b == "n04@h"]
    assert {m.left_ms for m in told} < set(range(1_000 - 3 * HOP_MS))
    # So the doubt of the one before the silent node arrives in time, as an answer.
    assert [a for _, a in net.nodes["n00@h"].answers] == [Answer(ref, "not_found")]
    assert net.nodes["n03@h"].machine.in_flight == 0


def test_a_silent_ring_does_not_hold_up_the_next() -> None:
    net = RouteNet([("n00@h", "n01@h"), ("n00@h", "n02@h"), ("n02@h", "n03@h")])
    net.nodes["n01@h"].silent = True
    net.nodes["n03@h"].services[NAME] = entry(NAME, "n03@h")
    answer = net.find("n00@h", NAME)
    assert answer is not None
    assert isinstance(answer.outcome, FoundService)
    assert RING_MS <= net.now <= RING_MS + 50


def test_a_peer_that_is_lost_is_waited_for_no_more() -> None:
    net = star(1)
    net.nodes["n01@h"].silent = True
    ref = net.begin("n00@h", NAME)
    net.run(10)
    net.cut("n00@h", "n01@h")
    assert [a for _, a in net.nodes["n00@h"].answers] == [Answer(ref, "not_found")]


def test_nobody_waits_for_a_search_that_was_given_up() -> None:
    net = star(1)
    ref = net.begin("n00@h", NAME)
    net.feed(net.nodes["n00@h"], GiveUp(ref))
    net.feed(net.nodes["n00@h"], GiveUp(ref))
    assert net.nodes["n00@h"].machine.searches == 0
    net.run(10_000)
    assert outcomes(net.nodes["n00@h"]) == ["timeout"]
    assert net.nodes["n00@h"].machine.stats.stray == 1


# Loops and echoes.


def test_a_ring_of_nodes_takes_part_in_each_ring_of_a_search_once() -> None:
    ring = names(6)
    net = RouteNet([*line(6), (ring[-1], ring[0])])
    assert net.find("n00@h", NAME) is not None
    net.run(10_000)
    seen: dict[tuple[str, int], int] = {}
    for a, _, m in requests(net):
        seen[a, m.ttl] = seen.get((a, m.ttl), 0) + 1
    assert max(seen.values()) <= 2  # To each of its two neighbours.
    assert all(node.machine.in_flight == 0 for node in net.nodes.values())


def test_a_request_that_was_seen_is_answered_so_and_goes_nowhere() -> None:
    net = star(3)
    first = ask(net, "n00@h", "n01@h", ttl=3)
    assert [to for to, _ in first] == ["n02@h", "n03@h"]
    for ttl in (1, 2, 3):
        ((to, reply),) = ask(net, "n00@h", "n02@h", ttl=ttl)
        assert (to, reply.status, reply.ttl) == ("n02@h", Status.SEEN, ttl)
    net.run(1_000)  # It is over, and is remembered all the same.
    assert net.nodes["n00@h"].machine.in_flight == 0
    ((_, reply),) = ask(net, "n00@h", "n02@h", ttl=3)
    assert reply.status is Status.SEEN
    wider = ask(net, "n00@h", "n02@h", ttl=4)
    assert [to for to, _ in wider] == ["n01@h", "n03@h"]


def test_a_search_of_our_own_that_comes_back_goes_nowhere() -> None:
    net = star(2)
    ((to, reply),) = ask(net, "n00@h", "n01@h", origin="n00@h")
    assert (to, reply.status) == ("n01@h", Status.SEEN)


def test_the_visited_are_not_asked_and_self_among_them_is_harmless() -> None:
    net = star(3)
    sent = ask(net, "n00@h", "n01@h", visited=("n00@h", "n02@h"))
    assert [to for to, _ in sent] == ["n03@h"]
    assert sent[0][1].visited == ("n00@h", "n02@h", "n03@h")


def test_a_ttl_is_cut_to_our_own_and_answered_as_it_was_asked() -> None:
    """X10: a sender's ttl of 255 goes no further than anybody's."""
    net = star(2)
    ((to, onward),) = ask(net, "n00@h", "n01@h", ttl=255)
    assert (to, onward.ttl) == ("n02@h", ROUTE_TTL - 1)
    net.run(100)
    assert [(r.ttl, r.status) for r in replies(net, "n00@h")] == [
        (255, Status.NOT_FOUND)
    ]


def test_time_that_is_left_is_cut_to_our_own() -> None:
    net = star(2)
    net.nodes["n02@h"].silent = True
    ((_, onward),) = ask(net, "n00@h", "n01@h", left_ms=65_535)
    assert onward.left_ms == 10_000 - HOP_MS
    net.run(10_000 - HOP_MS)
    assert net.nodes["n00@h"].machine.in_flight == 0


def test_a_request_without_time_is_looked_up_only() -> None:
    net = star(2)
    ((to, reply),) = ask(net, "n00@h", "n01@h", left_ms=HOP_MS)
    assert (to, reply.status) == ("n01@h", Status.TTL_EXPIRED)


# Room.


def test_exactly_256_requests_are_in_flight_and_never_257() -> None:
    """X10: the cap is a cap, and one peer does not get all of it."""
    net = star(3, max_in_flight=256)
    centre = net.nodes["n00@h"]
    centre.silent = False
    net.nodes["n03@h"].silent = True
    for number in range(400):
        ask(net, "n00@h", "n01@h", number=number, visited=("n02@h",))
    assert centre.machine.in_flight == 192
    for number in range(400, 800):
        ask(net, "n00@h", "n02@h", number=number, visited=("n01@h",))
    assert centre.most == centre.machine.in_flight == 256
    refused = [r for r in replies(net, "n00@h") if r.status is Status.OVERLOADED]
    assert len(refused) == centre.machine.stats.request_dropped == 800 - 256
    net.run(10_000)
    assert centre.machine.in_flight == 0
    assert len(replies(net, "n00@h")) == 800


def test_five_requests_with_room_for_two_all_get_a_reply() -> None:
    """RTR-09: and the counter is back at 0 within 2 s."""
    net = star(4, max_in_flight=2)
    for number in range(5):
        ask(net, "n00@h", f"n0{number % 3 + 1}@h", number=number)
    assert net.nodes["n00@h"].machine.in_flight == 2
    net.run(2_000)
    assert net.nodes["n00@h"].machine.in_flight == 0
    assert len(replies(net, "n00@h")) == 5


def test_a_peer_s_requests_are_held_to_a_rate_however_fast_they_are_answered() -> None:
    net = star(2, max_in_flight=8)
    for number in range(100):
        ask(net, "n00@h", "n01@h", number=number)
        net.run(net.now + 5)  # The answers are back by then.
    spent_ms = net.now
    assert net.nodes["n00@h"].machine.stats.forwarded <= 8 + 8 * spent_ms / 1_000
    net.run(net.now + 1_000)
    assert net.nodes["n00@h"].machine.in_flight == 0


def test_who_asked_and_is_lost_leaves_its_places() -> None:
    net = star(2, max_in_flight=2)
    net.nodes["n02@h"].silent = True
    ask(net, "n00@h", "n01@h", number=1)
    net.cut("n00@h", "n01@h")
    assert net.nodes["n00@h"].machine.in_flight == 0


def test_a_search_that_all_refuse_is_overloaded_and_not_in_vain() -> None:
    net = star(2)
    for leaf in ("n01@h", "n02@h"):
        net.nodes[leaf].silent = True
    ref = net.begin("n00@h", NAME)
    ((_, one, _), *_) = [(a, m, b) for a, b, m in requests(net)]
    for leaf in ("n01@h", "n02@h"):
        for ttl in (1, 2, ROUTE_TTL):
            reply = RouteReply("n00@h", one.id, ttl, Status.OVERLOADED)
            net.feed(net.nodes["n00@h"], Received(leaf, reply))
    for ttl in (2, ROUTE_TTL):
        for leaf in ("n01@h", "n02@h"):
            reply = RouteReply("n00@h", one.id, ttl, Status.OVERLOADED)
            net.feed(net.nodes["n00@h"], Received(leaf, reply))
    assert [a for _, a in net.nodes["n00@h"].answers] == [Answer(ref, "overloaded")]


def test_our_own_searches_have_the_same_cap() -> None:
    net = star(1, max_in_flight=3)
    net.nodes["n01@h"].silent = True
    for _ in range(4):
        net.begin("n00@h", NAME)
    assert net.nodes["n00@h"].machine.searches == 3
    assert outcomes(net.nodes["n00@h"]) == ["overloaded"]


# Who is believed.


def test_a_reply_that_nobody_asked_for_is_dropped_and_counted() -> None:
    net = star(2)
    found = FoundService("n09@h", Pid("n09@h", 1, 1), {})
    ref = net.begin("n00@h", NAME)
    ((_, _, one), *_) = requests(net)
    machine = net.nodes["n00@h"].machine
    for peer, reply in (
        ("n09@h", RouteReply("n00@h", one.id, 1, Status.SERVICE, found)),
        ("n01@h", RouteReply("n00@h", one.id + 1, 1, Status.SERVICE, found)),
        ("n01@h", RouteReply("n00@h", one.id, 2, Status.SERVICE, found)),
        ("n01@h", RouteReply("n08@h", one.id, 1, Status.SERVICE, found)),
    ):
        net.feed(net.nodes["n00@h"], Received(peer, reply))
    assert machine.stats.stray == 4
    assert outcomes(net.nodes["n00@h"]) == []
    net.run(10_000)
    assert [a for _, a in net.nodes["n00@h"].answers] == [Answer(ref, "not_found")]


@pytest.mark.parametrize(
    "found",
    [
        FoundService("n00@h", Pid("n00@h", 1, 7), {}),
        FoundService("n07@h", Pid("n07@h", 1, 7), {}),
        FoundNode("127.0.0.1", 9),
    ],
    ids=["ours", "of a dead node", "something else"],
)
def test_what_cannot_be_is_not_believed(found: FoundService | FoundNode) -> None:
    net = star(1)
    net.nodes["n00@h"].dead["n07@h"] = None
    net.nodes["n01@h"].silent = True
    net.begin("n00@h", NAME)
    ((_, _, one),) = requests(net)
    status = Status.NODE if isinstance(found, FoundNode) else Status.SERVICE
    reply = RouteReply("n00@h", one.id, 1, status, found)
    net.feed(net.nodes["n00@h"], Received("n01@h", reply))
    assert not any(not isinstance(o, str) for o in outcomes(net.nodes["n00@h"]))
    assert len(net.nodes["n00@h"].machine.routes) == 0


def test_an_address_is_found_where_somebody_has_a_channel() -> None:
    net = RouteNet(line(4))
    net.nodes["n03@h"].places["n09@h"] = ("10.0.0.9", 4_433)
    answer = net.find("n00@h", NodeTarget("n09@h"))
    assert answer is not None
    assert answer.outcome == FoundNode("10.0.0.9", 4_433)
    assert len(net.nodes["n00@h"].machine.routes) == 0


def test_an_address_that_cannot_travel_is_no_answer() -> None:
    net = RouteNet(line(2))
    net.nodes["n01@h"].places["n09@h"] = ("fe80::1%eth0", 1)
    answer = net.find("n00@h", NodeTarget("n09@h"))
    assert answer is not None
    assert answer.outcome == "not_found"


# The cache.


def found_elsewhere() -> tuple[RouteNet, Routing]:
    net = RouteNet(line(2))
    net.nodes["n01@h"].services[NAME] = entry(NAME, "n05@h")
    assert net.find("n00@h", NAME) is not None
    net.nodes["n01@h"].services.clear()
    return net, net.nodes["n00@h"]


def test_what_was_found_is_found_again_without_asking() -> None:
    net, node = found_elsewhere()
    sent = net.sent
    answer = net.find("n00@h", NAME)
    assert answer is not None
    assert isinstance(answer.outcome, FoundService)
    assert (net.sent, node.machine.stats.hits) == (sent, 1)


def test_others_are_told_what_the_registry_knows_and_not_what_was_cached() -> None:
    net, _ = found_elsewhere()
    ((_, reply),) = ask(net, "n00@h", "n01@h")
    assert reply.status is Status.NOT_FOUND


@pytest.mark.parametrize(
    ("event", "kept"),
    [
        (ServiceRegistered(NAME, "n06@h"), False),
        (ServiceUnregistered(NAME, "n05@h"), False),
        (ServiceDown(NAME, "n05@h", "normal"), False),
        (ServiceDown(NAME, "n06@h", "normal"), True),
        (ServiceUnregistered("other", "n05@h"), True),
        (MemberDead("n05@h", 7, "left"), False),
        (MemberDead("n06@h", 7, "left"), True),
        (Invalidate(NAME), False),
        (Invalidate("other"), True),
        (InvalidateAll(), False),
    ],
    ids=repr,
)
def test_a_route_is_kept_until_it_is_known_to_be_wrong(
    event: object, kept: bool
) -> None:
    """RTR-05, RTR-06: an invalidated route is gone; with all of them, all."""
    net, node = found_elsewhere()
    net.feed(node, event)
    assert (len(node.machine.routes) == 1) is kept


def test_a_cached_route_is_stored_under_its_name() -> None:
    """RTR-04: whatever the name is, and under no node's."""
    net, node = lonely()
    known = entry(("room", 7), "n05@h")
    net.feed(node, CacheRoute(known))
    assert node.machine.routes.get(("room", 7), net.now) == known
    assert node.machine.routes.get("n05@h", net.now) is None


def test_a_route_is_swept_when_it_is_old_and_never_used_after() -> None:
    """FAI-13: what is cached is older than now, and ends by its age."""
    net, node = found_elsewhere()
    net.run(net.now + ROUTE_TTL_MS - 10)
    assert len(node.machine.routes) == 1
    assert net.nodes["n00@h"].machine.routes.get(NAME, net.now + 10) is None
    net.run(net.now + 60_000)
    assert len(node.machine.routes) == 0
    assert node.timers == {}, "nothing is left to sweep"


def test_a_registration_ends_the_search_for_it() -> None:
    net = star(1)
    net.nodes["n01@h"].silent = True
    node = net.nodes["n00@h"]
    net.begin("n00@h", NAME)
    net.begin("n00@h", "other")
    node.services[NAME] = known = entry(NAME, "n05@h")
    net.feed(node, ServiceRegistered(NAME, "n05@h"))
    assert outcomes(node) == [FoundService("n05@h", known.pid, {})]
    assert node.machine.searches == 1


def test_what_is_ordered_is_ordered_in_full() -> None:
    net, node = lonely()
    net.feed(node, PeerUp("n01@h"))
    effects = node.machine.handle(Find(9, service(NAME), 600), now_ms=0)
    request = requests_of(effects)[0]
    assert effects == [
        SetTimer(("search", 9), 600),
        Send("n01@h", request),
        SetTimer(("ring", 9), RING_MS),
    ]
    assert (request.ttl, request.left_ms) == (1, 600)
    assert request.visited == ("n00@h", "n01@h")
    effects = node.machine.handle(TimerFired(("search", 9)), now_ms=600)
    assert effects[-1] == Publish(Answer(9, "timeout"))


def requests_of(effects: list[Any]) -> list[RouteRequest]:
    return [e.message for e in effects if isinstance(e, Send)]  # type: ignore[misc]

"""Members that lie to the views gain little, and cost no more than a few dials."""

from __future__ import annotations

import contextlib

import pytest

from barrel_p2p.core.effects import Dial, Effect, Publish, Send
from barrel_p2p.core.inputs import DialFailed, Received
from barrel_p2p.core.names import Address
from barrel_p2p.core.peers import NodeUp, PeerDown, PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.errors import WireError
from barrel_p2p.membership.commands import Join, Start
from barrel_p2p.membership.links import PENDING_MAX
from barrel_p2p.membership.machine import HyParView, Settings
from barrel_p2p.membership.messages import (
    PEERS_MAX,
    Disconnect,
    ForwardJoin,
    Message,
    Neighbor,
    NeighborReply,
    Shuffle,
    ShuffleReply,
    Verdict,
    decode,
)
from barrel_p2p.membership.messages import Join as JoinMessage
from barrel_p2p.membership.walks import WALKS_MAX
from tests.overlay_nodes import SimViews, address

ME = Address("me@h", "127.0.0.1", 9_000)
LIAR = "liar@h"
PLACE = ("127.0.0.1", 6_666)


class Target:
    """A machine with one liar among its honest peers."""

    def __init__(self, honest: int = 2, **changes: object) -> None:
        settings = Settings(**changes)  # type: ignore[arg-type]
        self.machine = HyParView(ME, settings, SeededRng(1))
        self.now_ms = 0
        self.tell(Start())
        for name in [*[f"p{i}@h" for i in range(honest)], LIAR]:
            self.tell(NodeUp(name))
            self.says(JoinMessage(1, False, PLACE), name)
        assert LIAR in self.machine.active_view()

    def tell(self, event: object) -> list[Effect]:
        return self.machine.handle(event, now_ms=self.now_ms)

    def says(self, message: Message, name: str = LIAR) -> list[Effect]:
        return self.tell(Received(name, message))


def fakes(count: int) -> tuple[Address, ...]:
    return tuple(Address(f"fake{i}@h", "192.0.2.1", 1 + i) for i in range(count))


def dials(effects: list[Effect]) -> list[Dial]:
    return [effect for effect in effects if isinstance(effect, Dial)]


def sends(effects: list[Effect]) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send)]


def test_a_reply_that_nobody_asked_for_makes_no_peer() -> None:
    target = Target(honest=0)
    target.tell(NodeUp("x@h"))
    reply = NeighborReply(1, Verdict.ACCEPTED, PLACE, fakes(64))
    assert target.says(reply, "x@h") == []
    assert target.says(ShuffleReply(1, fakes(64))) == []
    assert target.machine.active_view() == [LIAR]
    assert target.machine.passive_view() == []
    assert target.machine.counters.ignored == 2


def test_a_reply_of_another_node_to_our_request_is_dropped() -> None:
    target = Target(honest=0)
    target.tell(NodeUp("x@h"))
    (send,) = sends(target.tell(Join(Address("x@h", "127.0.0.1", 1))))
    assert isinstance(send.message, JoinMessage)
    forged = NeighborReply(send.message.request_id, Verdict.ACCEPTED, PLACE, ())
    assert target.says(forged) == []
    assert target.machine.active_view() == [LIAR]
    target.says(forged, "x@h")
    assert target.machine.active_view() == [LIAR, "x@h"]


def test_a_list_takes_no_more_places_than_a_shuffle_has() -> None:
    target = Target(honest=4)
    target.says(Shuffle(1, 0, address("o@h"), fakes(PEERS_MAX)))
    assert len(target.machine.passive_view()) <= 8


def test_this_node_and_its_peers_in_a_list_stay_where_they_are() -> None:
    target = Target(honest=4)
    known = (ME, *[Address(f"p{i}@h", "192.0.2.1", 7) for i in range(4)])
    target.says(Shuffle(1, 0, ME, known))
    target.says(Shuffle(1, 0, address(LIAR), known))
    assert target.machine.passive_view() == []
    for ttl in (0, 3, 255):
        for name in (ME, address("p0@h"), address(LIAR)):
            assert dials(target.says(ForwardJoin(ttl, name))) == []
    assert sorted(target.machine.active_view()) == [
        LIAR,
        *[f"p{i}@h" for i in range(4)],
    ]


def test_a_ttl_of_255_walks_no_farther_than_our_own() -> None:
    """A walk costs at most ``arwl`` steps, whatever its first sender says."""
    target = Target(honest=4)
    (join,) = sends(target.says(ForwardJoin(255, address("new@h"))))
    assert isinstance(join.message, ForwardJoin)
    assert join.message.ttl == 5
    (walk,) = sends(target.says(Shuffle(1, 255, address("o@h"), ())))
    assert isinstance(walk.message, Shuffle)
    assert walk.message.ttl == 5
    assert walk.to != LIAR


def test_walks_come_from_peers_only_and_not_without_end() -> None:
    target = Target(honest=4)
    target.tell(NodeUp("x@h"))
    assert target.says(ForwardJoin(6, address("new@h")), "x@h") == []
    assert target.says(Shuffle(1, 6, address("o@h"), ()), "x@h") == []
    sent = sum(
        len(sends(target.says(Shuffle(i, 6, address("o@h"), ()))))
        for i in range(4 * WALKS_MAX)
    )
    assert sent == WALKS_MAX


def test_newcomers_that_do_not_exist_cost_a_bounded_number_of_dials() -> None:
    target = Target(honest=4)
    under_way = [
        dial
        for fake in fakes(10 * PENDING_MAX)
        for dial in dials(target.says(ForwardJoin(0, fake)))
    ]
    assert len(under_way) <= PENDING_MAX
    for dial in under_way:
        target.tell(DialFailed(dial.node, dial.tag, "nodedown"))
    asked_again = [
        dial
        for fake in fakes(PENDING_MAX // 2)
        for dial in dials(target.says(ForwardJoin(0, fake)))
    ]
    assert asked_again == []
    assert len(target.machine.active_view()) == 5


def test_a_fake_entry_is_dropped_after_one_failed_probe_and_not_believed_again() -> (
    None
):
    target = Target(honest=0)
    effects = target.says(Shuffle(1, 0, address("o@h"), fakes(3)))
    for dial in dials(effects):
        assert dial.node in target.machine.passive_view()
        target.tell(DialFailed(dial.node, dial.tag, "nodedown"))
        assert dial.node not in target.machine.passive_view()
    target.says(Shuffle(2, 0, address("o@h"), fakes(3)))
    assert target.machine.passive_view() == []


def test_nobody_pushes_out_one_peer_after_the_other() -> None:
    target = Target(honest=4)
    target.says(Disconnect(leaving=False))
    target.tell(NodeUp("p9@h"))
    target.says(JoinMessage(1, False, PLACE), "p9@h")
    before = target.machine.counters.evicted
    for i in range(100):
        target.says(Neighbor(i, True, PLACE))
        target.says(Disconnect(leaving=False))
        target.tell(NodeUp("p9@h"))
        target.says(JoinMessage(i, False, PLACE), "p9@h")
        target.says(Neighbor(i, True, PLACE))
    assert target.machine.counters.evicted - before <= 2


def test_a_join_again_and_again_is_introduced_once_a_second() -> None:
    target = Target(honest=4)
    target.now_ms = 5_000
    told = [
        send
        for i in range(50)
        for send in sends(target.says(JoinMessage(i, False, PLACE)))
        if isinstance(send.message, ForwardJoin)
    ]
    assert len(told) == 4


def test_events_stay_in_turn_under_a_storm_of_nonsense() -> None:
    target = Target(honest=4)
    chance = SeededRng(3)
    names = [LIAR, *[f"p{i}@h" for i in range(4)], "x@h", "y@h"]
    up = set(target.machine.active_view())
    nonsense: list[Message] = [
        JoinMessage(1, False, PLACE),
        JoinMessage(1, True, ("", 0)),
        ForwardJoin(255, fakes(1)[0]),
        ForwardJoin(0, address("x@h")),
        Neighbor(1, True, PLACE),
        Neighbor(1, False, PLACE),
        NeighborReply(1, Verdict.ACCEPTED, PLACE, fakes(64)),
        Disconnect(leaving=False),
        Disconnect(leaving=True),
        Shuffle(1, 255, ME, fakes(64)),
        Shuffle(1, 0, address("o@h"), (ME, *fakes(63))),
        ShuffleReply(1, fakes(64)),
    ]
    for name in names:
        target.tell(NodeUp(name))
    for _ in range(5_000):
        target.now_ms += chance.below(20)
        name = names[chance.below(len(names))]
        for effect in target.says(nonsense[chance.below(len(nonsense))], name):
            if isinstance(effect, Publish) and isinstance(effect.event, PeerUp):
                assert effect.event.node not in up
                up.add(effect.event.node)
            elif isinstance(effect, Publish) and isinstance(effect.event, PeerDown):
                up.remove(effect.event.node)
        active, passive = target.machine.active_view(), target.machine.passive_view()
        assert up == set(active)
        assert len(active) <= 5
        assert len(passive) <= 30
        assert not up & set(passive)
        assert ME.name not in (*active, *passive)


def test_liars_hold_no_more_of_the_honest_links_than_twice_their_share() -> None:
    """One in ten tells every shuffle of nodes that are not there, or of its friends."""
    views = SimViews(seed=5)
    names = [f"n{i}@h" for i in range(40)]
    liars = [f"n{i}@h" for i in range(9, 40, 10)]
    views.add(names[0])
    for name in names[1:]:
        views.add(name, contacts=(names[0],))
    views.lie = lambda sender, message: (
        _lie(message, liars) if sender in liars else message
    )
    views.run(120_000)
    honest = [name for name in names if name not in liars]
    links = [p for name in honest for p in views.nodes[name].machine.active_view()]
    share = sum(1 for peer in links if peer in liars) / len(links)
    assert share <= 2 * len(liars) / len(names)
    for liar in liars:
        views.crash(liar)
    views.run(30_000)
    assert views.components() == [len(honest)]


def _lie(message: Message, friends: list[str]) -> Message:
    lies = (*fakes(4), *[address(friend) for friend in friends[:4]])
    match message:
        case Shuffle(request_id, ttl, origin, _):
            return Shuffle(request_id, ttl, origin, lies)
        case ShuffleReply(request_id, _):
            return ShuffleReply(request_id, lies)
        case ForwardJoin(ttl, _):
            return ForwardJoin(ttl, lies[ttl % len(lies)])
        case NeighborReply(request_id, verdict, place, _):
            return NeighborReply(request_id, verdict, place, lies)
        case _:
            return message


@pytest.mark.parametrize("kind", range(32, 39))
def test_random_bytes_are_refused_or_are_a_message(kind: int) -> None:
    chance = SeededRng(kind)
    for _ in range(2_000):
        body = bytes([chance.below(256) for _ in range(chance.below(40))])
        with contextlib.suppress(WireError):
            assert isinstance(decode(kind, body, peer=LIAR), Message)

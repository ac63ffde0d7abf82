"""The rules of links, one node at a time: what it answers, and what it tells."""

from __future__ import annotations

import pytest

from barrel_p2p.core.effects import (
    CancelTimer,
    Dial,
    Effect,
    Persist,
    Publish,
    Send,
    SetTimer,
)
from barrel_p2p.core.inputs import (
    DialFailed,
    Dialled,
    PersistFailed,
    Received,
    TimerFired,
)
from barrel_p2p.core.names import Address
from barrel_p2p.core.peers import Joined, Left, NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.membership.commands import (
    BlockPeers,
    Join,
    JoinFailed,
    Leave,
    Start,
    UnblockPeers,
)
from barrel_p2p.membership.links import LEFT_QUIET_MS
from barrel_p2p.membership.machine import HyParView, Settings
from barrel_p2p.membership.messages import (
    Disconnect,
    ForwardJoin,
    Message,
    Neighbor,
    NeighborReply,
    Shuffle,
    ShuffleReply,
    Verdict,
)
from barrel_p2p.membership.messages import Join as JoinMessage
from tests.overlay_nodes import address

ME = Address("me@h", "127.0.0.1", 9_000)
PLACE = ("127.0.0.1", 5)


class One:
    """One machine and a clock of its own."""

    def __init__(
        self, peers: int = 0, *, remembered: tuple[Address, ...] = (), **changes: object
    ) -> None:
        settings = Settings(**changes)  # type: ignore[arg-type]
        self.machine = HyParView(ME, settings, SeededRng(1))
        self.now_ms = 0
        self.tell(Start(remembered))
        for i in range(peers):
            self.joined(f"p{i}@h")

    def tell(self, event: object) -> list[Effect]:
        return self.machine.handle(event, now_ms=self.now_ms)

    def says(self, name: str, message: Message) -> list[Effect]:
        return self.tell(Received(name, message))

    def joined(self, name: str) -> list[Effect]:
        self.tell(NodeUp(name))
        return self.says(name, JoinMessage(1, False, PLACE))

    def hears_of(self, *names: str) -> list[Effect]:
        peer = self.machine.active_view()[0]
        listed = tuple(address(name) for name in names)
        return self.says(peer, Shuffle(9, 0, address(peer), listed))


def sent(effects: list[Effect], kind: type) -> list[tuple[str, object]]:
    return [
        (effect.to, effect.message)
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, kind)
    ]


def published(effects: list[Effect]) -> list[object]:
    return [effect.event for effect in effects if isinstance(effect, Publish)]


def dialled(effects: list[Effect]) -> list[str]:
    return [effect.node for effect in effects if isinstance(effect, Dial)]


def request(effects: list[Effect], name: str) -> Neighbor | JoinMessage:
    (found,) = [
        effect.message
        for effect in effects
        if isinstance(effect, Send)
        and effect.to == name
        and isinstance(effect.message, Neighbor | JoinMessage)
    ]
    return found


def test_neighbor_is_sent_when_the_link_is_up_and_its_reply_makes_the_peer() -> None:
    """A promotion of the original was sent before there was a channel, and was lost."""
    one = One(peers=1, active_size=2)
    effects = one.hears_of("new@h")
    (dial,) = [e for e in effects if isinstance(e, Dial) and e.node == "new@h"]
    assert sent(effects, Neighbor) == []
    effects = one.tell(NodeUp("new@h"))
    asked = request(effects, "new@h")
    assert one.tell(Dialled("new@h", dial.tag)) == []
    reply = NeighborReply(asked.request_id, Verdict.ACCEPTED, PLACE, ())
    assert published(one.says("new@h", reply)) == [PeerUp("new@h")]
    assert one.says("new@h", reply) == []


@pytest.mark.parametrize("high", [False, True])
def test_an_accepted_neighbor_is_told_as_a_peer(high: bool) -> None:
    """The original told nobody of peers that it gained this way."""
    one = One()
    one.tell(NodeUp("a@h"))
    effects = one.says("a@h", Neighbor(3, high, PLACE))
    ((_, reply),) = sent(effects, NeighborReply)
    assert isinstance(reply, NeighborReply)
    assert (reply.request_id, reply.verdict) == (3, Verdict.ACCEPTED)
    assert published(effects) == [PeerUp("a@h"), Joined()]


def test_a_low_neighbor_is_refused_without_room_and_a_high_one_is_not() -> None:
    one = One(peers=5)
    one.tell(NodeUp("a@h"))
    ((_, reply),) = sent(one.says("a@h", Neighbor(3, False, PLACE)), NeighborReply)
    assert isinstance(reply, NeighborReply)
    assert reply.verdict is Verdict.REFUSED
    assert "a@h" in one.machine.passive_view()
    effects = one.says("a@h", Neighbor(4, True, PLACE))
    down, up = published(effects)
    assert isinstance(down, PeerDown)
    assert down.reason == "dropped"
    assert up == PeerUp("a@h")
    assert [to for to, _ in sent(effects, Disconnect)] == [down.node]
    assert down.node in one.machine.passive_view()
    assert "a@h" not in one.machine.passive_view()


def test_a_join_of_somebody_present_evicts_nobody() -> None:
    one = One(peers=5)
    effects = one.says("p0@h", JoinMessage(2, False, PLACE))
    assert published(effects) == []
    assert len(one.machine.active_view()) == 5


def test_the_join_path_keeps_to_the_limit_of_the_active_view() -> None:
    one = One(peers=1, active_size=1)
    assert published(one.joined("a@h")) == [PeerDown("p0@h", "dropped"), PeerUp("a@h")]
    effects = one.tell(Join(address("b@h")))
    assert dialled(effects) == ["b@h"]
    asked = request(one.tell(NodeUp("b@h")), "b@h")
    reply = NeighborReply(asked.request_id, Verdict.ACCEPTED, PLACE, ())
    effects = one.says("b@h", reply)
    assert published(effects) == [PeerDown("a@h", "dropped"), PeerUp("b@h")]
    assert one.machine.active_view() == ["b@h"]


def test_a_newcomer_is_introduced_to_every_other_peer() -> None:
    one = One(peers=2)
    effects = one.joined("new@h")
    told = sent(effects, ForwardJoin)
    newcomer = Address("new@h", *PLACE)
    assert told == [(f"p{i}@h", ForwardJoin(6, newcomer)) for i in range(2)]


def test_whoever_takes_a_newcomer_asks_it_for_a_link() -> None:
    """In the original only one side had the link."""
    one = One(peers=5, active_size=5)
    effects = one.says("p0@h", ForwardJoin(0, address("new@h")))
    assert dialled(effects) == ["new@h"]
    asked = request(one.tell(NodeUp("new@h")), "new@h")
    assert isinstance(asked, Neighbor)
    reply = NeighborReply(asked.request_id, Verdict.ACCEPTED, PLACE, ())
    down, up = published(one.says("new@h", reply))
    assert isinstance(down, PeerDown)
    assert up == PeerUp("new@h")


def test_a_walk_is_remembered_at_prwl_and_goes_on_to_somebody_else() -> None:
    one = One(peers=5)
    effects = one.says("p0@h", ForwardJoin(3, address("new@h")))
    assert one.machine.passive_view() == ["new@h"]
    ((to, message),) = sent(effects, ForwardJoin)
    assert to != "p0@h"
    assert message == ForwardJoin(2, address("new@h"))
    assert dialled(effects) == []


def test_leave_is_told_peer_by_peer_and_invitations_are_refused_until_a_join() -> None:
    one = One(peers=3)
    effects = one.tell(Leave())
    assert [m for _, m in sent(effects, Disconnect)] == [Disconnect(True)] * 3
    downs = [PeerDown(f"p{i}@h", "left") for i in range(3)]
    assert published(effects) == [*downs, Left()]
    for message in (Neighbor(7, True, PLACE), JoinMessage(7, False, PLACE)):
        ((_, reply),) = sent(one.says("p0@h", message), NeighborReply)
        assert reply == NeighborReply(7, Verdict.LEFT, ("127.0.0.1", 9_000), ())
    one.now_ms = 10**6
    assert one.tell(TimerFired("contact")) == []
    assert one.machine.active_view() == []
    asked = request(one.tell(Join(address("p1@h"))), "p1@h")
    reply = NeighborReply(asked.request_id, Verdict.ACCEPTED, PLACE, ())
    assert published(one.says("p1@h", reply)) == [PeerUp("p1@h"), Joined()]


def test_leave_on_a_lone_node_leaves_both_views_empty() -> None:
    """HPV-04."""
    one = One()
    assert published(one.tell(Leave())) == [Left()]
    assert one.machine.active_view() == one.machine.passive_view() == []


def test_who_leaves_again_is_told_left_no_second_time_before_a_join() -> None:
    """A node that has left leaves once more when it stops."""
    one = One(peers=1)
    assert published(one.tell(Leave()))[-1] == Left()
    assert published(one.tell(Leave(forget=False))) == []
    assert published(one.tell(Leave())) == []
    one.tell(Join(address("p1@h")))
    assert published(one.tell(Leave())) == [Left()]


def test_who_has_left_is_not_asked_back_for_a_while_unless_it_comes_itself() -> None:
    one = One(peers=2)
    one.says("p0@h", Disconnect(leaving=True))
    assert dialled(one.hears_of("p0@h")) == []
    assert "p0@h" not in one.machine.passive_view()
    one.now_ms = LEFT_QUIET_MS
    one.hears_of("p0@h")
    assert "p0@h" in one.machine.passive_view()
    one.says("p1@h", Disconnect(leaving=True))
    one.tell(NodeUp("p1@h"))
    one.says("p1@h", Neighbor(1, False, PLACE))
    assert "p1@h" in one.machine.active_view()


def test_a_peer_that_shut_down_in_good_order_counts_as_left() -> None:
    one = One(peers=1)
    assert published(one.tell(NodeDown("p0@h", "shutdown"))) == [
        PeerDown("p0@h", "left")
    ]
    assert one.machine.passive_view() == []


def test_a_failed_peer_stays_a_replacement_and_is_left_alone_for_a_while() -> None:
    """The original forgot it. HPV-32: after enough failures it is dropped."""
    one = One(peers=1, max_fail_count=3, base_backoff_ms=100)
    effects = one.tell(NodeDown("p0@h", "idle_timeout"))
    assert published(effects) == [PeerDown("p0@h", "idle_timeout")]
    assert one.machine.passive_view() == ["p0@h"]
    assert dialled(effects) == []
    for _ in range(2):
        assert "p0@h" in one.machine.passive_view()
        one.now_ms += 10_000
        effects = one.tell(TimerFired("promote"))
        (dial,) = [effect for effect in effects if isinstance(effect, Dial)]
        one.tell(DialFailed("p0@h", dial.tag, "nodedown"))
    assert one.machine.passive_view() == []
    assert [peer.name for peer in one.machine.remembered()] == ["p0@h"]


def test_promotion_is_tried_again_by_a_timer_and_when_a_node_is_heard_of() -> None:
    one = One(peers=2, active_size=2)
    effects = one.tell(NodeDown("p0@h", "idle_timeout"))
    timers = [e for e in effects if isinstance(e, SetTimer) and e.key == "promote"]
    assert len(timers) == 1
    assert dialled(effects) == []
    assert dialled(one.hears_of("new@h")) != []


def test_a_refusal_goes_on_to_the_next_replacement() -> None:
    one = One(peers=1, active_size=2)
    first = dialled(one.hears_of("a@h", "b@h", "c@h"))
    assert len(first) == 1
    asked = request(one.tell(NodeUp(first[0])), first[0])
    refusal = NeighborReply(asked.request_id, Verdict.REFUSED, PLACE, ())
    second = dialled(one.says(first[0], refusal))
    assert len(second) == 1
    assert second != first
    assert first[0] in one.machine.passive_view()


def test_a_request_that_times_out_has_failed_and_its_reply_is_nothing() -> None:
    """SEC-03: no phantom entry stays; the timer is of the entry, not of the node."""
    one = One(peers=1, active_size=2, pending_timeout_ms=200)
    effects = one.hears_of("a@h")
    (dial,) = [effect for effect in effects if isinstance(effect, Dial)]
    timer = SetTimer(("pending", dial.tag), 200)
    assert timer in effects
    asked = request(one.tell(NodeUp(dial.node)), dial.node)
    effects = one.tell(TimerFired(timer.key))
    assert (dial.node, Disconnect(False)) in sent(effects, Disconnect)
    assert one.machine.counters.pending_timeouts == 1
    late = NeighborReply(asked.request_id, Verdict.ACCEPTED, PLACE, ())
    assert one.says(dial.node, late) == []
    assert one.tell(TimerFired(timer.key)) == []


def test_a_newer_entry_does_not_die_of_an_older_timer() -> None:
    one = One()
    (old,) = [e for e in one.tell(Join(address("a@h"))) if isinstance(e, Dial)]
    effects = one.tell(Join(address("a@h")))
    (new,) = [e for e in effects if isinstance(e, Dial)]
    assert CancelTimer(("pending", old.tag)) in effects
    assert one.tell(TimerFired(("pending", old.tag))) == []
    assert one.tell(DialFailed("a@h", old.tag, "nodedown")) == []
    request(one.tell(NodeUp("a@h")), "a@h")
    assert new.tag != old.tag


def test_a_blocked_node_is_out_on_every_path() -> None:
    one = One(peers=1)
    effects = one.tell(BlockPeers(("p0@h", "b@h")))
    assert published(effects) == [PeerDown("p0@h", "blocked")]
    assert sent(effects, Disconnect) == [("p0@h", Disconnect(False))]
    one.tell(NodeUp("b@h"))
    for message in (Neighbor(1, True, PLACE), JoinMessage(1, False, PLACE)):
        ((_, reply),) = sent(one.says("b@h", message), NeighborReply)
        assert isinstance(reply, NeighborReply)
        assert reply.verdict is Verdict.REFUSED
    one.joined("a@h")
    assert dialled(one.says("a@h", ForwardJoin(0, address("b@h")))) == []
    assert "b@h" not in dialled(one.hears_of("b@h"))
    assert published(one.tell(Join(address("b@h")))) == [JoinFailed("b@h", "refused")]
    assert one.machine.active_view() == ["a@h"]
    one.tell(UnblockPeers(("b@h",)))
    assert published(one.joined("b@h")) == [PeerUp("b@h")]
    one.tell(UnblockPeers())
    assert one.machine.blocked() == []


def test_a_shuffle_keeps_its_origin_and_its_answer_comes_back_the_same_way() -> None:
    """In the original each hop answered, and called itself the origin."""
    one = One(peers=5)
    origin, told = address("o@h"), (address("x@h"), address("y@h"))
    ((to, on),) = sent(one.says("p0@h", Shuffle(77, 3, origin, told)), Shuffle)
    assert isinstance(on, Shuffle)
    assert (on.ttl, on.origin, on.peers) == (2, origin, told)
    assert to != "p0@h"
    assert one.machine.passive_view() == []
    answer = (address("z@h"),)
    assert one.says("p0@h", ShuffleReply(on.request_id, answer)) == []
    back = one.says(to, ShuffleReply(on.request_id, answer))
    assert back == [Send("p0@h", ShuffleReply(77, answer))]
    assert one.says(to, ShuffleReply(on.request_id, answer)) == []
    effects = one.says("p0@h", Shuffle(78, 0, origin, told))
    ((to, reply),) = sent(effects, ShuffleReply)
    assert (to, reply) == ("p0@h", ShuffleReply(78, (ME,)))
    assert sorted(one.machine.passive_view()) == ["o@h", "x@h", "y@h"]


def test_what_was_sent_makes_room_first_for_what_comes_back() -> None:
    one = One(peers=5, passive_size=5, shuffle_length=8)
    one.hears_of(*[f"old{i}@h" for i in range(5)])
    before = one.machine.passive_view()
    assert len(before) == 5
    ((to, begun),) = sent(one.tell(TimerFired("shuffle")), Shuffle)
    assert isinstance(begun, Shuffle)
    assert begun.origin == ME
    told = [peer.name for peer in begun.peers]
    assert to not in told
    replaced = [name for name in told if name in before]
    assert len(replaced) == 4
    new = tuple(address(f"new{i}@h") for i in range(4))
    one.says(to, ShuffleReply(begun.request_id, new))
    after = one.machine.passive_view()
    kept = [name for name in before if name not in replaced]
    assert sorted(after) == sorted([*kept, *[peer.name for peer in new]])


def test_a_soft_join_is_introduced_and_invites_one_request() -> None:
    one = One(peers=5)
    one.tell(NodeUp("s@h"))
    effects = one.says("s@h", JoinMessage(5, True, PLACE))
    ((_, reply),) = sent(effects, NeighborReply)
    assert isinstance(reply, NeighborReply)
    assert reply.verdict is Verdict.REFUSED
    assert len(sent(effects, ForwardJoin)) == 1

    asker = One(peers=5, contact_nodes=(address("c@h"),))
    assert dialled(asker.tell(TimerFired("contact"))) == ["c@h"]
    asked = request(asker.tell(NodeUp("c@h")), "c@h")
    assert isinstance(asked, JoinMessage)
    assert asked.soft
    refusal = NeighborReply(asked.request_id, Verdict.REFUSED, PLACE, ())
    assert published(asker.says("c@h", refusal)) == []
    for name, ups in (("far@h", [PeerUp("far@h")]), ("other@h", [])):
        asker.tell(NodeUp(name))
        told = published(asker.says(name, Neighbor(1, False, PLACE)))
        assert [event for event in told if isinstance(event, PeerUp)] == ups


def test_contacts_are_asked_only_to_introduce_while_there_are_peers() -> None:
    """BOO-03, BOO-04: while alone, every contact is joined, again and again."""
    contacts = (address("c@h"), address("d@h"), ME)
    one = One(contact_nodes=contacts)
    for _ in range(3):
        effects = one.tell(TimerFired("contact"))
        assert dialled(effects) == ["c@h", "d@h"]
        assert any(isinstance(e, SetTimer) and e.key == "contact" for e in effects)
        for dial in [effect for effect in effects if isinstance(effect, Dial)]:
            one.tell(DialFailed(dial.node, dial.tag, "nodedown"))
    one.joined("p@h")
    assert len(dialled(one.tell(TimerFired("contact")))) == 1


def test_a_node_without_contacts_contacts_nobody() -> None:
    """BOO-01, BOO-05, HPW-04: and what it does not know does nothing."""
    one = One()
    assert dialled(one.tell(TimerFired("contact"))) == []
    assert one.tell(TimerFired("nothing")) == []
    one.tell(NodeUp("a@h"))
    assert one.tell(Received("a@h", object())) == []
    assert one.machine.counters.ignored == 1
    with pytest.raises(TypeError, match="str is no input"):
        one.tell("nonsense")


def test_a_former_peer_is_joined_again_by_a_node_that_is_alone() -> None:
    one = One(remembered=(address("old@h"), ME))
    assert dialled(one.tell(TimerFired("contact"))) == ["old@h"]


def test_a_lost_peer_is_looked_for_and_joined_softly_when_it_is_there_again() -> None:
    one = One(peers=5, remembered=(address("lost@h"),))
    effects = one.tell(TimerFired("shuffle"))
    assert "lost@h" in dialled(effects)
    asked = request(one.tell(NodeUp("lost@h")), "lost@h")
    assert isinstance(asked, JoinMessage)
    assert asked.soft


def test_peers_are_written_when_they_have_changed_and_again_if_that_failed() -> None:
    one = One(peers=1)
    kept = [e for e in one.tell(TimerFired("shuffle")) if isinstance(e, Persist)]
    assert kept == [Persist("peers", (Address("p0@h", *PLACE),))]
    assert not any(isinstance(e, Persist) for e in one.tell(TimerFired("shuffle")))
    one.tell(PersistFailed("peers", "disk full"))
    assert any(isinstance(e, Persist) for e in one.tell(TimerFired("shuffle")))


def test_whoever_says_disconnect_gives_up_its_own_request() -> None:
    """Else a reply that was under way would make a link that only one side has."""
    one = One(active_size=1)
    one.tell(NodeUp("a@h"))
    asked = request(one.tell(Join(address("a@h"))), "a@h")
    assert PeerUp("a@h") in published(one.says("a@h", Neighbor(1, False, PLACE)))
    assert published(one.joined("b@h")) == [PeerDown("a@h", "dropped"), PeerUp("b@h")]
    late = NeighborReply(asked.request_id, Verdict.ACCEPTED, PLACE, ())
    assert one.says("a@h", late) == []
    assert one.machine.active_view() == ["b@h"]


def test_a_reply_to_another_request_is_dropped() -> None:
    one = One()
    one.tell(NodeUp("a@h"))
    asked = request(one.tell(Join(address("a@h"))), "a@h")
    other = NeighborReply(asked.request_id - 1, Verdict.ACCEPTED, PLACE, ())
    assert one.says("a@h", other) == []
    assert one.machine.active_view() == []


def test_a_replacement_that_says_it_has_left_is_no_replacement() -> None:
    one = One(peers=1, active_size=2)
    one.hears_of("a@h")
    asked = request(one.tell(NodeUp("a@h")), "a@h")
    one.says("a@h", NeighborReply(asked.request_id, Verdict.LEFT, PLACE, ()))
    assert one.machine.passive_view() == []
    one.hears_of("a@h")
    assert one.machine.passive_view() == []


def test_an_answer_to_our_shuffle_counts_only_from_whom_we_asked() -> None:
    one = One(peers=5)
    ((to, begun),) = sent(one.tell(TimerFired("shuffle")), Shuffle)
    assert isinstance(begun, Shuffle)
    other = next(name for name in one.machine.active_view() if name != to)
    answer = ShuffleReply(begun.request_id, (address("x@h"),))
    assert one.says(other, answer) == []
    assert one.machine.passive_view() == []
    one.says(to, answer)
    assert one.machine.passive_view() == ["x@h"]


def test_a_request_ends_with_its_channel() -> None:
    one = One()
    one.tell(NodeUp("a@h"))
    asked = request(one.tell(Join(address("a@h"))), "a@h")
    effects = one.tell(NodeDown("a@h", "idle_timeout"))
    assert published(effects) == [JoinFailed("a@h", "idle_timeout")]
    one.tell(NodeUp("a@h"))
    late = NeighborReply(asked.request_id, Verdict.ACCEPTED, PLACE, ())
    assert one.says("a@h", late) == []


def test_a_message_without_a_channel_is_ignored() -> None:
    one = One()
    assert one.says("a@h", JoinMessage(1, False, PLACE)) == []
    assert one.machine.counters.ignored == 1


def test_a_former_peer_that_has_a_channel_is_not_asked_whether_it_is_there() -> None:
    """It would take this node for a peer, and this one would not know of it."""
    one = One(remembered=(address("old@h"),), active_size=1)
    one.tell(NodeUp("old@h"))
    one.joined("p@h")
    one.now_ms += Settings().passive_max_age_ms + 1
    effects = one.tell(TimerFired("shuffle"))
    assert one.machine.counters.probes == 1
    assert "old@h" not in [to for to, _ in sent(effects, Neighbor)]

"""A gap that nobody can fill costs little, and a disaster uses all that was heard."""

from __future__ import annotations

from barrel_p2p.core.effects import Dial, Effect, Send, SetTimer
from barrel_p2p.core.inputs import DialFailed, TimerFired
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.membership.messages import (
    Disconnect,
    ForwardJoin,
    Neighbor,
    NeighborReply,
    Verdict,
)
from barrel_p2p.membership.passive import SPARES_MAX, PassiveView
from barrel_p2p.membership.settings import Settings
from tests.overlay_nodes import address
from tests.unit.membership.test_link_rules import PLACE, One, dialled, request, sent


def dials(effects: list[Effect]) -> list[Dial]:
    return [effect for effect in effects if isinstance(effect, Dial)]


def refuse_all(one: One, effects: list[Effect]) -> int:
    """Refuse every request, at once, until no more come; returns how many."""
    count = 0
    waiting = dials(effects)
    while waiting:
        name = waiting.pop().node
        asked = request(one.tell(NodeUp(name)), name)
        reply = NeighborReply(asked.request_id, Verdict.REFUSED, PLACE, ())
        waiting += dials(one.says(name, reply))
        count += 1
    return count


def with_many_full_replacements() -> One:
    one = One(peers=1, active_size=2, passive_size=60, shuffle_length=60)
    effects = one.hears_of(*(f"n{i}@h" for i in range(50)))
    assert 2 <= refuse_all(one, effects) < 20
    return one


def test_where_all_are_full_a_node_rests_before_it_asks_more() -> None:
    one = with_many_full_replacements()
    one.now_ms += 100
    assert dials(one.tell(TimerFired("promote"))) == []
    one.now_ms += 60_000
    assert len(dials(one.tell(TimerFired("promote")))) == 1


def test_a_node_that_rests_is_woken_by_a_timer() -> None:
    one = with_many_full_replacements()
    one.now_ms += 100
    effects = one.tell(TimerFired("promote"))
    (timer,) = [effect for effect in effects if isinstance(effect, SetTimer)]
    assert timer.key == "promote"
    assert 0 < timer.delay_ms <= 20_000


def test_a_lost_peer_ends_the_rest() -> None:
    one = with_many_full_replacements()
    assert dials(one.tell(NodeDown("p0@h", "idle_timeout"))) != []


def test_who_had_to_make_room_is_asked_when_all_others_have_failed() -> None:
    one = One(peers=1, active_size=1, passive_size=2)
    names = [f"n{i}@h" for i in range(10)]
    for name in names:
        one.hears_of(name)
    assert len(one.machine.passive_view()) == 2
    tried: list[str] = []
    waiting = dials(one.tell(NodeDown("p0@h", "idle_timeout")))
    while waiting:
        dial = waiting.pop()
        tried.append(dial.node)
        waiting += dials(one.tell(DialFailed(dial.node, dial.tag, "unreachable")))
    assert sorted(set(tried) - {"p0@h"}) == names
    assert len(tried) == len(set(tried))


def test_spares_are_bounded_and_the_oldest_goes() -> None:
    passive = PassiveView(Settings(passive_size=1), SeededRng(1))
    for i in range(SPARES_MAX + 10):
        passive.add(address(f"n{i}@h"), 0)
    spares = []
    while (spare := passive.take_spare()) is not None:
        spares.append(spare.name)
    assert spares == [f"n{i}@h" for i in range(SPARES_MAX + 8, 8, -1)]


def test_a_node_that_had_failed_is_no_spare() -> None:
    passive = PassiveView(Settings(passive_size=1), SeededRng(1))
    passive.met(address("a@h"), 0)
    passive.failed("a@h", 0)
    passive.add(address("b@h"), 0)
    assert passive.take_spare() is None


def test_a_node_that_is_alone_joins_several_former_peers_at_once() -> None:
    one = One(remembered=tuple(address(f"p{i}@h") for i in range(20)))
    assert 2 <= len(dialled(one.tell(TimerFired("contact")))) <= 16


def test_peers_are_swapped_less_often_the_longer_nothing_was_lost() -> None:
    def swaps(rounds: int) -> int:
        before = one.machine.counters.swaps
        for _ in range(rounds):
            one.now_ms += 10_000
            one.hears_of(f"x{one.now_ms}@h")
            for dial in dials(one.tell(TimerFired("shuffle"))):
                one.tell(DialFailed(dial.node, dial.tag, "unreachable"))
        return one.machine.counters.swaps - before

    one = One(peers=1, active_size=1)
    restless = 0
    for _ in range(20):
        one.tell(NodeDown("p0@h", "idle_timeout"))
        one.joined("p0@h")
        restless += swaps(5)
    assert restless > 2 * swaps(100)
    assert swaps(2_000) <= 20


def contact_waits(one: One, count: int) -> list[int]:
    """Milliseconds from one contact to the next, as long as nothing happens."""
    waits = []
    for _ in range(count):
        effects = one.tell(TimerFired("contact"))
        (wait,) = [
            effect.delay_ms
            for effect in effects
            if isinstance(effect, SetTimer) and effect.key == "contact"
        ]
        waits.append(wait)
        one.now_ms += wait
    return waits


def test_in_a_large_cluster_a_node_asks_three_times_and_then_rarely() -> None:
    """Each change of the overlay costs second copies of the next broadcasts."""
    one = One(peers=1, active_size=1, shuffle_length=40)
    one.hears_of(*(f"n{i}@h" for i in range(40)))
    first, second, *later = contact_waits(one, 6)
    assert first <= 12_500
    assert second <= 50_000
    assert min(later) >= 480_000


def test_in_a_small_cluster_a_node_asks_every_minute_or_two() -> None:
    waits = contact_waits(One(peers=3), 8)
    assert max(waits[3:]) <= 100_000
    assert min(waits[3:]) >= 60_000


def test_the_two_who_go_for_a_swap_are_told_of_each_other() -> None:
    """So that a swap leaves no gap: whoever asks, and whoever is asked, is full."""
    one = One(peers=2, active_size=2)
    one.tell(NodeUp("x@h"))
    effects = one.says("x@h", Neighbor(5, True, PLACE))
    ((_, reply),) = sent(effects, NeighborReply)
    ((gone, _),) = sent(effects, Disconnect)
    assert isinstance(reply, NeighborReply)
    assert reply.peers[0].name == gone

    two = One(peers=2, active_size=2)
    two.tell(NodeUp("p0@h"))
    walk = ForwardJoin(0, address("y@h"))
    (name,) = dialled(two.says("p0@h", walk))
    request_id = request(two.tell(NodeUp(name)), name).request_id
    effects = two.says(
        name, NeighborReply(request_id, Verdict.ACCEPTED, PLACE, (address("z@h"),))
    )
    ((gone, _),) = sent(effects, Disconnect)
    assert sent(effects, ForwardJoin) == [(gone, ForwardJoin(0, address("z@h")))]
    order = [type(e.message) for e in effects if isinstance(e, Send) and e.to == gone]
    assert order == [ForwardJoin, Disconnect]


def test_a_lost_peer_makes_a_node_contact_others_soon() -> None:
    one = One(
        peers=2, active_size=2, contact_nodes=(address("seed@h"),), shuffle_period=1_000
    )
    for _ in range(4):
        one.now_ms += 100_000
        one.tell(TimerFired("contact"))
    effects = one.tell(NodeDown("p0@h", "idle_timeout"))
    (timer,) = [e for e in effects if isinstance(e, SetTimer) and e.key == "contact"]
    assert timer.delay_ms <= 1_000

"""The machine's decisions, one rule at a time; each defect of others has its test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from barrel_p2p.broadcast import machine as room
from barrel_p2p.broadcast.backlog import BACKLOG_IDS_MAX
from barrel_p2p.broadcast.limits import (
    DRAIN_BYTES,
    GRAFT_RETRY_MS,
    GRAFT_TIMEOUT_MS,
    IHAVE_BATCH,
    IHAVE_FLUSH_MS,
    MESSAGE_TTL_MS,
    OPTIMISE_HOPS,
    PRUNE_AGAIN_MS,
    RECENT_MS,
)
from barrel_p2p.broadcast.machine import (
    BroadcastMessage,
    Congested,
    Plumtree,
    Uncongested,
)
from barrel_p2p.broadcast.messages import (
    PRUNE,
    Delivery,
    Gossip,
    Graft,
    IHave,
    Message,
)
from barrel_p2p.broadcast.repair import GRAFT_TRIES_MAX, STEP_MS, STEPS_MAX
from barrel_p2p.core.effects import Effect, Publish, Send, SetTimer
from barrel_p2p.core.inputs import Received, TimerFired
from barrel_p2p.core.peers import PeerDown, PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.errors import InvalidValue

A, B, C = "a@h", "b@h", "c@h"
ID, OTHER = bytes(range(16)), bytes(range(16, 32))


class Bench:
    """A machine, its clock, and the timers that it has set."""

    def __init__(self, *peers: str, **options: int) -> None:
        self.machine = Plumtree("me@h", SeededRng(1), **options)
        self.now_ms = 1_000
        self.timers: dict[object, int] = {}
        for peer in peers:
            self.feed(PeerUp(peer))

    def feed(self, event: object) -> list[Effect]:
        effects = self.machine.handle(event, now_ms=self.now_ms)
        for effect in effects:
            if isinstance(effect, SetTimer):
                self.timers[effect.key] = self.now_ms + effect.delay_ms
        return [effect for effect in effects if not isinstance(effect, SetTimer)]

    def hear(self, peer: str, message: Message) -> list[Effect]:
        return self.feed(Received(peer, message))

    def gossip(self, peer: str, message_id: bytes = ID, hops: int = 1) -> list[Effect]:
        return self.hear(peer, Gossip(hops, message_id, "t", b"x"))

    def ihave(self, peer: str, *ids: bytes, hops: int = 1) -> list[Effect]:
        return self.hear(peer, IHave(b"".join(ids), bytes([hops]) * len(ids)))

    def wait(self, ms: int) -> list[Effect]:
        """Let time pass, and every timer fire when it is due."""
        end_ms = self.now_ms + ms
        effects: list[Effect] = []
        while self.timers and min(self.timers.values()) <= end_ms:
            key = min(self.timers, key=lambda key: self.timers[key])
            self.now_ms = self.timers.pop(key)
            effects += self.feed(TimerFired(key))
        self.now_ms = end_ms
        return effects

    def stat(self, name: str) -> int:
        return self.machine.stats()[name]


def fed(*peers: str) -> Bench:
    """A machine to which the first of ``peers`` has pushed something."""
    bench = Bench(*peers)
    bench.gossip(peers[0], b"\xff" * 16)
    return bench


def sent(effects: list[Effect], kind: type[Message]) -> list[tuple[str, Message]]:
    return [
        (effect.to, effect.message)
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, kind)
    ]


def test_all_peers_begin_eager_and_leave_both_sets() -> None:
    bench = Bench(A, B)
    bench.hear(B, PRUNE)
    assert (bench.machine.eager, bench.machine.lazy) == ([A], [B])
    bench.feed(PeerDown(A, "dropped"))
    bench.feed(PeerDown(B, "dropped"))
    assert (bench.machine.eager, bench.machine.lazy) == ([], [])


def test_a_new_peer_of_a_node_that_nobody_feeds_is_asked_to_push() -> None:
    bench = Bench(A)
    assert bench.feed(PeerUp(B)) == [Send(B, Graft(b""))]
    bench.gossip(A)
    bench.hear(A, PRUNE)
    assert bench.feed(PeerUp(C))[0] == Send(C, Graft(b""))
    assert (bench.machine.eager, bench.machine.lazy) == ([B, C], [A])


def test_a_new_peer_of_a_node_that_is_fed_begins_lazy() -> None:
    """A link more would bring a second copy of the next message, at both ends."""
    bench = fed(A)
    assert sent(bench.feed(PeerUp(B)), Graft) == []
    assert (bench.machine.eager, bench.machine.lazy) == ([A], [B])
    bench.feed(PeerDown(A, "idle_timeout"))
    assert bench.feed(PeerUp(C))[0] == Send(C, Graft(b""))
    assert C in bench.machine.eager


def test_a_broadcast_is_delivered_here_and_pushed_to_the_eager_only() -> None:
    bench = Bench(A, B)
    bench.hear(B, PRUNE)
    effects = bench.feed(BroadcastMessage("t", b"x", ID))
    assert effects == [
        Send(A, Gossip(1, ID, "t", b"x")),
        Publish(Delivery("t", b"x", ID, True)),
    ]


def test_a_new_message_goes_on_with_one_hop_more_and_not_back() -> None:
    bench = Bench(A, B, C)
    effects = bench.gossip(A, hops=3)
    assert effects == [
        Send(B, Gossip(4, ID, "t", b"x")),
        Send(C, Gossip(4, ID, "t", b"x")),
        Publish(Delivery("t", b"x", ID, False)),
    ]


def test_hops_stop_at_the_most_that_fit() -> None:
    bench = Bench(A, B)
    assert sent(bench.gossip(A, hops=255), Gossip) == [(B, Gossip(255, ID, "t", b"x"))]


def test_a_duplicate_makes_its_sender_lazy_here_too() -> None:
    bench = Bench(A, B)
    bench.gossip(A)
    assert bench.gossip(B) == [Send(B, PRUNE)]
    assert bench.machine.lazy == [B]
    assert sent(bench.gossip(A, OTHER), Gossip) == []
    assert bench.stat("duplicates") == 1


def test_what_was_in_flight_is_pruned_once_and_a_lost_prune_is_said_again() -> None:
    bench = Bench(A, B)
    bench.gossip(A)
    bench.gossip(A, OTHER)
    assert bench.gossip(B) == [Send(B, PRUNE)]
    assert bench.gossip(B, OTHER) == []
    bench.now_ms += PRUNE_AGAIN_MS
    assert bench.gossip(B, OTHER) == [Send(B, PRUNE)]


def test_a_pruned_peer_that_comes_first_once_more_costs_no_other_its_place() -> None:
    bench = Bench(A, B)
    bench.gossip(A)
    assert bench.gossip(B) == [Send(B, PRUNE)]
    bench.gossip(B, OTHER)
    assert bench.gossip(A, OTHER) == []
    assert (bench.machine.eager, bench.machine.lazy) == ([A], [B])


def test_a_second_copy_that_answers_a_graft_prunes_nobody() -> None:
    bench = Bench(A, B)
    bench.gossip(A)
    assert bench.hear(B, Gossip(1, ID, "t", b"x", True)) == []
    assert bench.machine.eager == [A, B]


def test_whoever_brings_a_new_message_is_eager_if_it_is_a_neighbour() -> None:
    bench = Bench(A)
    bench.hear(A, PRUNE)
    bench.gossip(A)
    bench.gossip("stranger@h", OTHER)
    assert (bench.machine.eager, bench.machine.lazy) == ([A], [])


def test_nobody_outside_the_view_becomes_eager_or_lazy() -> None:
    bench = Bench(A)
    for message in (Graft(b""), Graft(ID), PRUNE, IHave(OTHER, b"\1", True)):
        bench.hear("stranger@h", message)
    bench.gossip("stranger@h")
    bench.gossip("stranger@h")
    assert (bench.machine.eager, bench.machine.lazy) == ([A], [])
    assert bench.feed(Congested("stranger@h")) == []
    assert bench.stat("congested_peers") == 0


def test_announcements_go_together_to_the_lazy() -> None:
    bench = Bench(A, B)
    bench.hear(B, PRUNE)
    bench.gossip(A, ID, hops=1)
    assert sent(bench.gossip(A, OTHER, hops=2), IHave) == []
    assert bench.wait(IHAVE_FLUSH_MS) == [Send(B, IHave(ID + OTHER, b"\2\3"))]
    assert bench.wait(1_000) == []


def test_many_announcements_do_not_wait_for_the_timer() -> None:
    bench = Bench(A, B)
    bench.hear(B, PRUNE)
    effects: list[Effect] = []
    for i in range(IHAVE_BATCH):
        effects += bench.gossip(A, i.to_bytes(16))
    ((to, message),) = sent(effects, IHave)
    assert to == B
    assert isinstance(message, IHave)
    assert len(message.hops) == IHAVE_BATCH


def test_a_peer_that_turns_eager_before_the_flush_is_told_at_once() -> None:
    bench = Bench(A, B)
    bench.hear(B, PRUNE)
    bench.gossip(A)
    assert bench.hear(B, Graft(b"")) == [Send(B, IHave(ID, b"\2"))]


def test_a_missing_message_is_asked_for_and_its_announcer_eager_at_once() -> None:
    bench = fed(A, B)
    bench.hear(B, PRUNE)
    assert bench.ihave(B, ID, OTHER) == []
    assert bench.wait(GRAFT_TIMEOUT_MS - 1) == []
    assert bench.wait(1) == [Send(B, Graft(ID + OTHER))]
    assert bench.machine.eager == [A, B]


@pytest.mark.parametrize(("hops", "steps"), [(1, 0), (4, 3), (255, STEPS_MAX)])
def test_who_is_farther_from_the_origin_asks_later(hops: int, steps: int) -> None:
    """One of a branch that was cut off has asked before all the others do."""
    bench = fed(A, B)
    bench.hear(B, PRUNE)
    bench.ihave(B, ID, hops=hops)
    assert bench.wait(GRAFT_TIMEOUT_MS + steps * STEP_MS - 1) == []
    assert bench.wait(1) == [Send(B, Graft(ID))]
    assert bench.wait(GRAFT_RETRY_MS) == [Send(B, Graft(ID))]


def test_the_nearest_announcer_tells_how_far_the_origin_is() -> None:
    bench = fed(A, B, C)
    bench.ihave(B, ID, hops=9)
    bench.ihave(C, ID, hops=3)
    assert bench.wait(GRAFT_TIMEOUT_MS + 2 * STEP_MS) == [Send(B, Graft(ID))]


def test_what_others_have_asked_for_meanwhile_is_not_asked_for() -> None:
    bench = fed(A, B)
    bench.hear(B, PRUNE)
    bench.ihave(B, ID, hops=4)
    bench.ihave(B, OTHER, hops=3)
    bench.wait(GRAFT_TIMEOUT_MS)
    bench.gossip(A, OTHER, hops=6)
    assert sent(bench.wait(3 * STEP_MS - 1), Graft) == []
    assert sent(bench.wait(1), Graft) == [(B, Graft(ID))]


def test_a_message_that_comes_in_time_is_not_asked_for() -> None:
    bench = Bench(A, B)
    bench.ihave(B, ID)
    bench.gossip(A)
    assert sent(bench.wait(10 * GRAFT_TIMEOUT_MS), Graft) == []
    assert bench.stat("pending_ihaves") == 0


def test_all_announcers_are_remembered_and_asked_in_turn_with_a_shorter_wait() -> None:
    """E6: a payload is had from the second announcer if the first one died."""
    bench = fed(A, B, C)
    for peer in (A, B, C, A):
        bench.ihave(peer, ID)
    assert bench.wait(GRAFT_TIMEOUT_MS) == [Send(A, Graft(ID))]
    for peer in (B, C, A):
        assert bench.wait(GRAFT_RETRY_MS - 1) == []
        assert bench.wait(1) == [Send(peer, Graft(ID))]


def test_asking_ends_and_a_later_announcement_begins_anew() -> None:
    bench = fed(A)
    bench.ihave(A, ID)
    asked = sent(bench.wait(GRAFT_TIMEOUT_MS + 100 * GRAFT_RETRY_MS), Graft)
    assert len(asked) == GRAFT_TRIES_MAX
    assert (bench.stat("given_up"), bench.stat("pending_ihaves")) == (1, 0)
    bench.ihave(A, ID)
    assert bench.wait(GRAFT_TIMEOUT_MS) == [Send(A, Graft(ID))]


def test_what_comes_late_behind_others_is_not_asked_for_while_they_come() -> None:
    bench = Bench(A, B)
    ids = [i.to_bytes(16) for i in range(30)]
    bench.ihave(B, *ids)
    for one in ids[:20]:
        assert sent(bench.wait(100), Graft) == []
        bench.gossip(A, one)
    first = sent(bench.wait(2 * GRAFT_RETRY_MS), Graft)[0]
    assert first == (B, Graft(b"".join(ids[20:])))


def test_announcers_that_have_gone_are_asked_last() -> None:
    bench = Bench(A, B, C)
    bench.ihave(A, ID)
    bench.ihave(B, ID)
    bench.hear(A, PRUNE)
    bench.feed(PeerDown(A, "dropped"))
    assert bench.wait(GRAFT_TIMEOUT_MS)[0] == Send(B, Graft(ID))


def test_few_announcers_are_asked_for_many_messages() -> None:
    bench = fed(A, B)
    bench.ihave(A, ID)
    bench.ihave(B, OTHER)
    bench.ihave(A, OTHER)
    assert bench.wait(GRAFT_TIMEOUT_MS) == [Send(A, Graft(ID + OTHER))]


def test_one_timer_does_for_all_missing_messages() -> None:
    bench = Bench(A)
    timers = 0
    for i in range(1_000):
        effects = bench.machine.handle(
            Received(A, IHave(i.to_bytes(16), b"\1")), now_ms=bench.now_ms + i
        )
        timers += sum(isinstance(effect, SetTimer) for effect in effects)
    assert timers == 1


def test_when_an_eager_peer_goes_what_it_owed_is_asked_for_sooner() -> None:
    bench = Bench(A, B)
    bench.hear(B, PRUNE)
    bench.ihave(B, ID)
    bench.feed(PeerDown(A, "idle_timeout"))
    assert sent(bench.wait(GRAFT_RETRY_MS), Graft) == [(B, Graft(ID))]
    bench.gossip(B)
    bench.ihave(B, OTHER)
    assert sent(bench.wait(GRAFT_RETRY_MS), Graft) == [(B, Graft(OTHER))]


def test_whoever_has_lost_its_last_eager_peer_asks_a_lazy_one_to_push() -> None:
    bench = Bench(A, B)
    bench.hear(B, PRUNE)
    assert bench.feed(PeerDown(A, "idle_timeout")) == [Send(B, Graft(b""))]
    assert bench.machine.eager == [B]


def test_who_loses_its_source_takes_the_nearest_that_is_no_farther_away() -> None:
    """An announcer that is farther away may have had the message from this node."""
    bench = Bench(A, B, C, "d@h", "e@h")
    for peer in (B, C, "d@h"):
        bench.hear(peer, PRUNE)
    bench.gossip(A, hops=5)
    for peer, hops in ((B, 7), (C, 6), ("d@h", 5)):
        bench.ihave(peer, OTHER, ID, hops=hops)
    effects = bench.feed(PeerDown(A, "dropped"))
    assert sent(effects, Graft) == [("d@h", Graft(b""))]
    effects = bench.feed(PeerDown("d@h", "dropped"))
    assert sent(effects, Graft) == [(C, Graft(b""))]
    effects = bench.feed(PeerDown(C, "dropped"))
    assert sent(effects, Graft) == []
    assert (bench.machine.eager, bench.machine.lazy) == (["e@h"], [B])


def test_whoever_has_no_source_asks_soon_for_what_is_announced() -> None:
    """Those below it wait longer, so that one asks and not all of them at once."""
    bench = fed(A, B, C)
    bench.hear(B, PRUNE)
    bench.feed(PeerDown(A, "idle_timeout"))
    bench.wait(10 * GRAFT_TIMEOUT_MS)
    bench.ihave(B, ID)
    assert sent(bench.wait(GRAFT_RETRY_MS - 1), Graft) == []
    assert sent(bench.wait(1), Graft) == [(B, Graft(ID))]


def test_a_graft_is_answered_and_makes_its_sender_eager() -> None:
    bench = Bench(A, B)
    bench.gossip(A, hops=4)
    bench.hear(B, PRUNE)
    assert bench.hear(B, Graft(ID + OTHER))[-1] == Send(
        B, Gossip(5, ID, "t", b"x", True)
    )
    assert bench.machine.eager == [A, B]
    assert bench.stat("graft_missed") == 1
    assert bench.stat("gossip_sent") == 2


def test_a_path_that_is_much_shorter_is_taken() -> None:
    bench = Bench(A, B)
    bench.hear(B, PRUNE)
    bench.ihave(B, ID, hops=1)
    effects = bench.gossip(A, hops=1 + OPTIMISE_HOPS)
    assert effects[-2:] == [Send(B, Graft(b"")), Send(A, PRUNE)]
    assert (bench.machine.eager, bench.machine.lazy) == ([B], [A])


def test_a_path_that_is_a_little_shorter_is_not_worth_it() -> None:
    bench = Bench(A, B)
    bench.hear(B, PRUNE)
    bench.ihave(B, ID, hops=1)
    bench.gossip(A, hops=OPTIMISE_HOPS)
    assert (bench.machine.eager, bench.machine.lazy) == ([A], [B])


def test_no_path_is_given_up_while_another_message_is_under_way() -> None:
    """Two from different sides would cut off who is between."""
    bench = Bench(A, B)
    bench.hear(B, PRUNE)
    bench.ihave(B, ID, OTHER, hops=1)
    bench.gossip(A, hops=9)
    assert (bench.machine.eager, bench.machine.lazy) == ([A], [B])
    effects = bench.gossip(A, OTHER, hops=9)
    assert effects[-2:] == [Send(B, Graft(b"")), Send(A, PRUNE)]


def test_a_new_peer_is_told_of_what_came_lately() -> None:
    bench = Bench(A)
    bench.gossip(A)
    bench.wait(RECENT_MS - 1)
    bench.gossip(A, OTHER)
    assert bench.feed(PeerUp(B)) == [Send(B, IHave(ID + OTHER, b"\2\2"))]
    bench.wait(2)
    assert bench.feed(PeerUp(C)) == [Send(C, IHave(OTHER, b"\2"))]


def test_age_is_measured_by_the_time_that_does_not_jump() -> None:
    bench = Bench(A)
    bench.gossip(A)
    bench.wait(MESSAGE_TTL_MS - 1)
    assert sent(bench.gossip(A), Gossip) == []
    assert bench.stat("duplicates") == 1
    bench.wait(1)
    assert Publish(Delivery("t", b"x", ID, False)) in bench.gossip(A)


def test_payloads_are_bounded_by_bytes_and_their_ids_stay_known() -> None:
    bench = Bench(A, B, payload_bytes_max=10_000)
    for i in range(50):
        bench.hear(A, Gossip(1, i.to_bytes(16), "t", bytes(1_000)))
    assert bench.stat("cached_ids") == 50
    assert bench.stat("cached_messages") == 6
    assert bench.stat("cache_bytes") <= 10_000 + 64 * 64
    assert sent(bench.hear(A, Gossip(1, bytes(16), "t", b"")), Gossip) == []
    assert bench.stat("duplicates") == 1


def test_ids_are_bounded_by_count() -> None:
    bench = Bench(A, ids_max=100)
    for i in range(1_000):
        bench.gossip(A, i.to_bytes(16))
    assert bench.stat("cached_ids") == 100
    assert bench.stat("ids_evicted") == 900


def test_an_idle_node_has_no_timer_and_no_memory_of_messages() -> None:
    bench = Bench(A, B)
    bench.gossip(A)
    bench.ihave(A, OTHER)
    bench.wait(2 * MESSAGE_TTL_MS)
    assert bench.timers == {}
    assert bench.stat("cached_ids") == bench.stat("cached_messages") == 0


def test_a_repeated_id_is_broadcast_once() -> None:
    bench = Bench(A)
    assert bench.feed(BroadcastMessage("t", b"x", ID)) != []
    assert bench.feed(BroadcastMessage("t", b"y", ID)) == []
    assert bench.stat("repeated") == 1


def test_ids_of_two_nodes_differ_even_with_one_seed() -> None:
    made = [Plumtree(name, SeededRng(1)).new_id() for name in (A, B, A)]
    assert made[0] != made[1]
    assert made[0][4:] == made[1][4:]
    assert made[0] == made[2]


def test_a_full_queue_gets_an_announcement_once_there_is_room() -> None:
    bench = Bench(A, B)
    bench.feed(Congested(B))
    assert sent(bench.gossip(A), Gossip) == []
    assert sent(bench.gossip(A, OTHER), Gossip) == []
    assert bench.stat("congested") == bench.stat("backlog_ids") == 2
    assert bench.feed(Uncongested(B)) == [Send(B, IHave(ID + OTHER, b"\2\2", True))]
    assert sent(bench.gossip(A, bytes(16)), Gossip) != []
    assert bench.stat("backlog_ids") == 0


def test_what_is_owed_is_asked_for_at_once_and_once() -> None:
    bench = fed(A, B)
    owed = IHave(ID + OTHER, b"\2\2", True)
    bench.ihave(B, OTHER)
    assert bench.hear(A, owed) == [Send(A, Graft(ID + OTHER))]
    assert bench.hear(B, owed) == []
    assert bench.wait(GRAFT_TIMEOUT_MS - 1) == []
    assert bench.wait(1) == [Send(B, Graft(OTHER + ID))]


def test_a_full_queue_to_a_lazy_peer_postpones_announcements() -> None:
    bench = Bench(A, B)
    bench.hear(B, PRUNE)
    bench.feed(Congested(B))
    bench.gossip(A)
    assert bench.wait(IHAVE_FLUSH_MS) == []
    assert bench.feed(Uncongested(B)) == [Send(B, IHave(ID, b"\2"))]


def test_what_a_full_queue_was_asked_for_waits_as_ids_and_is_sent() -> None:
    bench = Bench(A, B)
    bench.gossip(A)
    bench.feed(Congested(B))
    assert bench.hear(B, Graft(ID)) == []
    assert bench.hear(B, Graft(ID)) == []
    assert bench.feed(Uncongested(B)) == [Send(B, Gossip(2, ID, "t", b"x", True))]


def test_answers_are_queued_bit_by_bit() -> None:
    bench = Bench(A, B)
    count = 4 * DRAIN_BYTES // 10_000
    ids = [i.to_bytes(16) for i in range(count)]
    for one in ids:
        bench.hear(A, Gossip(1, one, "t", bytes(10_000)))
    first = sent(bench.hear(B, Graft(b"".join(ids))), Gossip)
    assert len(first) * 10_000 <= DRAIN_BYTES + 10_000
    rest = sent(bench.wait(100), Gossip)
    got = [getattr(message, "message_id", None) for _, message in first + rest]
    assert got == ids


def test_a_peer_that_never_reads_costs_a_bounded_number_of_ids() -> None:
    bench = Bench(A, B)
    bench.feed(Congested(B))
    for i in range(BACKLOG_IDS_MAX + 10):
        bench.gossip(A, i.to_bytes(16))
    assert bench.stat("backlog_ids") == BACKLOG_IDS_MAX
    bench.feed(PeerDown(B, "idle_timeout"))
    assert bench.stat("backlog_ids") == 0
    assert bench.stat("backlog_lost") == 10


def test_equal_inputs_have_equal_effects() -> None:
    def trace() -> list[list[Effect]]:
        bench = Bench(A, B, C)
        told = [bench.gossip(peer, i.to_bytes(16)) for i in range(9) for peer in (A, B)]
        told.append(bench.ihave(C, ID, OTHER))
        told.append(bench.wait(5_000))
        told.append(bench.feed(PeerDown(A, "x")))
        told.append(bench.feed(BroadcastMessage("t", b"")))
        return told

    assert trace() == trace()


@pytest.mark.parametrize(
    "name",
    [
        *("graft_timeout_ms", "graft_retry_ms", "message_ttl_ms", "retain_ms"),
        *("ids_max", "payload_bytes_max", "ihave_flush_ms", "optimise_hops"),
    ],
)
def test_a_number_below_one_is_refused_by_name(name: str) -> None:
    make: Callable[..., Plumtree] = room.Plumtree
    with pytest.raises(InvalidValue, match="ttl_ms" if "ttl" in name else name):
        make("me@h", SeededRng(1), **{name: 0})

"""The replica machine, effect by effect."""

from __future__ import annotations

import pytest

from barrel_p2p.core.effects import Effect, HangUp, Publish, Send, SetTimer
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.inputs import Received, TimerFired
from barrel_p2p.core.ormap import Delta, OrMap
from barrel_p2p.core.peers import NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.replica.limits import (
    ANSWER_BURST_MAX,
    ANSWER_EVERY_MS,
    BUSY_RETRY_MS,
    CHUNK_BYTES_MAX,
    COLLECT_EVERY_MS,
    HELD_MS_MAX,
    ROUND_IDLE_MS,
    ROUNDS_PER_PEER_MAX,
    ROUNDS_PER_REPLICA_MAX,
    SYNC_RETRIES_MAX,
)
from barrel_p2p.replica.machine import (
    CatchUp,
    Collect,
    Gossiped,
    Learned,
    MergeDelta,
    MergeSnapshot,
    Outgoing,
    ReplicaMachine,
    Sent,
    Start,
    Stop,
    Synced,
    Unsent,
    Write,
)
from barrel_p2p.replica.messages import (
    DeltaMessage,
    Origin,
    Status,
    SyncChunk,
    SyncDone,
    SyncRequest,
)
from barrel_p2p.wire.crdt_ingest import decode_delta, encode_delta

EMPTY = OrMap("x@h", HLC()).digest()


class Bench:
    """A machine with one replica, and its effects sorted."""

    def __init__(
        self, node: str = "m@h", *, anti_entropy_ms: int = 1_000, seed: int = 1
    ) -> None:
        self.map = OrMap(node, HLC())
        self.machine = ReplicaMachine(
            node=node,
            creation=7,
            rng=SeededRng(seed),
            anti_entropy_ms=anti_entropy_ms,
        )
        self.now_ms = 1_000
        self.started = self.tell(Start("r", self.map))

    def tell(self, event: object) -> list[Effect]:
        return self.machine.handle(event, now_ms=self.now_ms)

    def told(self, peer: str, message: object) -> list[Effect]:
        return self.tell(Received(peer, message))

    def ask(self, peer: str) -> SyncRequest:
        (request,) = sent(self.tell(CatchUp("r", peer)))
        assert isinstance(request, SyncRequest)
        return request


def sent(effects: list[Effect]) -> list[object]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def timers(effects: list[Effect]) -> dict[object, int]:
    return {e.key: e.delay_ms for e in effects if isinstance(e, SetTimer)}


def published(effects: list[Effect]) -> list[object]:
    return [effect.event for effect in effects if isinstance(effect, Publish)]


def statuses(effects: list[Effect]) -> list[Status]:
    return [m.status for m in sent(effects) if isinstance(m, SyncDone)]


def test_writes_wait_for_the_end_of_the_turn_and_go_as_one_delta() -> None:
    bench = Bench()
    first = bench.tell(Write("r", bench.map.add("a", 1)))
    assert timers(first) == {("flush", "r"): 0}
    assert bench.tell(Write("r", bench.map.add("b", 1))) == []
    assert bench.tell(Write("r", bench.map.add("a", 2))) == []
    (order,) = published(bench.tell(TimerFired(("flush", "r"))))
    assert isinstance(order, Outgoing)
    assert order.message.origin == Origin("m@h", 7, 1)
    entries = decode_delta(order.message.entries).delta
    assert list(entries.values()) == [bench.map.entry("b"), bench.map.entry("a")]


def test_while_gossip_has_no_room_later_writes_take_the_place_of_earlier() -> None:
    bench = Bench()
    bench.tell(Write("r", bench.map.add("a", 0)))
    bench.tell(TimerFired(("flush", "r")))
    for number in range(1, 50):
        assert bench.tell(Write("r", bench.map.add("a", number))) == []
    assert bench.machine.pending("r") == 1
    (order,) = published(bench.tell(Sent("r")))
    assert isinstance(order, Outgoing)
    assert order.message.origin.seq == 2
    (entry,) = decode_delta(order.message.entries).delta.values()
    assert entry.value == 49
    assert not bench.machine.is_quiet("r")
    assert bench.tell(Sent("r")) == []
    assert bench.machine.is_quiet("r")


def test_a_large_write_goes_in_pieces_one_after_the_other() -> None:
    bench = Bench()
    delta: Delta = {}
    for number in range(1_000):
        delta |= bench.map.add(number, bytes(200))
    bench.tell(Write("r", delta))
    effects = bench.tell(TimerFired(("flush", "r")))
    sizes: list[int] = []
    keys: set[bytes] = set()
    while published(effects):
        (order,) = published(effects)
        assert isinstance(order, Outgoing)
        sizes.append(len(order.message.entries))
        keys |= decode_delta(order.message.entries).delta.keys()
        effects = bench.tell(Sent("r"))
    assert len(sizes) > 2
    assert max(sizes) <= CHUNK_BYTES_MAX
    assert keys == delta.keys()


def test_an_entry_without_a_form_on_the_wire_is_counted_and_holds_nothing_up() -> None:
    bench = Bench()
    delta = bench.map.add("bad", object()) | bench.map.add("good", 1)
    bench.tell(Write("r", delta))
    (order,) = published(bench.tell(TimerFired(("flush", "r"))))
    assert isinstance(order, Outgoing)
    assert [e.key for e in decode_delta(order.message.entries).delta.values()] == [
        "good"
    ]
    bench.tell(Sent("r"))
    assert bench.machine.stats.unsendable == 1


@pytest.mark.parametrize(
    ("origin", "is_echo"),
    [
        (Origin("m@h", 7, 1), True),
        (Origin("m@h", 6, 1), False),
        (Origin("m@h", 8, 1), False),
        (Origin("o@h", 7, 1), False),
    ],
)
def test_only_what_this_life_gossiped_is_an_echo(origin: Origin, is_echo: bool) -> None:
    bench, other = Bench(), OrMap("o@h", HLC())
    delta = other.add("k", 1)
    message = DeltaMessage(origin, encode_delta(delta)[0])
    orders = published(bench.tell(Gossiped("r", message)))
    assert orders == ([] if is_echo else [MergeDelta("r", delta, origin)])
    assert bench.machine.stats.echoes == is_echo


def test_gossip_that_is_no_delta_or_for_nobody_is_counted() -> None:
    bench = Bench()
    message = DeltaMessage(Origin("o@h", 1, 1), b"\x83nonsense")
    assert bench.tell(Gossiped("r", message)) == []
    assert bench.tell(Gossiped("other", message)) == []
    assert bench.machine.stats.malformed == 1
    assert bench.machine.stats.unknown == 1


def test_of_two_neighbours_the_smaller_name_asks_at_once_the_greater_later() -> None:
    bench = Bench("m@h")
    assert sent(bench.tell(PeerUp("a@h"))) == []
    (request,) = sent(bench.tell(PeerUp("z@h")))
    assert isinstance(request, SyncRequest)
    assert request.digest == EMPTY
    assert sent(bench.tell(PeerUp("z@h"))) == []
    (late,) = sent(bench.tell(TimerFired(("second", "a@h"))))
    assert isinstance(late, SyncRequest)


def test_a_replica_that_starts_asks_every_neighbour_whatever_their_names() -> None:
    bench = Bench("m@h")
    for name in ("a@h", "z@h"):
        bench.tell(PeerUp(name))
    effects = bench.tell(Start("late", OrMap("m@h", HLC())))
    assert [e.to for e in effects if isinstance(e, Send)] == ["a@h", "z@h"]


def test_the_greater_name_does_not_ask_a_neighbour_that_has_asked() -> None:
    bench = Bench("m@h")
    bench.tell(PeerUp("a@h"))
    answer = bench.told("a@h", SyncRequest("r", 1, EMPTY))
    assert statuses(answer) == [Status.SAME]
    assert Synced("r", "a@h") in published(answer)
    assert sent(bench.tell(TimerFired(("second", "a@h")))) == []


def test_a_new_channel_to_a_neighbour_that_stayed_is_greeted_like_a_new_one() -> None:
    bench = Bench("m@h")
    first = bench.tell(PeerUp("z@h"))
    assert len(sent(first)) == 1
    bench.tell(NodeDown("z@h", "superseded"))
    assert len(sent(bench.tell(NodeUp("z@h")))) == 1
    assert sent(bench.tell(NodeUp("y@h"))) == []


def test_a_round_moves_both_halves_and_nothing_that_is_alike() -> None:
    leader, answerer = Bench("a@h"), Bench("b@h")
    for number in range(300):
        leader.map.add(number, number)
    answerer.map.merge(leader.map.snapshot())
    of_leader = leader.map.add("of leader", 1)
    of_answerer = answerer.map.add("of answerer", 1)
    request = leader.ask("b@h")
    (chunk,) = sent(answerer.told("a@h", request))
    (order,) = published(leader.told("b@h", chunk))
    assert isinstance(order, MergeSnapshot)
    assert of_answerer.keys() <= order.entries.keys()
    assert len(order.entries) < 20
    leader.map.merge(order.entries)
    (done,) = sent(answerer.tell(TimerFired(("pump", "a@h"))))
    assert isinstance(done, SyncDone)
    (back,) = sent(leader.told("b@h", done))
    (order,) = published(answerer.told("a@h", back))
    assert isinstance(order, MergeSnapshot)
    assert of_leader.keys() <= order.entries.keys()
    answerer.map.merge(order.entries)
    (over,) = sent(leader.tell(TimerFired(("pump", "b@h"))))
    assert published(answerer.told("a@h", over)) == [Synced("r", "a@h")]
    assert published(leader.tell(TimerFired(("pump", "b@h")))) == [Synced("r", "b@h")]
    assert leader.map.digest() == answerer.map.digest()


def test_a_node_that_has_everything_already_sends_nothing_back() -> None:
    leader, answerer = Bench("a@h"), Bench("b@h")
    for number in range(50):
        answerer.map.add(number, number)
    (chunk,) = sent(answerer.told("a@h", leader.ask("b@h")))
    (order,) = published(leader.told("b@h", chunk))
    assert isinstance(order, MergeSnapshot)
    leader.map.merge(order.entries)
    (done,) = sent(answerer.tell(TimerFired(("pump", "a@h"))))
    (over,) = sent(leader.told("b@h", done))
    assert over == SyncDone("r", done.round, Status.OVER, 0)  # type: ignore[attr-defined]


def test_a_done_that_overtakes_its_chunk_waits_for_it() -> None:
    leader, answerer = Bench("a@h"), Bench("b@h")
    answerer.map.add("k", 1)
    (chunk,) = sent(answerer.told("a@h", leader.ask("b@h")))
    (done,) = sent(answerer.tell(TimerFired(("pump", "a@h"))))
    assert leader.told("b@h", done) == []
    effects = leader.told("b@h", chunk)
    assert timers(effects)["whole", "b@h", "r"] == 0
    (order,) = published(effects)
    assert isinstance(order, MergeSnapshot)
    leader.map.merge(order.entries)
    assert statuses(leader.tell(TimerFired(("whole", "b@h", "r")))) == [Status.OVER]


def test_a_chunk_without_room_is_held_and_goes_on() -> None:
    answerer = Bench("b@h")
    for number in range(2_000):
        answerer.map.add(number, bytes(200))
    (chunk,) = sent(answerer.told("a@h", SyncRequest("r", 1, EMPTY)))
    effects = answerer.tell(Unsent("a@h", chunk))
    assert timers(effects) == {("pump", "a@h"): BUSY_RETRY_MS}
    (again,) = sent(answerer.tell(TimerFired(("pump", "a@h"))))
    assert again is chunk
    (another,) = sent(answerer.tell(TimerFired(("pump", "a@h"))))
    assert isinstance(another, SyncChunk)
    assert another != chunk


def test_a_chunk_that_never_finds_room_ends_its_round() -> None:
    answerer = Bench("b@h")
    answerer.map.add("k", 1)
    (chunk,) = sent(answerer.told("a@h", SyncRequest("r", 1, EMPTY)))
    for _ in range(3):
        answerer.tell(Unsent("a@h", chunk))
        assert sent(answerer.tell(TimerFired(("pump", "a@h")))) == [chunk]
        answerer.now_ms += HELD_MS_MAX // 2
    answerer.tell(Unsent("a@h", chunk))
    assert sent(answerer.tell(TimerFired(("pump", "a@h")))) == []
    assert not answerer.machine.rounds.is_busy("a@h", "r")


def test_requests_without_end_get_answers_at_a_bounded_rate() -> None:
    bench = Bench()
    answers = [
        status
        for number in range(100)
        for status in statuses(bench.told("a@h", SyncRequest("r", number, EMPTY)))
    ]
    assert answers.count(Status.SAME) == ANSWER_BURST_MAX
    assert answers.count(Status.BUSY) == 100 - ANSWER_BURST_MAX
    bench.now_ms += ANSWER_EVERY_MS
    assert statuses(bench.told("a@h", SyncRequest("r", 1, EMPTY))) == [Status.SAME]
    assert statuses(bench.told("b@h", SyncRequest("r", 1, EMPTY))) == [Status.SAME]


def test_unknown_replicas_are_counted_and_soon_not_even_answered() -> None:
    bench = Bench()
    answers = [
        status
        for number in range(100)
        for status in statuses(bench.told("a@h", SyncRequest(f"x{number}", 1, EMPTY)))
    ]
    assert answers == [Status.UNKNOWN] * ANSWER_BURST_MAX
    assert bench.machine.rounds.stats.unknown == 100


def test_one_replica_is_not_synced_with_all_neighbours_at_once() -> None:
    bench = Bench("a@h")
    requests = {}
    for index in range(5):
        for request in sent(bench.tell(PeerUp(f"n{index}@h"))):
            requests[f"n{index}@h"] = request
    assert len(requests) == ROUNDS_PER_REPLICA_MAX
    (peer, request), *_ = requests.items()
    assert isinstance(request, SyncRequest)
    done = SyncDone("r", request.round, Status.SAME)
    assert [type(m) for m in sent(bench.told(peer, done))] == [SyncRequest]


def test_one_peer_is_not_asked_about_all_replicas_at_once() -> None:
    bench = Bench("a@h")
    for index in range(10):
        bench.tell(Start(f"r{index}", OrMap("a@h", HLC())))
    asked = sent(bench.tell(PeerUp("b@h")))
    assert len(asked) == ROUNDS_PER_PEER_MAX


def test_when_both_ask_the_round_of_the_smaller_name_goes_on() -> None:
    small, great = Bench("a@h"), Bench("b@h")
    of_small, of_great = small.ask("b@h"), great.ask("a@h")
    assert statuses(small.told("b@h", of_great)) == [Status.CROSSED]
    assert statuses(great.told("a@h", of_small)) == [Status.SAME]
    crossed = SyncDone("r", of_great.round, Status.CROSSED)
    assert great.told("a@h", crossed) == []


def test_a_crossed_round_is_led_again_if_its_digest_was_too_old() -> None:
    small, great = Bench("a@h"), Bench("b@h")
    of_small, of_great = small.ask("b@h"), great.ask("a@h")
    small.map.add("k", 1)  # gossiped before the other one listened
    small.told("b@h", of_great)
    (same,) = sent(great.told("a@h", of_small))
    (again,) = sent(small.told("b@h", same))
    assert isinstance(again, SyncRequest)
    assert again.digest == small.map.digest()
    done = SyncDone("r", again.round, Status.SAME)
    assert sent(small.told("b@h", done)) == []


def test_a_peer_that_is_silent_or_busy_is_asked_again_and_then_left_alone() -> None:
    bench = Bench("a@h")
    bench.ask("b@h")
    for _ in range(SYNC_RETRIES_MAX):
        delays = timers(bench.tell(TimerFired(("asked", "b@h", "r"))))
        assert ("again", "b@h", "r") in delays
        assert len(sent(bench.tell(TimerFired(("again", "b@h", "r"))))) == 1
    assert timers(bench.tell(TimerFired(("asked", "b@h", "r")))) == {}
    assert not bench.machine.rounds.is_busy("b@h", "r")


def test_our_own_slowness_is_no_silence_of_the_peer() -> None:
    answerer = Bench("b@h")
    answerer.map.add("k", 1)
    answerer.told("a@h", SyncRequest("r", 1, EMPTY))
    effects = answerer.tell(TimerFired(("answer", "a@h", "r")))
    assert timers(effects) == {("answer", "a@h", "r"): ROUND_IDLE_MS}


def test_what_nobody_asked_for_is_not_even_decoded() -> None:
    bench = Bench()
    assert bench.told("a@h", SyncChunk("r", 1, b"nonsense")) == []
    assert bench.told("a@h", SyncDone("r", 1, Status.OVER)) == []
    request = bench.ask("a@h")
    assert bench.told("a@h", SyncChunk("r", request.round + 1, b"nonsense")) == []
    assert bench.told("x@h", SyncChunk("r", request.round, b"nonsense")) == []
    assert bench.machine.rounds.stats.strayed == 4


def test_a_chunk_that_is_no_delta_ends_the_channel_of_its_sender() -> None:
    bench = Bench()
    request = bench.ask("a@h")
    effects = bench.told("a@h", SyncChunk("r", request.round, b"nonsense"))
    assert effects == [HangUp("a@h", "protocol_error")]


def test_the_end_of_a_channel_ends_its_rounds_and_frees_their_places() -> None:
    bench = Bench("a@h")
    for name in ("b@h", "c@h", "d@h"):
        bench.tell(PeerUp(name))
    bench.told("b@h", SyncRequest("r", 1, b"\1" * len(EMPTY)))
    assert not bench.machine.rounds.is_busy("x@h", "r")
    effects = bench.tell(NodeDown("b@h", "unreachable"))
    assert [type(m) for m in sent(effects)] == [SyncRequest]
    assert not bench.machine.rounds.is_busy("b@h", "r")


def test_a_stopped_replica_is_unknown_and_leaves_no_round_behind() -> None:
    bench = Bench("a@h")
    request = bench.ask("b@h")
    bench.tell(Stop("r"))
    bench.tell(Stop("r"))
    assert not bench.machine.rounds.is_busy("b@h", "r")
    assert bench.told("b@h", SyncDone("r", request.round, Status.SAME)) == []
    assert statuses(bench.told("b@h", SyncRequest("r", 1, EMPTY))) == [Status.UNKNOWN]
    assert bench.tell(TimerFired(("flush", "r"))) == []


def test_every_neighbour_gets_its_turn_in_the_periodic_comparison() -> None:
    bench = Bench("z@h")
    assert 750 <= timers(bench.started)["compare", "r"] <= 1_250
    names = ["a@h", "b@h", "c@h"]
    for name in names:
        bench.tell(PeerUp(name))
    asked = []
    for _ in range(6):
        bench.now_ms += 1_000
        (effect,) = (
            e for e in bench.tell(TimerFired(("compare", "r"))) if isinstance(e, Send)
        )
        asked.append(effect.to)
        assert isinstance(effect.message, SyncRequest)
        done = SyncDone("r", effect.message.round, Status.SAME)
        bench.told(effect.to, done)
    assert sorted(asked[:3]) == sorted(asked[3:]) == names


def test_the_period_of_the_comparison_varies_by_a_quarter() -> None:
    delays = [timers(Bench(seed=seed).started)["compare", "r"] for seed in range(200)]
    assert min(delays) < 800
    assert max(delays) > 1_200
    assert ("compare", "r") not in timers(Bench(anti_entropy_ms=0).started)


def test_what_was_learned_in_a_sync_is_offered_to_the_other_neighbours() -> None:
    bench = Bench("a@h")
    for name in ("b@h", "c@h", "d@h"):
        for request in sent(bench.tell(PeerUp(name))):
            assert isinstance(request, SyncRequest)
            bench.told(name, SyncDone("r", request.round, Status.SAME))
    assert ("spread", "r") in timers(bench.tell(Learned("r", "b@h")))
    assert bench.tell(Learned("r", "b@h")) == []
    effects = bench.tell(TimerFired(("spread", "r")))
    assert {e.to for e in effects if isinstance(e, Send)} == {"c@h", "d@h"}


def test_tombstones_go_only_after_every_neighbour_has_compared() -> None:
    bench = Bench("a@h")
    bench.tell(Start("g", bench.map, horizon_ms=10_000))
    bench.now_ms += 100_000
    assert published(bench.tell(TimerFired(("collect", "g")))) == [Collect("g", 10_000)]
    (request,) = [
        m
        for m in sent(bench.tell(PeerUp("b@h")))
        if m.replica == "g"  # type: ignore[attr-defined]
    ]
    assert isinstance(request, SyncRequest)
    assert published(bench.tell(TimerFired(("collect", "g")))) == [
        Collect("g", 100_000)
    ]
    assert bench.machine.stats.collections_put_off == 1
    bench.told("b@h", SyncDone("g", request.round, Status.SAME))
    bench.now_ms += 20_000
    effects = bench.tell(TimerFired(("collect", "g")))
    assert published(effects) == [Collect("g", 20_000)]
    assert timers(effects) == {("collect", "g"): COLLECT_EVERY_MS}


def test_a_neighbour_that_goes_is_forgotten_and_nothing_else() -> None:
    bench = Bench("a@h")
    bench.map.add("k", 1)
    bench.tell(PeerUp("b@h"))
    assert published(bench.tell(PeerDown("b@h", "dropped"))) == []
    assert bench.machine.neighbours() == []
    assert bench.map.get("k") == 1

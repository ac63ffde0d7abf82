"""One leads, and it is the same one for everybody; its fence is above all before it."""

from __future__ import annotations

import pytest

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.core.ormap import Entry
from barrel_p2p.core.terms import Atom, Pid
from barrel_p2p.errors import AlreadyCandidate, InvalidValue, NotEncodable
from barrel_p2p.services.leader_events import Candidate, Elected, Revoked
from barrel_p2p.services.leader_inputs import (
    HIDDEN_MS,
    PRIORITY_MAX,
    RETAKE_MS,
    RETAKE_MS_MAX,
    TERM_MS,
    TOMBSTONES_MAX,
    Stand,
)
from barrel_p2p.wire.crdt_ingest import Refusal
from barrel_p2p.wire.terms import key_bytes
from tests.leader_bench import SETTLE_MS, LeaderBench, connect

NAMES = ["cart", b"cart", 7, Atom("cart"), ("cart", 42), ("user", (1, b"x")), ()]


@pytest.fixture
def me() -> LeaderBench:
    return LeaderBench()


@pytest.fixture
def pair() -> tuple[LeaderBench, LeaderBench]:
    a, b = LeaderBench("a@h"), LeaderBench("b@h")
    connect(a, b)
    return a, b


def entry_of(bench: LeaderBench, key: object) -> Entry:
    found = bench.machine.entries.entry(key)
    assert found is not None
    return found


def delta(key: object, value: object, *, node: str, wall: int) -> dict[bytes, Entry]:
    return {key_bytes(key): Entry(key, Timestamp(wall, 0), node, value)}


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_any_key_term_can_be_led(me: LeaderBench, name: object) -> None:
    (event,) = me.stand(name)
    assert event == Elected(name, me.machine.fence(name) or 0)
    assert me.machine.leader(name) == Candidate("me@h", me.pid(), 0)
    assert me.notes == []  # Who asked looks.


@pytest.mark.parametrize("name", [1.5, True, None, [1], "x" * 2_000])
def test_what_is_no_key_term_is_led_by_nobody(me: LeaderBench, name: object) -> None:
    with pytest.raises((NotEncodable, InvalidValue)):
        me.stand(name)
    assert (me.told, me.events) == ([], [])


def test_a_node_has_one_candidate_a_name(me: LeaderBench) -> None:
    """LDR-04: and the first one goes on leading."""
    me.stand(number=1)
    fence = me.fence
    for number in (1, 2):
        with pytest.raises(AlreadyCandidate):
            me.stand(number=number)
    assert me.fence == fence
    me.withdraw()
    assert len(me.stand(number=2)) == 1


@pytest.mark.parametrize("priority", [PRIORITY_MAX + 1, -PRIORITY_MAX - 1, 1.0, True])
def test_a_priority_out_of_range_is_refused(me: LeaderBench, priority: int) -> None:
    with pytest.raises(InvalidValue, match="priority"):
        me.stand(priority=priority)
    assert me.machine.candidates("n") == []


def test_the_greatest_priority_leads_then_the_smallest_name() -> None:
    """LDR-06, LDR-12: whoever comes last, and whoever is asked."""
    a, b, c = (LeaderBench(f"{x}@h") for x in "abc")
    connect(a, b, c)
    for bench, priority in ((b, 0), (c, 1), (a, 0)):
        bench.stand(priority=priority)
        for other in (a, b, c):
            if other is not bench:
                other.take_all(bench)
    assert [x.leader for x in (a, b, c)] == ["c@h"] * 3
    order = [one.node for one in a.machine.candidates("n")]
    assert order == ["c@h", "a@h", "b@h"]
    c.withdraw()
    for other in (a, b):
        other.take(c.told[-1])
    assert (a.leader, b.leader) == ("a@h", "a@h")
    assert (a.fence is None, b.fence is None) == (False, True)


def test_who_is_beaten_is_revoked_once_and_told(
    pair: tuple[LeaderBench, LeaderBench],
) -> None:
    a, b = pair
    b.stand()
    a.take_all(b)
    (elected,) = a.stand()
    assert b.take_all(a) == [Revoked("n")]
    assert b.notes == [(b.pid(), Revoked("n"))]
    assert b.leader == a.leader == "a@h"
    assert isinstance(elected, Elected)
    assert [elected.fence] > b.elected()
    assert b.take_all(a) == []


def test_a_resignation_that_overtakes_the_term_still_raises_the_next_fence(
    pair: tuple[LeaderBench, LeaderBench],
) -> None:
    """Defect of the original: fence and candidacy are gossiped in no order."""
    a, b = pair
    a.wall += 30_000  # Its stamps are ahead of what b would issue on its own.
    b.stand()
    b.withdraw()
    a.stand()
    fence = a.fence
    candidacy, term = a.told[-2:]
    assert fence is not None
    b.take(candidacy)
    b.stand()
    a.withdraw()
    b.take(a.told[-1])
    assert b.fence is not None
    assert b.fence > fence
    before = b.fence
    assert b.take(term) == []  # It comes late, and changes nothing.
    assert b.fence == before


def test_a_later_term_ends_an_earlier_one_which_is_taken_anew(
    pair: tuple[LeaderBench, LeaderBench],
) -> None:
    """Or the resource would refuse the rightful leader for ever."""
    a, b = pair
    a.stand()
    a.take_all(b)
    b.wall += 5
    b.stand()  # It has not heard of a's candidate.
    assert b.fence is not None
    assert a.take_all(b) == [Revoked("n")]
    assert a.leader is None  # It will lead, and has no fence yet.
    assert a.wait(RETAKE_MS - 1) == []
    assert a.wait(1) == [Elected("n", a.elected()[-1])]
    assert a.elected()[-1] > b.elected()[-1]
    assert b.take_all(a) == [Revoked("n")]
    assert [x.leader for x in pair] == ["a@h", "a@h"]


def test_two_that_do_not_see_each_other_do_not_race() -> None:
    """Each hears the other's terms, and holds the other's candidate for dead."""
    a, b = LeaderBench("a@h"), LeaderBench("b@h")
    a.stand()
    b.stand()
    for _ in range(600):
        a.take_all(b)
        b.take_all(a)
        a.wait(100)
        b.wait(100)
    terms = len(a.elected()) + len(b.elected())
    assert terms < 60_000 / RETAKE_MS_MAX * 3
    assert sorted(a.elected() + b.elected()) == sorted({*a.elected(), *b.elected()})


def test_death_hides_a_candidate_and_a_wrong_verdict_is_undone(
    pair: tuple[LeaderBench, LeaderBench],
) -> None:
    """It is the members' verdict that counts; peers that go away mean nothing."""
    a, b = pair
    b.peer("a@h")
    a.stand()
    b.take_all(a)
    b.caught()
    b.stand()
    assert b.no_peer("a@h") == []
    assert b.leader == "a@h"
    assert len(b.dead("a@h")) == 1
    assert b.leader == "b@h"
    assert b.fence is not None
    assert b.fence > a.elected()[-1]
    assert b.up("a@h") == [Revoked("n")]
    assert b.leader == "a@h"


def test_what_is_gone_is_dropped_and_not_taken_back_from_a_laggard(
    pair: tuple[LeaderBench, LeaderBench],
) -> None:
    a, b = pair
    a.stand()
    b.take_all(a)
    b.dead("a@h")
    b.gone("a@h")
    assert b.machine.entries.entry(("n", "a@h")) is None
    b.take_all(a)
    assert b.machine.entries.entry(("n", "a@h")) is None
    assert b.store.refused == {Refusal.AUTHOR: 1}
    b.up("a@h")
    b.wait(1_000)
    assert b.catch_ups == 1
    b.take_all(a)
    assert b.leader == "a@h"


def test_a_candidate_of_an_earlier_life_leads_nothing(
    pair: tuple[LeaderBench, LeaderBench],
) -> None:
    a, b = pair
    a.stand()
    b.take_all(a)
    b.dead("a@h")
    b.gone("a@h")
    b.up("a@h", 6)
    b.take_all(a)
    assert b.leader is None
    assert b.store.refused[Refusal.LEAF] == 1


def test_candidates_of_a_node_that_never_was_a_member_take_no_part() -> None:
    a, b = LeaderBench("a@h"), LeaderBench("b@h")
    a.stand()
    b.take_all(a)
    assert b.leader is None
    assert len(b.machine.table.nodes()) == 1
    b.wait(2 * HIDDEN_MS)
    assert b.machine.table.nodes() == []


def test_an_end_of_a_process_withdraws_it_from_everything(
    pair: tuple[LeaderBench, LeaderBench],
) -> None:
    a, b = pair
    for name in ("x", "y"):
        a.stand(name, 1)
    a.stand("z", 2)
    assert a.ended(1) == [Revoked("x"), Revoked("y")]
    b.take_all(a)
    assert [b.machine.leader(name) is None for name in "xyz"] == [True, True, False]
    assert a.notes == []
    assert a.ended(1) == []


def test_a_node_that_may_have_been_replaced_says_so_and_asks_again(
    pair: tuple[LeaderBench, LeaderBench],
) -> None:
    a, b = pair
    a.peer("b@h")
    a.caught()
    a.stand()
    first = a.fence
    assert a.paused() == [Revoked("n")]
    assert a.notes == [(a.pid(), Revoked("n"))]
    assert a.catch_ups == 1
    b.stand()
    b.wall += 3
    a.take_all(b)
    assert a.fence is None  # It may have heard of the term, and has to hear all.
    assert a.caught() == [Elected("n", a.elected()[-1])]
    assert a.elected()[-1] > max(first or 0, *b.elected())


def test_a_lone_node_leads_again_soon_with_another_fence(me: LeaderBench) -> None:
    me.stand()
    assert me.paused() == [Revoked("n")]
    assert len(me.wait(RETAKE_MS)) == 1
    assert me.elected() == sorted(set(me.elected()))


def test_a_node_that_may_not_be_alone_waits_for_a_lease() -> None:
    me = LeaderBench(waits=True)
    assert me.stand() == []
    assert me.leader is None
    assert me.wait(SETTLE_MS - 1) == []
    assert len(me.wait(1)) == 1
    other = LeaderBench(waits=True)
    other.stand()
    assert len(other.caught()) == 1


def test_the_first_peer_is_compared_with_before_a_term_is_taken(
    pair: tuple[LeaderBench, LeaderBench],
) -> None:
    a, b = pair
    b.wall += 30_000
    b.stand()
    a.peer("b@h")
    assert a.stand() == []
    a.take_all(b)
    assert len(a.caught()) == 1
    assert a.elected() > b.elected()


def test_a_second_peer_and_a_repeated_sync_change_nothing(me: LeaderBench) -> None:
    me.stand()
    me.peer("b@h")
    me.caught()
    me.peer("c@h")
    me.caught()
    assert len(me.events) == 1
    assert me.machine.is_settled


def test_fences_of_one_node_never_repeat_however_its_clock_is_set(
    me: LeaderBench,
) -> None:
    fences = []
    for step in (0, 5_000, -50_000, 0, 20_000):
        me.wall += step
        me.stand()
        assert me.fence is not None
        fences.append(me.fence)
        assert me.machine.high_water("n") == me.fence
        me.withdraw()
    assert fences == sorted(set(fences))
    assert me.machine.high_water("n") == fences[-1]


def test_what_comes_under_our_own_key_is_overwritten(
    pair: tuple[LeaderBench, LeaderBench],
) -> None:
    """An echo of an earlier life, and a withdrawal that nobody here has made."""
    a, b = pair
    a.stand()
    wall = a.wall + 1_000
    echo = delta(("n", "a@h"), (4, Pid("a@h", 9, 4), 3), node="a@h", wall=wall)
    assert a.take(echo) == []
    assert entry_of(a, ("n", "a@h")).value == (5, a.pid(), 0)
    b.take_all(a)
    assert b.leader == "a@h"
    a.wait(5_000)
    a.withdraw()
    a.take(delta(("n", "a@h"), (4, Pid("a@h", 9, 4), 3), node="a@h", wall=a.wall + 99))
    a.wait(5_000)
    assert entry_of(a, ("n", "a@h")).is_tombstone


HOSTILE = [
    (("n", "b@h"), (5, Pid("b@h", 1, 5), 0), "c@h", Refusal.AUTHOR),
    (("n", "b@h", 1), (5, Pid("b@h", 1, 5), 0), "b@h", Refusal.AUTHOR),
    ("n", (5, Pid("b@h", 1, 5)), "b@h", Refusal.AUTHOR),
    ((), (5, Pid("b@h", 1, 5)), "b@h", Refusal.AUTHOR),
    (("n", "b@h"), (5, Pid("c@h", 1, 5), 0), "b@h", Refusal.LEAF),
    (("n", "b@h"), (5, Pid("b@h", 1, 5), PRIORITY_MAX + 1), "b@h", Refusal.LEAF),
    (("n", "b@h"), (5, Pid("b@h", 1, 5), True), "b@h", Refusal.LEAF),
    (("n", "b@h"), (5, Pid("b@h", 1, 5)), "b@h", Refusal.LEAF),
    (("n", "b@h"), (0, Pid("b@h", 1, 5), 0), "b@h", Refusal.LEAF),
    (("n", "b@h"), (1 << 32, Pid("b@h", 1, 5), 0), "b@h", Refusal.LEAF),
    (("n", "b@h"), (5, "pid", 0), "b@h", Refusal.LEAF),
    (("n", "b@h"), [5, Pid("b@h", 1, 5), 0], "b@h", Refusal.LEAF),
    (("n",), (5, Pid("b@h", 1, 5), 0), "b@h", Refusal.LEAF),
    (("n",), (5,), "b@h", Refusal.LEAF),
    (("n",), None, "b@h", Refusal.LEAF),
]


@pytest.mark.parametrize(("key", "value", "author", "reason"), HOSTILE)
def test_malformed_gossip_is_dropped_and_elections_go_on(
    pair: tuple[LeaderBench, LeaderBench],
    key: object,
    value: object,
    author: str,
    reason: Refusal,
) -> None:
    """LDR-09: candidacies, terms and whole snapshots; actor and clock survive."""
    a, b = pair
    a.up("c@h")
    a.take(delta(key, value, node=author, wall=a.wall))
    a.take(b"\x83nonsense")
    a.store.replica_apply_full_sync("leader", "no pair")  # type: ignore[arg-type]
    assert a.store.refused[reason] == 1
    assert a.machine.candidates("n") == []
    b.stand()
    a.take_all(b)
    assert a.leader == "b@h"
    assert len(a.stand()) == 1


def test_a_term_of_any_stamp_leaves_room_for_a_greater_fence(me: LeaderBench) -> None:
    """Also one with a counter that no clock of ours issues."""
    me.up("b@h")
    term = (5, Pid("b@h", 1, 5))
    stamp = Timestamp(me.wall + 50_000, (1 << 32) - 1)
    me.take({key_bytes(("n",)): Entry(("n",), stamp, "b@h", term)})
    me.take(delta(("old",), term, node="b@h", wall=1))
    high = me.machine.high_water("n")
    assert high is not None
    me.stand()
    assert (me.fence or 0) > high
    assert me.machine.high_water("old") == 0


def test_terms_that_begin_in_one_millisecond_have_fences_in_the_map_s_order() -> None:
    """Or the later one could have the smaller fence, and never write."""
    for other in "bcdefghij":
        a, b = LeaderBench("a@h"), LeaderBench(f"{other}@h")
        connect(a, b)
        a.stand()
        b.stand(priority=1)
        a.take_all(b)
        b.take_all(a)
        for bench in (a, b):
            bench.wait(RETAKE_MS_MAX)
        assert (a.fence, a.leader) == (None, b.node)
        assert b.fence == max(*a.elected(), *b.elected())
        assert b.fence == a.machine.high_water("n")


def test_a_clock_too_wrong_for_a_fence_elects_nobody_until_it_is_right() -> None:
    me = LeaderBench()
    me.wall = 1_000_000_000_000  # 2001: no fence is so old.
    assert me.stand() == []
    assert me.leader is None
    assert me.machine.stats.drifted == 1
    me.wall = 1_800_000_000_000
    assert len(me.wait(RETAKE_MS_MAX)) == 1


def test_terms_of_names_that_nobody_wants_are_removed_by_one_node(
    pair: tuple[LeaderBench, LeaderBench],
) -> None:
    a, b = pair
    b.stand()
    b.withdraw()
    a.take_all(b)
    for bench in (a, b):
        bench.wait(TERM_MS + 20_000)
    assert entry_of(a, ("n",)).is_tombstone
    assert not entry_of(b, ("n",)).is_tombstone
    b.take_all(a)
    assert b.machine.table.races == {}
    assert len(b.stand()) == 1
    assert b.elected() == sorted(set(b.elected()))


def test_names_that_come_and_go_leave_a_bounded_number_of_tombstones(
    me: LeaderBench,
) -> None:
    """Defect of the original: tombstones of candidates were never collected."""
    for number in range(TOMBSTONES_MAX + 100):
        me.stand(number)
        me.withdraw(number)
        me.wall += 1
    assert me.machine.entries.tombstones <= TOMBSTONES_MAX
    assert not me.machine._own
    assert not me.machine._slots_of


def test_a_candidate_that_is_told_at_standing_is_told_once(me: LeaderBench) -> None:
    me.feed(Stand("n", me.pid(), 0, notify=True))
    assert me.notes == [(me.pid(), Elected("n", me.fence or 0))]


def test_membership_of_the_view_does_not_flap_a_leader() -> None:
    """Defect of the original: evictions from a full view elected several leaders."""
    benches = [LeaderBench(f"n{i:02}@h") for i in range(9)]
    connect(*benches)
    for bench in benches:
        bench.stand()
    for bench in benches:
        for other in benches:
            bench.take_all(other)
    for bench in benches:
        bench.wait(10_000)
    for bench in benches:
        for other in benches:
            bench.take_all(other)
    before = [len(bench.events) for bench in benches]
    for bench in benches:
        for other in benches:
            bench.peer(other.node)
            bench.caught()
            bench.no_peer(other.node)
        bench.wait(20_000)
    assert [len(bench.events) for bench in benches] == before
    assert {bench.leader for bench in benches} == {"n00@h"}
    assert [bench.fence is None for bench in benches] == [False] + [True] * 8

"""Members that lie about elections: what they can take away, and what they cannot."""

from __future__ import annotations

import pytest

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.core.ormap import TOMBSTONE, Delta, Entry, OrMap
from barrel_p2p.core.terms import Pid
from barrel_p2p.services.leader_inputs import (
    CANDIDATES_PER_NODE_MAX,
    PRIORITY_MAX,
    RETAKE_MS,
    RETAKE_MS_MAX,
    TERMS_MAX,
)
from barrel_p2p.wire.crdt_ingest import Refusal
from barrel_p2p.wire.terms import key_bytes
from tests.leader_bench import LeaderBench

LIAR = "liar@h"


@pytest.fixture
def me() -> LeaderBench:
    bench = LeaderBench()
    bench.up(LIAR, 1)
    return bench


def liar_of(me: LeaderBench) -> OrMap:
    return OrMap(LIAR, me.machine.entries.clock)


def test_terms_of_a_liar_cost_the_leader_moments_and_never_its_fence(
    me: LeaderBench,
) -> None:
    """It leads again each time, with a greater fence, ever more slowly."""
    me.stand()
    liar = liar_of(me)
    for _ in range(200):
        me.take(liar.add(("n",), (1, Pid(LIAR, 1, 1))))
        me.wait(100)
    me.wait(RETAKE_MS_MAX)
    assert me.fence is not None
    assert me.leader == "me@h"
    fences = me.elected()
    assert fences == sorted(set(fences))
    assert len(fences) <= 3 + 20_000 / RETAKE_MS_MAX * 2


def test_a_term_that_a_liar_removes_is_taken_again(me: LeaderBench) -> None:
    me.stand()
    me.take(liar_of(me).remove(("n",)))
    me.wait(RETAKE_MS)
    assert me.fence == me.machine.high_water("n")
    assert len(me.elected()) == 2


def test_a_stamp_from_the_future_is_refused_and_burns_no_fences(
    me: LeaderBench,
) -> None:
    """Fences come from a clock that peers can push no further than its drift."""
    ahead = Timestamp(me.wall + 61_000, 0)
    for value in ((1, Pid(LIAR, 1, 1)), TOMBSTONE):
        me.take({key_bytes(("n",)): Entry(("n",), ahead, LIAR, value)})
    assert me.store.refused == {Refusal.DRIFT: 2}
    me.stand()
    limit = Timestamp(me.wall + 1, 0).pack("me@h")
    assert (me.fence or limit) < limit


def test_nobody_withdraws_or_stands_for_another(me: LeaderBench) -> None:
    me.up("b@h", 1)
    me.stand()
    fence = me.fence
    liar = liar_of(me)
    me.take(liar.remove(("n", "me@h")))
    me.take(liar.add(("n", "b@h"), (1, Pid("b@h", 1, 1), PRIORITY_MAX)))
    me.take(liar.add(("n", LIAR), (1, Pid("b@h", 1, 1), PRIORITY_MAX)))
    assert me.fence == fence
    assert [one.node for one in me.machine.candidates("n")] == ["me@h"]
    assert me.store.refused == {Refusal.AUTHOR: 2, Refusal.LEAF: 1}


def test_what_a_liar_writes_in_our_name_is_overwritten_once_a_second(
    me: LeaderBench,
) -> None:
    """Entries carry their writer's name, and a member can forge that one, too."""
    me.stand()
    told = len(me.told)
    for turn in range(300):
        stamp = Timestamp(me.wall + 100, turn)
        forged = (4, Pid("me@h", 9, 4), -1)
        me.take({key_bytes(("n", "me@h")): Entry(("n", "me@h"), stamp, "me@h", forged)})
        me.wait(10)
    me.wait(2_000)
    assert me.fence is not None
    own = me.machine.entries.get(("n", "me@h"))
    assert own == (me.creation, me.pid(), 0)
    assert len(me.told) - told <= 8


def test_a_flood_of_candidates_of_one_node_is_bounded(me: LeaderBench) -> None:
    liar = liar_of(me)
    for number in range(CANDIDATES_PER_NODE_MAX + 50):
        me.take(liar.add((number, LIAR), (1, Pid(LIAR, 1, 1), 0)))
    assert len(me.machine.table.of(LIAR)) == CANDIDATES_PER_NODE_MAX
    assert me.store.refused == {Refusal.LEAF: 50}
    assert me.machine.stats.refused == 50
    assert len(me.stand()) == 1


def test_a_flood_of_terms_is_bounded_and_our_own_names_go_on(me: LeaderBench) -> None:
    """A delta is judged as a whole, so that the bound is passed by one at most."""
    liar, chunk = liar_of(me), 1_024
    for first in range(0, TERMS_MAX + chunk, chunk):
        delta: Delta = {}
        for number in range(first, first + chunk):
            delta.update(liar.add((number,), (1, Pid(LIAR, 1, 1))))
        me.take(delta)
    assert len(me.machine.table.races) == TERMS_MAX
    assert me.store.refused == {Refusal.LEAF: 1_024}
    assert len(me.stand()) == 1
    me.gone(LIAR, 1)


def test_candidates_of_a_liar_go_with_it(me: LeaderBench) -> None:
    liar = liar_of(me)
    me.stand()
    me.take(liar.add(("n", LIAR), (1, Pid(LIAR, 1, 1), PRIORITY_MAX)))
    assert me.leader == LIAR
    assert me.fence is None
    me.dead(LIAR, 1)
    assert me.leader == "me@h"
    me.gone(LIAR, 1)
    assert me.machine.table.nodes() == ["me@h"]

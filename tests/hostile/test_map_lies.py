"""What a member that means harm can do to a map: write to it, and nothing more."""

from __future__ import annotations

import time
from typing import Any

import pytest

from barrel_p2p import InvalidValue
from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.core.ormap import Entry, OrMap
from barrel_p2p.errors import Busy
from barrel_p2p.services import map_owner
from barrel_p2p.services.map_alike import ALIKE_MAX
from barrel_p2p.wire.limits import DELTA_ENTRIES_MAX
from barrel_p2p.wire.terms import key_bytes
from tests.map_net import MapNet

PRIME = (1 << 61) - 1
"""Python's hash of an integer is its remainder by it."""


async def test_keys_that_all_have_one_hash_are_not_taken() -> None:
    net = MapNet()
    a = net.add("a@h")
    liar = OrMap("liar@h", HLC(net.clock))
    began_s = time.process_time()
    for first in range(0, 40_000, DELTA_ENTRIES_MAX):
        delta = {}
        for n in range(first, first + DELTA_ENTRIES_MAX):
            delta.update(liar.add(PRIME * n, n))
        a.owner.replica_merge_delta("m", delta)
    assert len(a.shown) == ALIKE_MAX
    assert a.owner.refused == 40_960 - ALIKE_MAX
    assert time.process_time() - began_s < 10
    with pytest.raises(InvalidValue, match=f"ALIKE_MAX={ALIKE_MAX}"):
        a.put(PRIME * 50_000, 1)
    a.put(PRIME, 2)
    a.put(PRIME + 1, 3)
    for n in range(ALIKE_MAX):
        a.remove(PRIME * n)
    a.put(PRIME * 50_000, 1)
    assert a.shown == {PRIME + 1: 3, PRIME * 50_000: 1}


async def test_keys_that_are_hidden_count_among_those_with_one_hash() -> None:
    """They would all be shown at once when their writer turns up."""
    net = MapNet(prune_on_peer_down=True)
    a = net.add("a@h")
    liar = OrMap("liar@h", HLC(net.clock))
    keys = [PRIME * n for n in range(2 * ALIKE_MAX)]
    for key in keys:
        a.owner.replica_merge_delta("m", liar.add(key, (7, "lie")))
    assert a.shown == {}
    assert a.owner.refused == ALIKE_MAX
    with pytest.raises(InvalidValue, match=f"ALIKE_MAX={ALIKE_MAX}"):
        a.put(keys[-1], 1)
    a.put(keys[0], 1)  # It is held already.
    a.member_up("liar@h", 7)
    assert len(a.shown) == ALIKE_MAX
    # Dropped, removed and written anew, they are counted no more than once.
    a.member_dead("liar@h", 7)
    a.remove(keys[0])
    for _ in range(2):
        a.put(keys[0], 1)
    a.member_gone("liar@h", 7)
    assert a.shown == {keys[0]: 1}
    for key in keys[:ALIKE_MAX]:
        a.put(key, 2)
    with pytest.raises(InvalidValue, match=f"ALIKE_MAX={ALIKE_MAX}"):
        a.put(keys[-1], 1)


async def test_a_map_that_is_full_takes_no_new_keys_from_anybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(map_owner, "STORE_ENTRIES_MAX", 100)
    net = MapNet()
    a = net.add("a@h")
    a.put("mine", 1)
    liar = OrMap("liar@h", HLC(net.clock))
    for n in range(500):
        a.owner.replica_merge_delta("m", liar.add(f"k{n}", n))
    assert len(a.shown) == 100
    assert a.owner.stats().overflowed == 401
    with pytest.raises(Busy, match="STORE_ENTRIES_MAX=100"):
        a.put("new", 1)
    a.put("mine", 2)
    assert a.shown["mine"] == 2
    with pytest.raises(Busy, match="STORE_ENTRIES_MAX=100"):
        a.remove("never there")
    a.remove("k0")
    a.remove("k0")
    a.put("k0", 1)
    assert a.owner.stats().removed == 0


async def test_a_stamp_from_the_future_holds_no_key_for_ever() -> None:
    net = MapNet()
    a = net.add("a@h")
    a.put("k", 1)
    drift_ms = a.owner.entries.clock.max_drift_ms
    for ahead_ms, taken in ((drift_ms + 5, False), (drift_ms - 5, True)):
        stamp = Timestamp(net.clock.wall_ms() + ahead_ms, 0)
        delta = {key_bytes("k"): Entry("k", stamp, "liar@h", "mine")}
        a.owner.replica_merge_delta("m", delta)
        assert (a.shown["k"] == "mine") is taken
    a.put("k", 2)
    assert a.shown["k"] == 2


@pytest.mark.parametrize(
    "rows",
    [
        (1, 2, 3),
        {b"": None},
        {b"k": Entry("other", Timestamp(1, 0), "a@h", 1)},
        {key_bytes("k"): Entry("k", Timestamp(1, 0), "a@h", object())},
    ],
)
async def test_what_is_no_delta_changes_nothing(rows: Any) -> None:
    net = MapNet(prune_on_peer_down=True)
    a = net.add("a@h")
    a.owner.replica_merge_delta("m", rows)
    a.owner.replica_apply_full_sync("m", rows)
    assert a.shown == {}
    assert a.events == []

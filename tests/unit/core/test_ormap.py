"""An OR-Map keeps the last writer's entry of each key, and says what changed."""

from __future__ import annotations

import copy
import sys

import pytest

from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.errors import ClockDrift, InvalidValue, NotEncodable
from barrel_p2p.ormap import BUCKETS, TOMBSTONE, Change, Delta, Entry, OrMap
from barrel_p2p.wire.terms import key_bytes
from tests.models.clock import HandClock

NOW_MS = 1_800_000_000_000


def a_map(node: str = "a@h", now_ms: int = NOW_MS) -> OrMap:
    return OrMap(node, HLC(HandClock(now_ms)))


def delta_of(*entries: Entry) -> Delta:
    return {key_bytes(entry.key): entry for entry in entries}


def entry(value: object, *, at: int = 0, counter: int = 0, node: str = "a@h") -> Entry:
    return Entry("k", Timestamp(NOW_MS + at, counter), node, value)


def test_a_new_map_is_empty() -> None:
    """ORM-01."""
    ormap = a_map()
    assert ormap.is_empty()
    assert (ormap.keys(), ormap.to_list(), len(ormap)) == ([], [], 0)
    assert ormap.digest() == bytes(8 * BUCKETS)


def test_an_added_key_is_found_and_another_is_not() -> None:
    """ORM-02."""
    ormap = a_map()
    ormap.add("k", 1)
    assert (ormap.get("k"), ormap.get("other"), ormap.get("other", 7)) == (1, None, 7)
    assert "k" in ormap
    assert "other" not in ormap


def test_the_second_add_of_a_key_wins() -> None:
    """ORM-03."""
    ormap = a_map()
    ormap.add("k", 1)
    ormap.add("k", 2)
    assert ormap.to_list() == [("k", 2)]


def test_a_removed_key_is_not_found_and_leaves_a_tombstone() -> None:
    """ORM-04, FAI-08: also after merging what was added before."""
    ormap = a_map()
    added = ormap.add("k", 1)
    ormap.remove("k")
    assert ormap.merge(added) == []
    assert ormap.get("k") is None
    assert ormap.is_empty()
    found = ormap.entry("k")
    assert found is not None
    assert found.is_tombstone
    assert found.value is TOMBSTONE
    assert ormap.tombstones == 1


def test_removing_an_unknown_key_is_told_to_others_too() -> None:
    here, there = a_map("a@h"), a_map("b@h", NOW_MS - 1)
    there.add("k", 1)
    there.merge(here.remove("k"))
    assert there.is_empty()


def test_keys_and_pairs_are_exactly_the_live_ones() -> None:
    """ORM-05, ORM-06."""
    ormap = a_map()
    for i in range(300):
        ormap.add(("k", i), i)
    for i in range(0, 300, 2):
        ormap.remove(("k", i))
    odd = range(1, 300, 2)
    assert {*ormap.keys()} == {("k", i) for i in odd}
    assert dict(ormap.to_list()) == {("k", i): i for i in odd}
    assert (len(ormap), len(ormap.snapshot())) == (150, 300)


def test_a_merge_of_disjoint_maps_has_the_keys_of_both() -> None:
    """ORM-07."""
    here, there = a_map("a@h"), a_map("b@h")
    here.add("x", 1)
    there.add("y", 2)
    here.merge(there.snapshot())
    assert dict(here.to_list()) == {"x": 1, "y": 2}


def test_the_greater_stamp_wins_then_the_greater_name_then_the_tombstone() -> None:
    """FAI-06: the later of two concurrent adds stays, whichever comes first."""
    ranked = [
        entry("old", at=-1, counter=9, node="z@h"),
        entry("first", node="a@h"),
        entry(TOMBSTONE, node="a@h"),
        entry("greater name", node="b@h"),
        entry("greater counter", counter=1, node="a@h"),
    ]
    for low, less in enumerate(ranked):
        for high, more in enumerate(ranked):
            assert more.beats(less) == (high > low)
            ormap = a_map()
            ormap.merge(delta_of(less))
            assert bool(ormap.merge(delta_of(more))) == (high > low)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_conflict_of_three_resolves_to_the_latest(order: tuple[int, ...]) -> None:
    """FAI-09."""
    deltas = [delta_of(entry(i, at=i, node=f"{n}@h")) for i, n in enumerate("cab")]
    ormap = a_map()
    for i in order:
        ormap.merge(deltas[i])
    assert ormap.get("k") == 2


def test_a_write_is_stamped_once_and_its_delta_is_that_entry() -> None:
    """What is told to others is what is kept: one stamp a write, one entry a key."""
    ormap = a_map()
    for i in range(1_000):
        delta = ormap.add("k", i)
    assert delta == {key_bytes("k"): ormap.entry("k")}
    assert len(ormap.snapshot()) == 1
    assert ormap.merge(delta) == []


def test_a_merge_tells_exactly_what_changed() -> None:
    ormap = a_map()
    kept = ormap.add("kept", 1)[key_bytes("kept")]
    lost = ormap.add("lost", 1)[key_bytes("lost")]
    stale = Entry("kept", Timestamp(5, 0), "b@h", 2)
    fresh = Entry("lost", Timestamp(NOW_MS, 9), "b@h", TOMBSTONE)
    new = Entry("new", Timestamp(5, 0), "b@h", 3)
    changes = ormap.merge(delta_of(stale, fresh, new))
    assert changes == [
        Change(key_bytes("lost"), lost, fresh),
        Change(key_bytes("new"), None, new),
    ]
    assert [change.key for change in changes] == ["lost", "new"]
    assert ormap.entry("kept") == kept


def test_absorbing_moves_the_clock_once_and_past_every_stamp() -> None:
    hands = HandClock(NOW_MS)
    ormap = OrMap("a@h", HLC(hands))
    delta = {
        key_bytes(i): Entry(i, Timestamp(NOW_MS + i, 0), "b@h", None) for i in range(9)
    }
    ormap.absorb_clock(delta)
    assert ormap.clock.now() == Timestamp(NOW_MS + 8, 2)
    ormap.absorb_clock({})
    assert ormap.clock.now() == Timestamp(NOW_MS + 8, 3)


def test_a_stamp_too_far_ahead_is_not_absorbed() -> None:
    ormap = a_map()
    with pytest.raises(ClockDrift):
        ormap.absorb_clock(delta_of(entry(1, at=60_001)))
    assert ormap.clock.now() == Timestamp(NOW_MS, 0)


def test_a_write_after_an_unabsorbed_merge_still_wins() -> None:
    ormap = a_map()
    ormap.merge(delta_of(entry("theirs", at=500, node="b@h")))
    delta = ormap.add("k", "ours")
    assert ormap.get("k") == "ours"
    assert delta[key_bytes("k")].stamp > Timestamp(NOW_MS + 500, 0)


def test_a_write_that_cannot_win_is_refused_aloud() -> None:
    """The original drops such an add in silence."""
    ormap = a_map()
    ormap.merge(delta_of(entry("theirs", at=60_001, node="b@h")))
    before = ormap.digest()
    with pytest.raises(ClockDrift):
        ormap.add("k", "ours")
    assert (ormap.get("k"), ormap.digest()) == ("theirs", before)


def test_tombstones_go_at_the_cutoff_and_values_never() -> None:
    ormap = a_map()
    ormap.merge(
        {
            key_bytes(i): Entry(
                i,
                Timestamp(NOW_MS + 40_000 * i, 0),
                "b@h",
                i if i % 2 else TOMBSTONE,
            )
            for i in range(10)
        }
    )
    assert ormap.gc_tombstones(NOW_MS + 40_000 * 4) == 2
    assert (ormap.tombstones, len(ormap)) == (3, 5)
    assert ormap.entry(2) is None
    assert ormap.entry(4) is not None
    assert ormap.gc_tombstones(NOW_MS + 40_000 * 4 + 1) == 1
    assert ormap.gc_tombstones(NOW_MS) == 0
    assert ormap.horizon_ms == NOW_MS + 40_000 * 4 + 1
    assert ormap.gc_tombstones(2**63) == 2
    assert (ormap.tombstones, len(ormap), len(ormap.snapshot())) == (0, 5, 5)


def test_a_tombstone_that_was_overwritten_is_not_collected() -> None:
    ormap = a_map()
    ormap.remove("k")
    ormap.add("k", 1)
    assert ormap.tombstones == 0
    assert ormap.gc_tombstones(2**63) == 0
    assert ormap.get("k") == 1


def test_forgetting_leaves_no_trace() -> None:
    ormap = a_map()
    empty = ormap.digest()
    ormap.add("k", 1)
    ormap.remove("j")
    for key in ("k", "j"):
        known = ormap.entry(key)
        assert ormap.forget(key) == known
        assert ormap.forget(key) is None
    assert (ormap.digest(), len(ormap.snapshot()), ormap.tombstones) == (empty, 0, 0)


def test_buckets_part_the_map_and_their_digests_find_the_difference() -> None:
    here, there = a_map("a@h"), a_map("b@h")
    for i in range(2_000):
        here.add(i, i)
    there.merge(here.snapshot())
    assert there.digest() == here.digest()
    changed = here.add(5, "other")
    differing = [
        i
        for i in range(BUCKETS)
        if here.digest()[8 * i : 8 * i + 8] != there.digest()[8 * i : 8 * i + 8]
    ]
    assert len(differing) == 1
    found = here.bucket(differing[0])
    assert changed.items() <= found.items()
    assert len(found) < 100
    before = there.entry(5)
    after = changed[key_bytes(5)]
    assert there.merge(found) == [Change(key_bytes(5), before, after)]
    assert there.digest() == here.digest()
    parts = [here.bucket(i) for i in range(BUCKETS)]
    assert sum(map(len, parts)) == len(here.snapshot())


@pytest.mark.parametrize("index", [-1, BUCKETS, True, "0", 2**70])
def test_there_are_no_other_buckets(index: object) -> None:
    with pytest.raises(InvalidValue, match="is not one of 0 to 255"):
        a_map().bucket(index)  # type: ignore[arg-type]


def test_a_bucket_is_a_copy() -> None:
    ormap = a_map()
    ormap.add("k", 1)
    for i in range(BUCKETS):
        ormap.bucket(i).clear()
    ormap.snapshot().clear()
    assert ormap.get("k") == 1


@pytest.mark.parametrize("key", [1.5, None, True, ["k"], {"k": 1}, b"k" * 2_000])
def test_what_is_no_key_term_is_no_key(key: object) -> None:
    ormap = a_map()
    for use in (ormap.get, ormap.entry, ormap.remove, ormap.forget):
        with pytest.raises(NotEncodable):
            use(key)
    with pytest.raises(NotEncodable):
        ormap.add(key, 1)
    assert ormap.snapshot() == {}


def test_a_tombstone_cannot_be_added() -> None:
    with pytest.raises(InvalidValue, match="remove"):
        a_map().add("k", TOMBSTONE)


@pytest.mark.parametrize("delta", [{"k": entry(1)}, {b"k": 1}, {b"k": None}])
def test_what_is_no_delta_is_refused(delta: Delta) -> None:
    ormap = a_map()
    for use in (ormap.merge, ormap.absorb_clock):
        with pytest.raises(TypeError, match="a delta holds Entry objects by bytes"):
            use(delta)
    assert ormap.snapshot() == {}
    assert ormap.clock.now() == Timestamp(NOW_MS, 0)


def test_an_entry_that_no_constructor_made_is_refused_whole() -> None:
    ormap = a_map()
    hollow = Entry.__new__(Entry)
    with pytest.raises((InvalidValue, TypeError)):
        ormap.merge({b"k": hollow})
    assert ormap.snapshot() == {}
    assert ormap.digest() == bytes(8 * BUCKETS)


def test_names_of_nodes_are_checked() -> None:
    with pytest.raises(InvalidValue):
        OrMap("nobody", HLC())
    with pytest.raises(InvalidValue):
        Entry("k", Timestamp(1, 0), "x" * 500 + "@h", 1)


def test_copies_of_a_tombstone_are_the_tombstone() -> None:
    assert copy.copy(TOMBSTONE) is TOMBSTONE
    gone = entry(TOMBSTONE)
    assert copy.deepcopy(gone).is_tombstone
    assert copy.deepcopy(gone) == gone
    assert repr(gone).endswith("value=TOMBSTONE)")


def test_an_entry_takes_one_small_object() -> None:
    assert sys.getsizeof(entry(1)) <= 72


def test_a_map_shows_what_it_holds() -> None:
    assert repr(a_map()) == "OrMap(node='a@h', keys=0, tombstones=0)"

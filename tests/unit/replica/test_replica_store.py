"""The store that is ready: what it takes, what it tells, what it forgets."""

from __future__ import annotations

import itertools

import pytest

from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.core.ormap import TOMBSTONE, Change, Delta, Entry, OrMap
from barrel_p2p.errors import InvalidValue
from barrel_p2p.replica.limits import RATED_MAX
from barrel_p2p.replica.pieces import Pieces, differing
from barrel_p2p.replica.rates import Rates
from barrel_p2p.replica.store import ReplicatedStore, Source
from barrel_p2p.wire.crdt_ingest import Refusal, decode_delta
from barrel_p2p.wire.terms import key_bytes

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


class Wall:
    """A clock that stands where it was put."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def wall_ms(self) -> int:
        return self.ms


def entry(
    key: object, value: object, *, at_ms: int = NOW_MS, node: str = "o@h"
) -> Delta:
    return {key_bytes(key): Entry(key, Timestamp(at_ms, 0), node, value)}


def made(**options: object) -> ReplicatedStore:
    wall = Wall()
    return ReplicatedStore(
        OrMap("m@h", HLC(wall)),
        clock=wall,
        **options,  # type: ignore[arg-type]
    )


def test_changes_are_told_once_with_what_brought_them() -> None:
    told: list[tuple[list[Change], Source]] = []
    store = made(on_change=lambda changes, source: told.append((changes, source)))
    delta = entry("k", 1)
    store.replica_merge_delta("r", delta)
    store.replica_merge_delta("r", delta)
    store.replica_apply_full_sync("r", delta | entry("l", 2))
    store.replica_write("r", ("remove", "k"))
    assert [([c.key for c in changes], source) for changes, source in told] == [
        (["k"], "delta"),
        (["l"], "sync"),
        (["k"], "update"),
    ]
    assert told[2][0][0].before == delta[key_bytes("k")]


def test_only_what_gossip_should_have_brought_is_worth_passing_on() -> None:
    store = made()
    assert store.replica_apply_full_sync("r", entry("new", 1)) is False
    old = entry("old", 1, at_ms=NOW_MS - 10_000)
    assert store.replica_apply_full_sync("r", old) is True
    assert store.replica_apply_full_sync("r", old) is False


def test_values_and_writers_that_do_not_fit_are_refused_by_reason() -> None:
    store = made(
        leaf=lambda key, value: isinstance(value, int),
        may_write=lambda key, node: key[1] == node,
    )
    store.replica_merge_delta("r", entry(("k", "o@h"), "text"))
    store.replica_merge_delta("r", entry(("k", "x@h"), 1))
    store.replica_merge_delta("r", entry("k", 1))
    store.replica_merge_delta("r", entry(("k", "o@h"), 1))
    assert store.refused == {Refusal.LEAF: 1, Refusal.AUTHOR: 2}
    assert store.entries.keys() == [("k", "o@h")]
    with pytest.raises(InvalidValue, match="takes no value"):
        store.replica_write("r", ("add", ("k", "m@h"), "text"))
    for nonsense in (None, 1, {"k": 1}, {b"k": Entry}):
        store.replica_merge_delta("r", nonsense)  # type: ignore[arg-type]
        store.replica_apply_full_sync("r", nonsense)  # type: ignore[arg-type]
    assert len(store.entries) == 1


def test_a_store_of_tombstones_has_a_snapshot_and_an_empty_one_has_none() -> None:
    store = made()
    assert store.replica_full_sync_snapshot("r") is None
    store.replica_write("r", ("remove", "k"))
    snapshot = store.replica_full_sync_snapshot("r")
    assert snapshot is not None
    assert [e.value for e in snapshot.values()] == [TOMBSTONE]


def test_forgotten_tombstones_do_not_come_back() -> None:
    first, second = made(), made()
    tombstone = entry("k", TOMBSTONE, at_ms=NOW_MS - 2 * HOUR_MS)
    for store in (first, second):
        store.replica_merge_delta("r", tombstone)
    first.replica_collect("r", NOW_MS - HOUR_MS)
    assert first.entries.tombstones == 0
    snapshot = second.replica_full_sync_snapshot("r")
    assert snapshot is not None
    first.replica_apply_full_sync("r", snapshot)
    assert first.entries.tombstones == 0
    assert first.expired == 1
    # Where the key has a value, a late tombstone still removes it.
    first.replica_merge_delta("r", entry("k", 1, at_ms=NOW_MS - 3 * HOUR_MS))
    first.replica_merge_delta("r", tombstone)
    assert "k" not in first.entries


def test_a_value_from_before_the_horizon_is_counted_or_refused() -> None:
    """D6."""
    taking, refusing = made(), made(refuse_forgotten=True)
    old = entry("k", 1, at_ms=NOW_MS - 2 * HOUR_MS)
    for store in (taking, refusing):
        store.replica_collect("r", NOW_MS - HOUR_MS)
        store.replica_apply_full_sync("r", old)
    assert (taking.returned, len(taking.entries)) == (1, 1)
    assert (refusing.returned, len(refusing.entries)) == (0, 0)
    assert refusing.refused == {Refusal.HORIZON: 1}


def test_no_removed_key_returns_while_its_tombstone_is_remembered() -> None:
    store = made()
    value = entry("k", 1, at_ms=NOW_MS - HOUR_MS)
    store.replica_merge_delta("r", value)
    store.replica_write("r", ("remove", "k"))
    store.replica_collect("r", NOW_MS - HOUR_MS)
    store.replica_apply_full_sync("r", value)
    assert "k" not in store.entries


def test_a_store_that_is_full_takes_writes_to_what_it_has_and_nothing_new() -> None:
    store = made(entries_max=3)
    for number in range(10):
        store.replica_merge_delta("r", entry(number, number))
    assert store.entries.keys() != []
    assert (len(store.entries), store.overflowed) == (3, 7)
    kept = store.entries.keys()[0]
    store.replica_merge_delta("r", entry(kept, "newer", at_ms=NOW_MS + 1))
    assert store.entries.get(kept) == "newer"
    assert store.overflowed == 7


def test_nothing_goes_with_a_node_unless_the_owner_says_so() -> None:
    gone: list[str] = []
    store = made(on_node_gone=gone.append)
    store.replica_merge_delta("r", entry("k", 1))
    made().replica_remove_node("r", "o@h")
    store.replica_remove_node("r", "o@h")
    assert gone == ["o@h"]
    assert store.entries.get("k") == 1


def test_differing_buckets_are_those_whose_sums_differ() -> None:
    one, other = OrMap("a@h", HLC()), OrMap("b@h", HLC())
    assert differing(one.digest(), other.digest()) == []
    one.add("k", 1)
    (index,) = differing(one.digest(), other.digest())
    assert one.bucket(index).keys() == {key_bytes("k")}


def test_pieces_hold_everything_once_and_within_their_bytes() -> None:
    source = OrMap("a@h", HLC())
    for number in range(2_000):
        source.add(number, bytes(number % 300))
    source.add("large", bytes(20_000))
    source.add("no term", object())
    pieces = Pieces.of_buckets(source, range(256), 4_096)
    found: Delta = {}
    sizes = []
    for piece in iter(pieces.next, None):
        delta = decode_delta(piece).delta
        assert not found.keys() & delta.keys()
        found |= delta
        sizes.append(len(piece))
    assert len(found) == 2_001
    assert pieces.skipped == 1
    assert sorted(sizes)[-2] <= 4_096 < sorted(sizes)[-1]


def test_rates_forget_who_was_heard_of_longest_ago() -> None:
    rates = Rates()
    for number in range(RATED_MAX + 10):
        assert rates.take(f"n{number}@h", "r", 0)
    assert len(rates) == RATED_MAX
    allowed = [rates.take("x@h", "r", at_ms) for at_ms in itertools.repeat(0, 20)]
    assert allowed == [True] * 8 + [False] * 12

"""Deltas travel whole, and what comes in is merged by its rules or counted."""

from __future__ import annotations

from typing import cast

import pytest

from barrel_p2p import crdt_wire
from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.errors import InvalidValue, NotEncodable, WireError
from barrel_p2p.ormap import TOMBSTONE, Delta, Entry, OrMap
from barrel_p2p.wire.crdt_ingest import (
    Accepted,
    Leaf,
    Refusal,
    accept,
    decode_delta,
    encode_delta,
    entry_bytes,
    ingest,
    valid_entry,
)
from barrel_p2p.wire.limits import (
    DELTA_BYTES_MAX,
    DELTA_CHUNK_BYTES,
    DELTA_ENTRIES_MAX,
    DELTA_NODES_MAX,
)
from barrel_p2p.wire.terms import decode, encode, key_bytes
from tests.models.clock import HandClock

NOW_MS = 1_800_000_000_000


def a_map(node: str = "a@h", now_ms: int = NOW_MS) -> OrMap:
    return OrMap(node, HLC(HandClock(now_ms)))


def delta_of(*entries: Entry) -> Delta:
    return {key_bytes(entry.key): entry for entry in entries}


def entry(value: object, *, key: object = "k", at: int = 0, node: str = "b@h") -> Entry:
    return Entry(key, Timestamp(NOW_MS + at, 0), node, value)


def row(*fields: object, names: tuple[object, ...] = ("b@h",)) -> bytes:
    """A delta of one entry, written by hand."""
    return encode((names, [fields]))


def test_a_delta_arrives_as_it_was_sent() -> None:
    """CRW-01, CRW-02: values of any kind, tombstones, keys of any kind."""
    delta = delta_of(
        entry(None),
        entry({"a": [1, 2.5, None]}, key=("svc", 1), node="c@h"),
        entry(TOMBSTONE, key=b"gone"),
        entry((), key=-(2**70), at=7),
    )
    (data,) = encode_delta(delta)
    assert decode_delta(data) == Accepted(delta, {})
    assert decode_delta(bytearray(data)) == decode_delta(memoryview(data))


def test_a_delta_is_one_plain_term() -> None:
    delta = delta_of(entry(1), entry(TOMBSTONE, key="g", node="c@h"), entry(2, key="h"))
    (data,) = encode_delta(delta)
    assert decode(data) == (
        ("b@h", "c@h"),
        [("k", NOW_MS, 0, 0, 1), ("g", NOW_MS, 0, 1), ("h", NOW_MS, 0, 0, 2)],
    )
    assert encode(decode(data)) == data


def test_an_empty_delta_takes_no_chunk() -> None:
    assert encode_delta({}) == []
    assert decode_delta(encode(((), []))) == Accepted({}, {})


@pytest.mark.parametrize("chunk_bytes", [1, 200, 5_000, DELTA_CHUNK_BYTES])
def test_chunks_stay_below_their_size_and_lose_nothing(chunk_bytes: int) -> None:
    delta = delta_of(
        *(entry("v" * (i % 90), key=i, node=f"n{i % 7}@h") for i in range(400))
    )
    chunks = encode_delta(delta, chunk_bytes=chunk_bytes)
    together: Delta = {}
    for chunk in chunks:
        received = decode_delta(chunk)
        assert received.refused == {}
        assert len(chunk) <= chunk_bytes or len(received.delta) == 1
        assert encode(decode(chunk)) == chunk
        together |= received.delta
    assert together == delta
    assert list(together) == list(delta)


def test_chunks_are_as_full_as_they_may_be() -> None:
    delta = delta_of(*(entry("v" * 50, key=i) for i in range(400)))
    chunks = encode_delta(delta, chunk_bytes=1_000)
    assert all(len(chunk) > 900 for chunk in chunks[:-1])


@pytest.mark.parametrize("chunk_bytes", [0, -1, DELTA_BYTES_MAX + 1])
def test_a_chunk_has_a_size(chunk_bytes: int) -> None:
    with pytest.raises(InvalidValue, match="DELTA_BYTES_MAX=1048576"):
        encode_delta(delta_of(entry(1)), chunk_bytes=chunk_bytes)


def test_more_writers_than_a_table_holds_take_another_chunk() -> None:
    count = DELTA_NODES_MAX + 1
    delta = delta_of(*(entry(i, key=i, node=f"n{i}@h") for i in range(count)))
    chunks = encode_delta(delta)
    received = [decode_delta(chunk).delta for chunk in chunks]
    assert [len(one) for one in received] == [DELTA_NODES_MAX, 1]


def test_more_entries_than_a_delta_holds_take_another_chunk() -> None:
    count = DELTA_ENTRIES_MAX + 1
    delta = delta_of(*(entry(0, key=i) for i in range(count)))
    chunks = encode_delta(delta, chunk_bytes=DELTA_BYTES_MAX)
    received = [decode_delta(chunk).delta for chunk in chunks]
    assert [len(one) for one in received] == [DELTA_ENTRIES_MAX, 1]


def test_what_entry_bytes_lets_pass_can_travel_and_nothing_longer() -> None:
    longest = DELTA_BYTES_MAX
    while True:
        try:
            entry_bytes("k", b"v" * longest)
        except NotEncodable:
            longest -= 1
        else:
            break
    name = "n" * 198 + "@h"
    (data,) = encode_delta(delta_of(entry(b"v" * longest, node=name)))
    assert DELTA_BYTES_MAX - 20 < len(data) <= DELTA_BYTES_MAX
    assert decode_delta(data).refused == {}
    with pytest.raises(NotEncodable, match="'k' takes more than DELTA_BYTES_MAX"):
        encode_delta(delta_of(entry(b"v" * (longest + 20), node=name)))


@pytest.mark.parametrize("value", [object(), {1, 2, object()}, 2**9_000])
def test_what_is_no_term_is_refused_before_it_is_written(value: object) -> None:
    with pytest.raises(NotEncodable):
        entry_bytes("k", value)
    with pytest.raises(NotEncodable):
        encode_delta(delta_of(entry(value)))


def test_a_value_that_only_nests_too_deep_inside_a_delta_is_refused() -> None:
    def nested(depth: int) -> object:
        value: object = 0
        for _ in range(depth):
            value = [value]
        return value

    (data,) = encode_delta(delta_of(entry(nested(253))))
    assert decode_delta(data).refused == {}
    assert entry_bytes("k", nested(253)) > 0
    assert encode(nested(254))
    for check in (entry_bytes, lambda _, v: encode_delta(delta_of(entry(v)))):
        with pytest.raises(NotEncodable):
            check("k", nested(254))


BAD_ROWS: dict[Refusal, list[bytes]] = {
    Refusal.FORM: [
        encode((("b@h",), ["text"])),
        encode((("b@h",), [["k", NOW_MS, 0, 0, 1]])),
        row(),
        row("k", NOW_MS, 0),
        row("k", NOW_MS, 0, 0, 1, 2),
    ],
    Refusal.KEY: [
        row(1.5, NOW_MS, 0, 0, 1),
        row(None, NOW_MS, 0, 0, 1),
        row(["k"], NOW_MS, 0, 0),
        row({"k": 1}, NOW_MS, 0, 0, 1),
        row("k" * 2_000, NOW_MS, 0, 0, 1),
    ],
    Refusal.STAMP: [
        row("k", "now", 0, 0),
        row("k", 1.5, 0, 0, 1),
        row("k", True, 0, 0, 1),
        row("k", -1, 0, 0, 1),
        row("k", 2**64, 0, 0, 1),
        row("k", NOW_MS, 2**32, 0, 1),
        row("k", NOW_MS, None, 0, 1),
        row("k", None, 0, 0, 1),
        row("k", (NOW_MS, 0), 0, 0, 1),
    ],
    Refusal.NODE: [
        row("k", NOW_MS, 0, 9, 1),
        row("k", NOW_MS, 0, -1, 1),
        row("k", NOW_MS, 0, "b@h", 1),
        row("k", NOW_MS, 0, True, 1),
        row("k", NOW_MS, 0, 9, 1, names=()),
        row("k", NOW_MS, 0, 0, 1, names=("nobody",)),
        row("k", NOW_MS, 0, 0, 1, names=(7,)),
        row("k", NOW_MS, 0, 0, 1, names=("B@H",)),
    ],
}


@pytest.mark.parametrize(
    ("reason", "data"),
    [(reason, data) for reason, rows in BAD_ROWS.items() for data in rows],
)
def test_a_malformed_entry_is_counted_by_its_reason(
    reason: Refusal, data: bytes
) -> None:
    """CRW-03, CRW-04, CRW-06, E14: a wrong wrapper costs that entry only."""
    assert decode_delta(data) == Accepted({}, {reason: 1})
    names, rows = cast("tuple[tuple[object], list[object]]", decode(data))
    both = encode(((*names, "z@h"), [*rows, ("good", NOW_MS, 0, len(names), 1)]))
    ormap = a_map()
    done = ingest(ormap, both)
    assert done.refused == {reason: 1}
    assert ormap.to_list() == [("good", 1)]


@pytest.mark.parametrize(
    "payload",
    [None, 7, "text", (), [], ((), ()), ([], []), ({}, []), ((), {}), ((), [], [])],
)
def test_what_is_no_delta_is_a_wire_error_to_decode_and_nothing_to_accept(
    payload: object,
) -> None:
    """CRW-11."""
    with pytest.raises(WireError):
        decode_delta(encode(payload))
    for given in (payload, encode(payload)):
        assert accept(given) == Accepted({}, {Refusal.DELTA: 1})


def test_ingesting_what_is_no_delta_changes_nothing_and_reads_no_clock() -> None:
    """CRW-12."""
    ormap = a_map()
    ormap.add("k", 1)
    hands = HandClock(NOW_MS)
    quiet = OrMap("a@h", HLC(hands))
    for payload in (None, 7, b"", b"\x83", b"\x83a\x01", {"k": 1}, {b"k": 1}):
        done = ingest(ormap, payload)
        assert (done.changes, done.delta) == ([], {})
        assert sum(done.refused.values()) == 1
        ingest(quiet, payload)
    assert ormap.to_list() == [("k", 1)]
    assert quiet.clock.now() == Timestamp(NOW_MS, 0)


@pytest.mark.parametrize("excess", ["names", "entries"])
def test_a_delta_holds_so_many_and_no_more(excess: str) -> None:
    names = [f"n{i}@h" for i in range(DELTA_NODES_MAX + (excess == "names"))]
    count = DELTA_ENTRIES_MAX + (excess == "entries")
    rows = [(i, NOW_MS, 0, 0, 0) for i in range(count)]
    with pytest.raises(WireError, match="DELTA_NODES_MAX=255, DELTA_ENTRIES_MAX=4096"):
        decode_delta(encode((tuple(names), rows)))


def test_of_two_entries_of_one_key_the_greater_stays() -> None:
    rows = [("k", NOW_MS, c, 0, c) for c in (1, 3, 2)]
    received = decode_delta(encode((("b@h",), rows)))
    assert [e.value for e in received.delta.values()] == [3]
    assert received.refused == {Refusal.DUPLICATE: 2}


def test_an_entry_is_valid_by_its_wrapper_and_its_leaf() -> None:
    assert valid_entry(entry(object()))
    assert valid_entry(entry(TOMBSTONE))
    others: list[object] = [None, 7, (), {}, ("k", NOW_MS, 0, "b@h", 1)]
    assert not any(valid_entry(other) for other in others)
    assert not valid_entry(entry(1, key=[]))
    assert not valid_entry(Entry.__new__(Entry))
    assert valid_entry(entry(7), lambda key, value: value == 7)
    assert not valid_entry(entry(8), lambda key, value: value == 7)


def test_a_leaf_predicate_that_raises_refuses_its_entry_only() -> None:
    """CRW-09: neither does an answer that is merely true let an entry pass."""
    delta = delta_of(entry(4, key="even"), entry(5, key="odd"), entry("x", key="text"))
    done = accept(delta, leaf=lambda key, value: value % 2 == 0)  # type: ignore[operator]
    assert done.delta.keys() == {key_bytes("even")}
    assert done.refused == {Refusal.LEAF: 2}
    merely_true = cast(Leaf, lambda key, value: 1)
    assert accept(delta, leaf=merely_true).delta == {}
    gone = delta_of(entry(TOMBSTONE))
    assert accept(gone, leaf=lambda key, value: False).delta == gone


def test_who_may_not_write_a_key_may_not_remove_it_either() -> None:
    def may_write(key: object, node: str) -> bool:
        assert key != "fails"
        return key == node

    delta = delta_of(
        entry(1, key="b@h"),
        entry(1, key="a@h"),
        entry(TOMBSTONE, key="c@h"),
        entry(1, key="fails"),
    )
    done = accept(delta, may_write=may_write)
    assert done.delta.keys() == {key_bytes("b@h")}
    assert done.refused == {Refusal.AUTHOR: 3}


@pytest.mark.parametrize("counter", [0, 8_191, 2**32 - 1])
def test_exactly_the_stamps_that_the_clock_takes_come_in(counter: int) -> None:
    """A stamp from the future is refused, and its neighbours are merged."""
    limit_ms = NOW_MS + 60_000
    carries = counter >= 8_191
    near = Entry("near", Timestamp(limit_ms - carries, counter), "b@h", 1)
    far = Entry("far", Timestamp(limit_ms - carries + 1, counter), "b@h", 1)
    ormap = a_map()
    done = ingest(ormap, delta_of(far, near))
    assert done.refused == {Refusal.DRIFT: 1}
    assert ormap.keys() == ["near"]
    assert ormap.clock.now() > near.stamp
    assert ormap.clock.now().wall_ms <= limit_ms + 1
    assert accept(delta_of(far)).delta == delta_of(far)


def test_a_clock_set_back_meanwhile_refuses_the_whole_delta() -> None:
    hands = HandClock(NOW_MS)
    ormap = OrMap("a@h", HLC(hands))

    def leaf(key: object, value: object) -> bool:
        hands.shown = NOW_MS - 3_600_000
        return True

    done = ingest(ormap, delta_of(entry(1)), leaf=leaf)
    assert (done.changes, done.delta) == ([], {})
    assert done.refused == {Refusal.DRIFT: 1}
    assert ormap.is_empty()


def test_ingesting_merges_and_tells_only_what_changed() -> None:
    ormap = a_map()
    old, new = entry(1), entry(2, at=5)
    assert [c.after for c in ingest(ormap, delta_of(old)).changes] == [old]
    again = ingest(ormap, encode_delta(delta_of(old))[0])
    assert (again.changes, again.delta) == ([], delta_of(old))
    (change,) = ingest(ormap, delta_of(new)).changes
    assert (change.key, change.before, change.after) == ("k", old, new)
    assert ormap.add("k", 3)[key_bytes("k")].beats(new)


def test_a_snapshot_of_removals_only_removes_on_others() -> None:
    """E12."""
    here, there = a_map("a@h"), a_map("b@h")
    there.merge(here.add("k", 1))
    here.remove("k")
    assert here.is_empty()
    for chunk in encode_delta(here.snapshot()):
        ingest(there, chunk)
    assert there.is_empty()
    assert there.digest() == here.digest()


def test_what_may_have_been_removed_long_ago_can_be_kept_out() -> None:
    ormap = a_map()
    old = ormap.add("removed", 1)
    kept = ormap.add("kept", 1)
    ormap.remove("removed")
    assert ormap.gc_tombstones(NOW_MS + 1) == 1
    newer = delta_of(entry(1, key="new", at=1))
    came = old | kept | newer | delta_of(entry(TOMBSTONE, key="gone", at=-9))
    done = ingest(ormap, came, refuse_forgotten=True)
    assert done.refused == {Refusal.HORIZON: 1}
    assert {change.key for change in done.changes} == {"new", "gone"}
    assert ormap.get("removed") is None
    assert [c.key for c in ingest(ormap, old).changes] == ["removed"]


def test_a_dict_under_the_bytes_of_other_keys_is_refused() -> None:
    done = accept({b"k": entry(1), 7: entry(1), key_bytes("k"): 7})
    assert done == Accepted({}, {Refusal.KEY: 2, Refusal.FORM: 1})


def test_accepting_leaves_what_was_decoded_as_it_was() -> None:
    received = decode_delta(row("k", NOW_MS, 0, 9, 1))
    done = accept(received, leaf=lambda key, value: False)
    assert received.refused == done.refused == {Refusal.NODE: 1}
    assert received.refused is not done.refused


def test_the_documented_names_are_public() -> None:
    assert crdt_wire.valid_entry is valid_entry
    assert crdt_wire.accept is accept
    assert crdt_wire.ingest is ingest

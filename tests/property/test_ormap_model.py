"""The compiled OR-Map agrees with its model, and converges after every schedule."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.ormap import TOMBSTONE, Delta, Entry, OrMap
from barrel_p2p.wire.crdt_ingest import encode_delta
from barrel_p2p.wire.terms import key_bytes
from tests.models import ormap as model
from tests.models.clock import HandClock

NODES = ("a@h", "b@h", "c@h")
KEYS = ("x", ("y", 1), b"z")
NAMES = [key_bytes(key) for key in KEYS]

# A small range: ties of stamp, of name and of both are the point.
WRITTEN = st.builds(
    model.Written,
    st.tuples(st.integers(0, 2) | st.integers(0, 2**47), st.integers(0, 2)),
    st.sampled_from(NODES),
    st.booleans(),
)
MODEL_DELTA = st.dictionaries(st.sampled_from(NAMES), WRITTEN, max_size=3)
STEP = MODEL_DELTA | st.integers(0, 3) | st.integers(0, 2**48)


def value_of(written: model.Written) -> object:
    """One writer's one stamp is one write, so its value is a function of both."""
    return TOMBSTONE if written.removed else (written.stamp, written.node)


def delta_of(plain: dict[bytes, model.Written]) -> Delta:
    return {
        name: Entry(
            KEYS[NAMES.index(name)], Timestamp(*written.stamp), written.node,
            value_of(written),
        )
        for name, written in plain.items()
    }  # fmt: skip


def canonical(ormap: OrMap) -> bytes:
    """The whole state, tombstones included, in one order."""
    return b"".join(encode_delta(dict(sorted(ormap.snapshot().items()))))


def rank(entry: Entry) -> tuple[int, int, str]:
    stamp = entry.stamp
    return stamp.wall_ms, stamp.counter, entry.node


@given(st.lists(STEP, max_size=30))
def test_the_map_agrees_with_its_model(
    steps: list[dict[bytes, model.Written] | int],
) -> None:
    """ORM-16: what is removed is gone, whatever was merged before."""
    ormap, plain = OrMap("a@h", HLC(HandClock(0))), model.OrMapModel()
    for step in steps:
        if isinstance(step, int):
            assert ormap.gc_tombstones(step) == plain.gc_tombstones(step)
        else:
            changes = ormap.merge(delta_of(step))
            assert [change.key_bytes for change in changes] == plain.merge(step)
            assert all(c.after == delta_of(step)[c.key_bytes] for c in changes)
        assert ormap.snapshot() == delta_of(plain.entries)
        live = ormap.keys()
        assert {key_bytes(key) for key in live} == plain.live().keys()
        assert len(ormap) == len(plain.live())
        assert ormap.tombstones == len(plain.entries) - len(plain.live())
        assert ormap.digest() == plain.digest()
    for i in {model.bucket_of(name) for name in NAMES}:
        assert ormap.bucket(i).keys() == plain.bucket(i)


@given(MODEL_DELTA, MODEL_DELTA, MODEL_DELTA)
def test_merging_obeys_its_laws_on_the_whole_state(
    x: dict[bytes, model.Written],
    y: dict[bytes, model.Written],
    z: dict[bytes, model.Written],
) -> None:
    """ORM-09, ORM-10, ORM-13, ORM-14: tombstones and digests included."""
    assert merged(x, x) == merged(x)
    assert merged(x, y) == merged(y, x)
    assert merged(merged_delta(x, y), z) == merged(x, merged_delta(y, z))
    assert merged(merged_delta(x, y), y) == merged(x, y)


def merged(*deltas: dict[bytes, model.Written] | Delta) -> tuple[bytes, bytes]:
    ormap = OrMap("a@h", HLC(HandClock(0)))
    for delta in deltas:
        ormap.merge(as_delta(delta))
    return canonical(ormap), ormap.digest()


def merged_delta(*deltas: dict[bytes, model.Written]) -> Delta:
    ormap = OrMap("a@h", HLC(HandClock(0)))
    for delta in deltas:
        ormap.merge(delta_of(delta))
    return ormap.snapshot()


def as_delta(delta: dict[bytes, model.Written] | Delta) -> Delta:
    return {
        name: entry if isinstance(entry, Entry) else delta_of({name: entry})[name]
        for name, entry in delta.items()
    }

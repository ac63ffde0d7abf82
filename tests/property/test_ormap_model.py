"""The compiled OR-Map agrees with its model, and converges after every schedule."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.ormap import BUCKETS, TOMBSTONE, Delta, Entry, OrMap
from barrel_p2p.wire.crdt_ingest import encode_delta
from barrel_p2p.wire.terms import key_bytes
from tests.models import ormap as model
from tests.models.clock import HandClock
from tests.tools import rounds

NODES = ("a@h", "b@h", "c@h")
KEYS = ("x", ("y", 1), b"z")
NAMES = [key_bytes(key) for key in KEYS]
SUMS = struct.Struct(f">{BUCKETS}Q")

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


class Schedule:
    """Three replicas that write, and a network that loses, repeats and reorders."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.hands = [HandClock(10_000 + 3 * i) for i in range(3)]
        self.maps = [
            OrMap(node, HLC(hands))
            for node, hands in zip(NODES, self.hands, strict=True)
        ]
        self.flying: list[tuple[int, Delta]] = []
        self.written: dict[bytes, tuple[int, int, str]] = {}
        self.newest: dict[bytes, Entry] = {}

    def run(self, steps: int) -> None:
        chance = self.random.random
        for _ in range(steps):
            at = int(chance() * 3)
            dice = chance()
            if dice < 0.55:
                self.write(at, int(chance() * 3), removes=chance() < 0.4)
            elif dice < 0.9:
                self.deliver(at)
            else:
                self.hands[at].shown += int(chance() * 9) - 3  # type: ignore[operator]
                # Far from any tombstone of this schedule: none may go.
                assert self.maps[at].gc_tombstones(9_000) == 0

    def write(self, at: int, key: int, *, removes: bool) -> None:
        ormap = self.maps[at]
        before = ormap.entry(KEYS[key])
        delta = (
            ormap.remove(KEYS[key])
            if removes
            else ormap.add(KEYS[key], len(self.written))
        )
        entry = delta[NAMES[key]]
        latest = rank(entry)
        # A write follows all that its writer had seen, so it can be superseded only
        # by what comes later or ranks higher.
        assert before is None or latest > rank(before)
        assert (ormap.get(KEYS[key]) is None) == removes
        if latest > self.written.get(NAMES[key], (0, 0, "")):
            self.written[NAMES[key]] = latest
            self.newest[NAMES[key]] = entry
        for to in range(3):
            if to != at and self.random.random() < 0.7:
                self.flying.append((to, delta))

    def deliver(self, at: int) -> None:
        if not self.flying:
            return
        pick = int(self.random.random() * len(self.flying))
        to, delta = self.flying[pick]
        if self.random.random() < 0.8:
            self.flying.pop(pick)  # Otherwise it will come again.
        self.take(to, delta)

    def take(self, to: int, delta: Delta) -> None:
        ormap = self.maps[to]
        ormap.absorb_clock(delta)
        for change in ormap.merge(delta):
            # What once lost, such as an add to a tombstone, never comes back.
            assert change.before is None or rank(change.after) > rank(change.before)

    def heal(self) -> None:
        """Two rounds in which neighbours exchange the buckets that differ."""
        for _ in range(2):
            for one, other in ((0, 1), (1, 2), (2, 0)):
                left, right = self.maps[one].digest(), self.maps[other].digest()
                if left == right:
                    continue
                pairs = zip(SUMS.unpack(left), SUMS.unpack(right), strict=True)
                for index, (mine, theirs) in enumerate(pairs):
                    if mine != theirs:
                        self.take(other, self.maps[one].bucket(index))
                        self.take(one, self.maps[other].bucket(index))


@pytest.mark.timeout(600)
def test_replicas_converge_after_every_schedule() -> None:
    """Whatever is lost, repeated or reordered, all end with each key's greatest write.

    No acknowledged add is missing but for one that ranks higher, and no removed key is
    back: the state of every replica is exactly what was written last.
    """
    for seed in range(rounds(100_000, whole=1_000_000)):
        schedule = Schedule(seed)
        schedule.run(10)
        schedule.heal()
        first, second, third = schedule.maps
        state = canonical(first)
        assert state == canonical(second) == canonical(third), seed
        assert first.digest() == second.digest() == third.digest(), seed
        assert first.snapshot() == schedule.newest, seed


@pytest.mark.timeout(600)
def test_all_deltas_in_any_order_make_what_the_snapshots_make() -> None:
    for seed in range(rounds(100_000, whole=1_000_000)):
        rng = random.Random(seed)
        maps = [OrMap(node, HLC(HandClock(7))) for node in NODES]
        deltas: list[Delta] = []
        for _ in range(5):
            ormap, key = maps[int(rng.random() * 3)], KEYS[int(rng.random() * 3)]
            deltas.append(
                ormap.remove(key) if rng.random() < 0.4 else ormap.add(key, len(deltas))
            )
        by_delta, by_snapshot = OrMap("d@h", HLC()), OrMap("d@h", HLC())
        shuffled = deltas + deltas[: int(rng.random() * 5)]
        rng.shuffle(shuffled)
        for delta in shuffled:
            by_delta.merge(delta)
        for ormap in maps:
            by_snapshot.merge(ormap.snapshot())
        assert by_delta.snapshot() == by_snapshot.snapshot(), seed
        assert by_delta.digest() == by_snapshot.digest(), seed

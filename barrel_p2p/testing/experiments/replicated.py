"""Replicated maps and clocks on their own: what they promise after every schedule.

Here is no node and no time but what is made up. Three maps write, and a network loses,
repeats and reorders what they tell each other; a clock is read while somebody sets the
wall clock and peers send any stamp.

From: docs/concepts/replicated-state.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, final

from barrel_p2p.core.hlc import HLC, ISSUED_COUNTER_MAX, Timestamp
from barrel_p2p.errors import ClockDrift
from barrel_p2p.ormap import BUCKETS, Delta, Entry, OrMap
from barrel_p2p.testing.clocks import FakeClock
from barrel_p2p.testing.experiments.outcome import Goal, Job, Outcome, Verdict
from barrel_p2p.wire.crdt_ingest import encode_delta
from barrel_p2p.wire.terms import key_bytes

__all__ = [
    "HEALING_ROUNDS",
    "MapSchedule",
    "clock_run",
    "deltas_run",
    "goals_replicated",
    "judge_none",
    "schedules_run",
]

HEALING_ROUNDS: Final = 2
"""Rounds of comparing after which all maps have to be the same."""

_NODES: Final = ("a@sim", "b@sim", "c@sim")
_KEYS: Final = ("x", ("y", 1), b"z")
_NAMES: Final = tuple(key_bytes(key) for key in _KEYS)
_SUMS: Final = struct.Struct(f">{BUCKETS}Q")
_STEPS: Final = 10
_WRITES: Final = 5
_BATCH: Final = 5_000
_DRIFT_MS: Final = 60
_LEAPS_MS: Final = (0, 0, 0, 0, 1, 1, 2, 17, -3, -50, 5_000, -5_000)


@final
class MapSchedule:
    """Three maps that write, and a network that loses, repeats and reorders.

    Args:
        seed: Of the schedule.

    Attributes:
        maps: One of each node.
        newest: Of each key, the write that ranks highest.
        is_lawful: No write ranked below what its writer had seen, and nothing that had
            lost has come back.
    """

    def __init__(self, seed: int) -> None:
        self.newest: dict[bytes, Entry] = {}
        self.is_lawful = True
        self._chance = Random(seed).random
        self._clocks = [FakeClock(wall_ms=10_000 + 3 * i) for i in range(3)]
        self.maps = [
            OrMap(node, HLC(clock))
            for node, clock in zip(_NODES, self._clocks, strict=True)
        ]
        self._flying: list[tuple[int, Delta]] = []
        self._writes = 0

    def run(self, steps: int = _STEPS) -> None:
        """Write, deliver, and set clocks, as chance has it."""
        for _ in range(steps):
            at = self._below(3)
            dice = self._chance()
            if dice < 0.55:
                self._write(at, self._below(3), removes=self._chance() < 0.4)
            elif dice < 0.9:
                self._deliver()
            else:
                self._clocks[at].step(self._below(9) - 3)
                # Far from any tombstone of this schedule: none may go.
                if self.maps[at].gc_tombstones(9_000):
                    self.is_lawful = False

    def heal(self, rounds: int = HEALING_ROUNDS) -> None:
        """Let neighbours exchange the buckets in which they differ."""
        for _ in range(rounds):
            for one, other in ((0, 1), (1, 2), (2, 0)):
                left, right = self.maps[one].digest(), self.maps[other].digest()
                if left == right:
                    continue
                pairs = zip(_SUMS.unpack(left), _SUMS.unpack(right), strict=True)
                for index, (mine, theirs) in enumerate(pairs):
                    if mine != theirs:
                        self._take(other, self.maps[one].bucket(index))
                        self._take(one, self.maps[other].bucket(index))

    def has_converged(self) -> bool:
        """Whether all hold the same bytes, and exactly what was written last.

        So no acknowledged write is missing but for one that ranks higher, and no key is
        back that was removed.
        """
        states = {_canonical(ormap) for ormap in self.maps}
        digests = {ormap.digest() for ormap in self.maps}
        found = self.maps[0].snapshot()
        return len(states) == len(digests) == 1 and found == self.newest

    def _write(self, at: int, key: int, *, removes: bool) -> None:
        ormap, name = self.maps[at], _KEYS[key]
        before = ormap.entry(name)
        delta = ormap.remove(name) if removes else ormap.add(name, self._writes)
        self._writes += 1
        entry = delta[_NAMES[key]]
        # A write follows all that its writer had seen, so it can be superseded only
        # by what comes later or ranks higher.
        if before is not None and not entry.beats(before):
            self.is_lawful = False
        if (ormap.get(name) is None) != removes:
            self.is_lawful = False
        newest = self.newest.get(_NAMES[key])
        if newest is None or entry.beats(newest):
            self.newest[_NAMES[key]] = entry
        for to in range(3):
            if to != at and self._chance() < 0.7:
                self._flying.append((to, delta))

    def _deliver(self) -> None:
        if not self._flying:
            return
        pick = self._below(len(self._flying))
        to, delta = self._flying[pick]
        if self._chance() < 0.8:
            del self._flying[pick]  # Otherwise it will come again.
        self._take(to, delta)

    def _take(self, to: int, delta: Delta) -> None:
        ormap = self.maps[to]
        ormap.absorb_clock(delta)
        for change in ormap.merge(delta):
            # What once lost, such as an add to a tombstone, never comes back.
            if change.before is not None and not change.after.beats(change.before):
                self.is_lawful = False

    def _below(self, limit: int) -> int:
        return int(self._chance() * limit)


def schedules_run(first: int, after: int, *, rounds: int = HEALING_ROUNDS) -> Outcome:
    """D3: run the schedules of the seeds from ``first`` to before ``after``.

    Args:
        first: Of the seeds.
        after: The seed after the last.
        rounds: Of healing; with fewer, maps are left that differ.
    """

    def holds(seed: int) -> bool:
        schedule = MapSchedule(seed)
        schedule.run()
        schedule.heal(rounds)
        return schedule.is_lawful and schedule.has_converged()

    return _outcome("schedules", first, after, holds)


def deltas_run(first: int, after: int, *, misses: int = 0) -> Outcome:
    """D4: merge deltas in any order, some twice, and compare with the snapshots.

    Args:
        first: Of the seeds.
        after: The seed after the last.
        misses: Deltas that are left out; with one, the two may differ.
    """

    def holds(seed: int) -> bool:
        random = Random(seed)
        chance = random.random
        maps = [OrMap(node, HLC(FakeClock(wall_ms=7))) for node in _NODES]
        deltas: list[Delta] = []
        for _ in range(_WRITES):
            ormap, key = maps[int(chance() * 3)], _KEYS[int(chance() * 3)]
            removes = chance() < 0.4
            deltas.append(ormap.remove(key) if removes else ormap.add(key, len(deltas)))
        deltas += deltas[: int(chance() * _WRITES)]
        random.shuffle(deltas)
        by_delta, by_snapshot = OrMap("d@sim", HLC()), OrMap("d@sim", HLC())
        for delta in deltas[misses:]:
            by_delta.merge(delta)
        for ormap in maps:
            by_snapshot.merge(ormap.snapshot())
        same = by_delta.snapshot() == by_snapshot.snapshot()
        return same and by_delta.digest() == by_snapshot.digest()

    return _outcome("deltas", first, after, holds)


def clock_run(seed: int, events: int, *, slack_ms: int = 0) -> Outcome:
    """D5: read one clock while its wall clock leaps and peers send any stamp.

    Args:
        seed: Of the run.
        events: Readings and stamps of peers.
        slack_ms: How much further than the drift a peer may lead it; below 0, what is
            right fails as well.
    """
    random = Random(seed)
    clock = FakeClock(wall_ms=100_000)
    hlc = HLC(clock, max_drift_ms=_DRIFT_MS)
    last, refused, failed = Timestamp(), 0, 0
    for _ in range(events):
        clock.step(max(random.choice(_LEAPS_MS), -clock.wall_ms()))
        wall_ms = clock.wall_ms()
        peer = None
        if random.random() < 0.5:
            ahead_ms = random.randint(-2 * _DRIFT_MS, 2 * _DRIFT_MS)
            counter = random.choice((0, 3, ISSUED_COUNTER_MAX, (1 << 32) - 1))
            peer = Timestamp(max(wall_ms + ahead_ms, 0), counter)
        try:
            stamp = hlc.now() if peer is None else hlc.update(peer)
        except ClockDrift:
            refused += 1
            failed += peer is None or not _is_beyond(peer, wall_ms)
            continue
        failed += not last < stamp
        failed += peer is not None and (not peer < stamp or _is_beyond(peer, wall_ms))
        # Where it leads further, the wall clock was set back: it goes on from there.
        failed += stamp.wall_ms > max(wall_ms + _DRIFT_MS + slack_ms, last.wall_ms + 1)
        last = stamp
    failed += refused != hlc.drift_refused
    return Outcome(
        "clock",
        seed,
        {"failed": failed, "seed": seed if failed else 0, "refused": refused},
        events=events,
    )


def judge_none(outcomes: Sequence[Outcome]) -> Verdict:
    """None may fail. ``replay`` is the first seed that did."""
    failed = sum(outcome.figures["failed"] for outcome in outcomes)
    seeds = [o.figures["seed"] for o in outcomes if o.figures["failed"]]
    return Verdict(failed, not failed, {"replay": seeds[0]} if seeds else {})


def goals_replicated(schedules: int, events: int) -> tuple[Goal, ...]:
    """D3, D4 and D5.

    Args:
        schedules: Of D3, and cases of D4.
        events: Of D5, on ten clocks.
    """
    return (
        Goal(
            "D3",
            "Maps are the same after every schedule, and miss no write.",
            len(_NODES),
            schedules,
            "schedules that fail: 0",
            _batches(schedules_run, schedules),
            judge_none,
        ),
        Goal(
            "D4",
            "All deltas in any order make what the snapshots make.",
            len(_NODES),
            schedules,
            "cases that fail: 0",
            _batches(deltas_run, schedules),
            judge_none,
        ),
        Goal(
            "D5",
            "Stamps grow and stay near the wall clock, whatever that and peers say.",
            1,
            10,
            "stamps that fail: 0",
            tuple(
                Job(clock_run, {"seed": seed, "events": events // 10})
                for seed in range(1, 11)
            ),
            judge_none,
        ),
    )


def _batches(call: Callable[..., Outcome], count: int) -> tuple[Job, ...]:
    return tuple(
        Job(call, {"first": first, "after": min(first + _BATCH, count)})
        for first in range(0, count, _BATCH)
    )


def _outcome(
    case: str, first: int, after: int, holds: Callable[[int], bool]
) -> Outcome:
    failed = [seed for seed in range(first, after) if not holds(seed)]
    figures = {"failed": len(failed), "seed": failed[0] if failed else 0}
    return Outcome(case, first, figures, events=after - first)


def _canonical(ormap: OrMap) -> bytes:
    """The whole state, tombstones included, in one order."""
    return b"".join(encode_delta(dict(sorted(ormap.snapshot().items()))))


def _is_beyond(peer: Timestamp, wall_ms: int) -> bool:
    """Whether the stamp that follows a peer's leads too far."""
    carries = peer.counter >= ISSUED_COUNTER_MAX
    return peer.wall_ms + carries > wall_ms + _DRIFT_MS

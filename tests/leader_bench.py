"""A leader machine with a hand on its clock, and what it told whom."""

from __future__ import annotations

from typing import Any

from barrel_p2p.core.effects import Publish, SetTimer
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.core.members import MemberDead, MemberGone, MemberUp
from barrel_p2p.core.ormap import Change, Delta, OrMap
from barrel_p2p.core.peers import PeerDown, PeerUp
from barrel_p2p.core.terms import Pid
from barrel_p2p.replica.store import ReplicatedStore, Source
from barrel_p2p.services.leader_events import Elected, LeaderEvent, Revoked
from barrel_p2p.services.leader_inputs import (
    CatchUp,
    Caught,
    Changed,
    LeaderEffect,
    Notify,
    Open,
    Paused,
    ProcessEnded,
    Stand,
    Tell,
    Withdraw,
)
from barrel_p2p.services.leader_machine import LeaderMachine
from barrel_p2p.wire.crdt_ingest import encode_delta

__all__ = ["SETTLE_MS", "LeaderBench", "connect"]

SETTLE_MS = 6_000


class LeaderBench:
    """One machine, its store, and all that it told."""

    def __init__(
        self, node: str = "me@h", creation: int = 5, *, waits: bool = False
    ) -> None:
        self.node = node
        self.creation = creation
        self.now = 1_000_000
        self.wall = 1_800_000_000_000
        hlc = HLC(self, max_drift_ms=60_000)
        self.machine = LeaderMachine(OrMap(node, hlc), creation, settle_ms=SETTLE_MS)
        self.store = ReplicatedStore(
            self.machine.entries,
            leaf=self.machine.takes,
            may_write=self.machine.may_write,
            on_change=self._changed,
            clock=self,
        )
        self.timers: dict[Any, int] = {}
        self.events: list[LeaderEvent] = []
        self.notes: list[tuple[Pid, LeaderEvent]] = []
        self.told: list[Delta] = []
        self.catch_ups = 0
        self.feed(Open(waits))

    def wall_ms(self) -> int:
        return self.wall

    def pid(self, number: int = 1) -> Pid:
        return Pid(self.node, number, self.creation)

    def feed(self, event: object) -> list[LeaderEvent]:
        """What it published about ``event``."""
        before = len(self.events)
        for effect in self.machine.handle(event, now_ms=self.now):
            self._perform(effect)
        return self.events[before:]

    def stand(
        self, name: object = "n", number: int = 1, priority: int = 0
    ) -> list[LeaderEvent]:
        return self.feed(Stand(name, self.pid(number), priority))

    def withdraw(self, name: object = "n") -> list[LeaderEvent]:
        return self.feed(Withdraw(name))

    def ended(self, number: int = 1) -> list[LeaderEvent]:
        return self.feed(ProcessEnded(self.pid(number)))

    def up(self, node: str, creation: int = 5) -> list[LeaderEvent]:
        return self.feed(MemberUp(node, creation))

    def dead(self, node: str, creation: int = 5) -> list[LeaderEvent]:
        return self.feed(MemberDead(node, creation, "unreachable"))

    def gone(self, node: str, creation: int = 5) -> list[LeaderEvent]:
        return self.feed(MemberGone(node, creation))

    def peer(self, node: str) -> list[LeaderEvent]:
        return self.feed(PeerUp(node))

    def no_peer(self, node: str) -> list[LeaderEvent]:
        return self.feed(PeerDown(node, "lost"))

    def caught(self) -> list[LeaderEvent]:
        return self.feed(Caught())

    def paused(self) -> list[LeaderEvent]:
        return self.feed(Paused())

    def take(self, delta: Delta | bytes) -> list[LeaderEvent]:
        """What it published about a delta of somebody else's."""
        before = len(self.events)
        self.store.replica_merge_delta("leader", delta)  # type: ignore[arg-type]
        return self.events[before:]

    def take_all(self, other: LeaderBench) -> list[LeaderEvent]:
        """The same about all that another one holds."""
        before = len(self.events)
        for chunk in encode_delta(other.machine.entries.snapshot()):
            self.store.replica_apply_full_sync("leader", chunk)  # type: ignore[arg-type]
        return self.events[before:]

    def wait(self, ms: int) -> list[LeaderEvent]:
        before, until = len(self.events), self.now + ms
        while self.timers and min(self.timers.values()) <= until:
            key = min(self.timers, key=lambda k: (self.timers[k], str(k)))
            self._pass(self.timers.pop(key) - self.now)
            self.feed(TimerFired(key))
        self._pass(until - self.now)
        return self.events[before:]

    @property
    def fence(self) -> int | None:
        """Of the name that all these tests are about."""
        return self.machine.fence("n")

    @property
    def leader(self) -> str | None:
        found = self.machine.leader("n")
        return None if found is None else found.node

    def elected(self) -> list[int]:
        """All its fences, in order."""
        return [event.fence for event in self.events if isinstance(event, Elected)]

    def revoked(self) -> int:
        return sum(isinstance(event, Revoked) for event in self.events)

    def _pass(self, ms: int) -> None:
        self.now += ms
        self.wall += ms

    def _changed(self, changes: list[Change], source: Source) -> None:
        self.feed(Changed(changes))

    def _perform(self, effect: LeaderEffect) -> None:
        match effect:
            case Publish(event):
                self.events.append(event)  # type: ignore[arg-type]
            case Notify(pid, event):
                self.notes.append((pid, event))
            case Tell(delta):
                self.told.append(delta)
            case SetTimer(key, delay_ms):
                self.timers[key] = self.now + delay_ms
            case CatchUp():
                self.catch_ups += 1
            case _:
                raise AssertionError(effect)


def connect(*benches: LeaderBench) -> None:
    """Each one is a member for the others."""
    for one in benches:
        for other in benches:
            if other is not one:
                one.up(other.node, other.creation)

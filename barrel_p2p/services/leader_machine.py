"""Who leads a name: decided by each node for itself, from the same candidates.

The map holds two kinds of keys. Who would lead stands under (name, node), which nobody
but that node writes; who leads, or led last, stands under (name,), which whoever comes
to lead writes anew::

    (name, node): (creation, pid, priority)     a candidacy
    (name,):      (creation, pid)               the latest term

Of the candidates whose nodes are members the one with the greatest priority leads, then
the one with the smallest node name. The stamp of the entry with which it begins its
term is its fence: above every term that its node has heard of, for its clock has taken
their stamps in, and those of everything else that came by this map.

A later term ends an earlier one: whoever finds one that is not its own leads no more.
If it should lead all the same, it takes another one soon, or what it guards would hold
its writes for stale for ever.

Terms are not taken by a node that does not know its cluster: at the start, when its
first peer is there, and after a pause of its own, it first compares what it holds with
somebody, or waits for a lease if there is nobody.

Death is no write. A dead node's candidates are hidden here, by everybody for himself,
and shown again if the verdict was wrong; when the node is gone they are dropped without
a tombstone, and not taken again from those who drop them later.

Bounded by the limits in ``leader_inputs``.

Source: Barrel P2P documentation, "Leader election and singletons"; Kleppmann, "How to
do distributed locking", 2016 (fencing tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from barrel_p2p.core.effects import Publish, SetTimer
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.core.members import MemberDead, MemberGone, MemberSuspected, MemberUp
from barrel_p2p.core.ormap import OrMap
from barrel_p2p.core.peers import PeerDown, PeerUp
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import AlreadyCandidate, Busy, ClockDrift, InvalidValue
from barrel_p2p.services.leader_events import Candidate, Elected, Revoked
from barrel_p2p.services.leader_inputs import (
    CANDIDATES_PER_NODE_MAX,
    CLAIM_MS,
    CLAIMS_MAX,
    HIDDEN_MS,
    PRIORITY_MAX,
    RETAKE_MS,
    RETAKE_MS_MAX,
    TERM_MS,
    TERMS_MAX,
    TOMBSTONES_MAX,
    CatchUp,
    Caught,
    Changed,
    LeaderEffect,
    LeaderStats,
    Notify,
    Open,
    Paused,
    ProcessEnded,
    Stand,
    Tell,
    Withdraw,
)
from barrel_p2p.services.leader_lives import Lives
from barrel_p2p.services.leader_table import (
    Own,
    Race,
    Standing,
    Table,
    is_valid,
    packed,
    term_of,
)
from barrel_p2p.services.registry_index import Slot, slot_of
from barrel_p2p.wire.crdt_ingest import entry_bytes

__all__ = ["LeaderMachine"]

_SETTLE: Final = "settle"
_RETAKE: Final = "retake"
_CLAIM: Final = "claim"
_SWEEP: Final = "sweep"
_CATCH_UP: Final = "catch_up"
_SWEEP_MS: Final = 10_000
_CATCH_UP_MS: Final = 500
_STEADY_MS: Final = 10_000  # A term that lasted so long was in no quarrel.
_JUST_MS: Final = 200  # Tombstones so young may still be on their way.


class LeaderMachine:
    """The elections of one node. It owns the map and decides what stands in it.

    Args:
        entries: The map, which others only merge into.
        creation: This life of the node.
        settle_ms: How long to wait for somebody to compare with.

    Attributes:
        node: This node's name.
        table: Who stands for what.
        stats: What it has counted.
    """

    def __init__(self, entries: OrMap, creation: int, *, settle_ms: int) -> None:
        self.node = entries.node
        self.entries = entries
        self.table = Table()
        self.stats = LeaderStats()
        self._creation = creation
        self._settle_ms = settle_ms
        self._settled = True
        self._peers: dict[str, None] = {}
        self._lives = Lives(self.node, creation)
        self._own: dict[Slot, Race] = {}
        self._slots_of: dict[Pid, dict[Slot, None]] = {}
        self._terms: dict[Slot, None] = {}  # races with a term
        self._claims: dict[Slot, object] = {}  # names of ours that others wrote to
        self._armed: dict[str, None] = {}  # timers
        self._out: list[LeaderEffect] = []
        self._inputs: dict[type, Callable[[Any, int], None]] = {
            Open: self._on_open,
            Stand: self._on_stand,
            Withdraw: self._on_withdraw,
            ProcessEnded: self._on_process_ended,
            Changed: self._on_changed,
            Caught: self._on_caught,
            Paused: self._on_paused,
            MemberUp: self._on_member_up,
            MemberDead: self._on_member_dead,
            MemberGone: self._on_member_gone,
            MemberSuspected: self._on_member_suspected,
            PeerUp: self._on_peer_up,
            PeerDown: self._on_peer_down,
            TimerFired: self._on_timer,
        }
        self._timers: dict[object, Callable[[int], None]] = {
            _SETTLE: self._settle,
            _RETAKE: self._retake,
            _CLAIM: self._claim,
            _SWEEP: self._sweep,
            _CATCH_UP: self._catch_up,
        }

    def handle(self, event: object, *, now_ms: int) -> list[LeaderEffect]:
        """Take one input and return what is to be done about it, in order.

        Raises:
            AlreadyCandidate: This node has a candidate for that name.
            InvalidValue: The priority is out of range.
            NotEncodable: The name is no key term.
            Busy: This node has ``CANDIDATES_PER_NODE_MAX`` candidates.
            ClockDrift: The wall clock was set back too far for anything to be stamped.

        After an error nothing has changed.
        """
        out = self._out = []
        self._inputs[type(event)](event, now_ms)
        return out

    # Looking.

    @property
    def is_settled(self) -> bool:
        """Whether it would take a term now."""
        return self._settled

    def leader(self, name: object) -> Candidate | None:
        """Who leads ``name``, as far as this node knows."""
        race = self.table.races.get(slot_of(name))
        best = None if race is None else race.best()
        if race is None or best is None:
            return None
        if best.node == self.node and (race.own is None or race.own.stamp is None):
            return None  # It will, but has no term yet.
        return Candidate(best.node, best.pid, best.priority)

    def fence(self, name: object) -> int | None:
        """The fence of this node's term; None while it does not lead."""
        race = self._own.get(slot_of(name))
        own = None if race is None else race.own
        return None if own is None or own.stamp is None else own.fence

    def candidates(self, name: object) -> list[Candidate]:
        """Who would lead ``name``, the best one first."""
        race = self.table.races.get(slot_of(name))
        return [] if race is None else race.candidates()

    def high_water(self, name: object) -> int | None:
        """The greatest fence of ``name`` that was heard of; None for none."""
        entry = self.entries.entry((name,))
        return None if entry is None else packed(entry.stamp, entry.node)

    def names(self) -> list[object]:
        """The names for which somebody stands."""
        return [race.name for race in self.table.races.values() if race.best()]

    def leading(self) -> list[object]:
        """The names that this node leads."""
        return [
            race.name
            for race in self._own.values()
            if race.own is not None and race.own.stamp is not None
        ]

    # What others may write.

    def may_write(self, key: object, node: str) -> bool:
        """Whether ``node`` may write ``key``: a term, or its own candidacy."""
        if type(key) is not tuple:
            return False
        if len(key) == 1:
            return True
        if len(key) != 2 or key[1] != node:
            return False
        return not self._lives.is_refused(node)

    def takes(self, key: Any, value: Any) -> bool:
        """Whether ``value`` is a term, or a candidacy, that may lie under ``key``."""
        if not is_valid(key, value):
            return False
        slot = slot_of(key[0])
        if len(key) == 1:
            full = slot not in self._terms and len(self._terms) >= TERMS_MAX
            self.stats.refused += full
            return not full
        node, creation = key[1], value[0]
        if node == self.node:
            full = len(self._claims) >= CLAIMS_MAX
        elif creation < self._lives.life(node):
            return False  # A life that is over.
        else:
            race = self.table.races.get(slot)
            is_known = race is not None and node in race.standing
            full = not is_known and self.table.is_full(node)
        self.stats.refused += full
        return not full

    # This node's candidates.

    def _on_open(self, event: Open, now_ms: int) -> None:
        if event.waits:
            self._unsettle(self._settle_ms)

    def _on_stand(self, event: Stand, now_ms: int) -> None:
        name, pid, priority = event.name, event.pid, event.priority
        slot = slot_of(name)
        race = self._own.get(slot)
        if race is not None and race.own is not None:
            raise AlreadyCandidate(
                f"{race.own.pid!r} of {self.node} is a candidate for {name!r:.200}",
                hint="a node has one candidate a name: resign first",
            )
        if type(priority) is not int or abs(priority) > PRIORITY_MAX:
            raise InvalidValue(
                f"priority={priority!r:.40} is no integer from -{PRIORITY_MAX} to"
                f" {PRIORITY_MAX}"
            )
        if self.table.is_full(self.node):
            raise Busy(
                f"{self.node} has CANDIDATES_PER_NODE_MAX={CANDIDATES_PER_NODE_MAX}"
                " candidates"
            )
        key, value = (name, self.node), (self._creation, pid, priority)
        entry_bytes(key, value)  # Raises if it could not travel.
        delta = self.entries.add(key, value)
        race = self._own[slot] = self.table.race(slot, name)
        race.own = Own(pid, priority)
        self._slots_of.setdefault(pid, {})[slot] = None
        standing = Standing(self.node, self._creation, pid, priority)
        standing.shown = True
        self.table.hold(race, standing)
        self._out.append(Tell(delta))
        self._judge(race, now_ms, notify=event.notify)

    def _on_withdraw(self, event: Withdraw, now_ms: int) -> None:
        race = self._own.get(slot_of(event.name))
        if race is not None and race.own is not None:
            slots = self._slots_of[race.own.pid]
            del slots[race.slot]
            if not slots:
                del self._slots_of[race.own.pid]
            self._withdraw(race, race.own)

    def _on_process_ended(self, event: ProcessEnded, now_ms: int) -> None:
        for slot in self._slots_of.pop(event.pid, {}):
            race = self._own[slot]
            assert race.own is not None
            self._withdraw(race, race.own)

    def _withdraw(self, race: Race, own: Own) -> None:
        self._bury(race.name)
        if own.stamp is not None:
            # Whoever asked for it knows; it is the others who are told.
            self._end_term(own)
            self._out.append(Publish(Revoked(race.name)))
        race.own = None
        del self._own[race.slot]
        self.table.release(race, self.node)

    # Terms.

    def _judge(self, race: Race, now_ms: int, *, notify: bool = True) -> None:
        """Take a term, or end ours, as the candidates have it."""
        own = race.own
        if own is None:
            return
        best = race.best()
        if best is None or best.node != self.node:
            if own.stamp is not None:
                self._revoke(race, own)
            return
        if own.stamp is not None or not self._settled:
            return
        wait_ms = own.not_before_ms - now_ms
        if wait_ms > 0:
            self._arm(_RETAKE, wait_ms)
        else:
            self._take(race, own, now_ms, notify=notify)

    def _take(self, race: Race, own: Own, now_ms: int, *, notify: bool) -> None:
        try:
            delta = term_of(self.entries, race.name, (self._creation, own.pid))
            stamp = next(iter(delta.values())).stamp
            fence = stamp.pack(self.node)
        except (ClockDrift, InvalidValue):
            # Our wall clock is so wrong that no stamp of it can follow, or be packed.
            self.stats.drifted += 1
            own.not_before_ms = now_ms + RETAKE_MS_MAX
            self._arm(_RETAKE, RETAKE_MS_MAX)
            return
        race.has_term = True
        self._terms[race.slot] = None
        own.stamp, own.fence, own.taken_ms = stamp, fence, now_ms
        self.stats.elected += 1
        elected = Elected(race.name, fence)
        self._out.append(Tell(delta))
        if notify:
            self._out.append(Notify(own.pid, elected))
        self._out.append(Publish(elected))
        self._arm(_SWEEP, _SWEEP_MS)

    def _revoke(self, race: Race, own: Own) -> None:
        self._end_term(own)
        revoked = Revoked(race.name)
        self._out.append(Notify(own.pid, revoked))
        self._out.append(Publish(revoked))

    def _end_term(self, own: Own) -> None:
        self.stats.revoked += 1
        own.stamp, own.fence = None, 0

    def _overtaken(self, race: Race, own: Own, now_ms: int) -> None:
        self.stats.overtaken += 1
        self._revoke(race, own)
        if now_ms - own.taken_ms > _STEADY_MS:
            own.retake_ms = RETAKE_MS
        own.not_before_ms = now_ms + own.retake_ms
        own.retake_ms = min(2 * own.retake_ms, RETAKE_MS_MAX)

    def _retake(self, now_ms: int) -> None:
        self._judge_all(self._own.values(), now_ms)

    def _judge_all(self, races: Iterable[Race], now_ms: int) -> None:
        for race in list(races):
            self._judge(race, now_ms)

    # Whether we know our cluster.

    def _unsettle(self, delay_ms: int) -> None:
        self._settled = False
        self._armed[_SETTLE] = None
        self._out.append(SetTimer(_SETTLE, delay_ms))

    def _settle(self, now_ms: int) -> None:
        if not self._settled:
            self._settled = True
            self._judge_all(self._own.values(), now_ms)

    def _on_caught(self, event: Caught, now_ms: int) -> None:
        self._settle(now_ms)

    def _on_paused(self, event: Paused, now_ms: int) -> None:
        self.stats.pauses += 1
        for race in list(self._own.values()):
            if race.own is not None and race.own.stamp is not None:
                self._revoke(race, race.own)
        if self._peers or len(self._lives) > 1:
            self._unsettle(self._settle_ms)
            self._out.append(CatchUp())
        else:
            # Nobody was there to take over, but who led has yet to hear of it.
            self._unsettle(RETAKE_MS)

    def _on_peer_up(self, event: PeerUp, now_ms: int) -> None:
        if not self._peers:
            self._unsettle(self._settle_ms)
        self._peers[event.node] = None

    def _on_peer_down(self, event: PeerDown, now_ms: int) -> None:
        self._peers.pop(event.node, None)

    # What others wrote.

    def _on_changed(self, event: Changed, now_ms: int) -> None:
        touched: dict[Slot, Race] = {}
        for change in event.changes:
            after = change.after
            key: Any = after.key
            slot = slot_of(key[0])
            if len(key) == 1:
                self._on_term(slot, key[0], after, now_ms)
            elif key[1] != self.node:
                self._on_candidacy(slot, key, after, now_ms)
            elif not (after.is_tombstone and slot not in self._own):
                # Where nothing of ours is, a tombstone is right, whoever wrote it.
                self._claims[slot] = key[0]
            race = self.table.races.get(slot)
            if race is not None:
                touched[slot] = race
        if self._claims and _CLAIM not in self._armed:
            self._claim(now_ms)
        self._judge_all(touched.values(), now_ms)
        self._forget_tombstones()
        if touched:
            self._arm(_SWEEP, _SWEEP_MS)

    def _on_term(self, slot: Slot, name: object, after: Any, now_ms: int) -> None:
        if after.is_tombstone:
            self._drop_term(slot)
        else:
            self.table.race(slot, name).has_term = True
            self._terms[slot] = None
        race = self.table.races.get(slot)
        own = None if race is None else race.own
        if race is not None and own is not None and own.stamp is not None:
            self._overtaken(race, own, now_ms)

    def _on_candidacy(self, slot: Slot, key: Any, after: Any, now_ms: int) -> None:
        name, node = key
        if after.is_tombstone:
            race = self.table.races.get(slot)
            if race is not None:
                self.table.release(race, node)
            return
        creation, pid, priority = after.value
        race = self.table.race(slot, name)
        standing = Standing(node, creation, pid, priority)
        standing.shown = self._lives.life(node) == creation
        standing.since_ms = now_ms
        self.table.hold(race, standing)

    # Our own keys, when others wrote to them.

    def _bury(self, name: object) -> None:
        try:
            delta = self.entries.remove((name, self.node))
        except ClockDrift:
            self._claim_later(name)
            return
        self._out.append(Tell(delta))
        self._forget_tombstones()

    def _claim_later(self, name: object) -> None:
        self._claims[slot_of(name)] = name
        self._arm(_CLAIM, CLAIM_MS)

    def _claim(self, now_ms: int) -> None:
        claims, self._claims = self._claims, {}
        for slot, name in claims.items():
            self.stats.reasserted += 1
            race = self._own.get(slot)
            if race is None or race.own is None:
                self._bury(name)
                continue
            value = (self._creation, race.own.pid, race.own.priority)
            try:
                self._out.append(Tell(self.entries.add((name, self.node), value)))
            except ClockDrift:
                self._claim_later(name)
        if claims:
            self._arm(_CLAIM, CLAIM_MS)

    # Who is there.

    def _on_member_up(self, event: MemberUp, now_ms: int) -> None:
        node, creation = event.node, event.creation
        if node == self.node:
            return
        if self._lives.up(node, creation):
            self._arm(_CATCH_UP, _CATCH_UP_MS)
        for race, standing in self.table.of(node):
            if standing.creation < creation:
                self._purge(race, node)
            elif standing.creation == creation:
                standing.shown = True
                self._judge(race, now_ms)

    def _on_member_dead(self, event: MemberDead, now_ms: int) -> None:
        node = event.node
        if not self._lives.dead(node, event.creation, event.reason):
            return
        for race, standing in self.table.of(node):
            standing.shown = False
            standing.since_ms = now_ms
            self._judge(race, now_ms)

    def _on_member_gone(self, event: MemberGone, now_ms: int) -> None:
        node = event.node
        if not self._lives.gone(node, event.creation):
            return
        for race, standing in self.table.of(node):
            if standing.creation <= event.creation:
                self._purge(race, node)
        if self._lives.should_refuse(node):
            self._refuse(node, now_ms)

    def _on_member_suspected(self, event: MemberSuspected, now_ms: int) -> None:
        # A suspect still leads.
        pass

    def _purge(self, race: Race, node: str) -> None:
        self.stats.purged += 1
        self.entries.forget((race.name, node))
        self.table.release(race, node)

    def _refuse(self, node: str, now_ms: int) -> None:
        self._lives.refuse(node, now_ms)
        self._arm(_SWEEP, _SWEEP_MS)

    # Time.

    def _on_timer(self, event: TimerFired, now_ms: int) -> None:
        self._armed.pop(str(event.key), None)
        self._timers[event.key](now_ms)

    def _arm(self, key: str, delay_ms: int) -> None:
        if key not in self._armed:
            self._armed[key] = None
            self._out.append(SetTimer(key, delay_ms))

    def _catch_up(self, now_ms: int) -> None:
        self._out.append(CatchUp())

    def _sweep(self, now_ms: int) -> None:
        refuses = self._lives.expire(now_ms)
        unknown = [n for n in self.table.nodes() if self._lives.is_unknown(n)]
        for node in unknown:
            held = self.table.of(node)
            if max(standing.since_ms for _, standing in held) + HIDDEN_MS <= now_ms:
                for race, _ in held:
                    self._purge(race, node)
                self._refuse(node, now_ms)
        self._forget_terms()
        if refuses or unknown or self._terms:
            self._arm(_SWEEP, _SWEEP_MS)

    def _forget_terms(self) -> None:
        """Remove the terms of names for which nobody stands: one node, for all."""
        if not self._settled or self._lives.first() != self.node:
            return
        over_ms = self.entries.clock.now().wall_ms - TERM_MS
        for slot in list(self._terms):
            race = self.table.races[slot]
            entry = self.entries.entry((race.name,))
            if race.standing or entry is None or entry.wall_ms > over_ms:
                continue
            try:
                self._out.append(Tell(self.entries.remove((race.name,))))
            except ClockDrift:
                return
            self._drop_term(slot)

    def _drop_term(self, slot: Slot) -> None:
        if slot in self._terms:
            del self._terms[slot]
            race = self.table.races[slot]
            race.has_term = False
            self.table.tidy(race)

    def _forget_tombstones(self) -> None:
        if self.entries.tombstones <= TOMBSTONES_MAX:
            return
        clock = self.entries.clock
        now_ms = clock.now().wall_ms
        for cutoff_ms in (now_ms - _JUST_MS, now_ms, now_ms + clock.max_drift_ms + 1):
            self.entries.gc_tombstones(max(cutoff_ms, 0))
            if self.entries.tombstones <= TOMBSTONES_MAX // 2:
                return

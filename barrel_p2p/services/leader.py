"""Leaders of names, as programs on a node stand for them and learn who leads.

Runs ``LeaderMachine`` over one replica: the map's merges, the members' verdicts and the
ends of processes in; writes, events and messages to candidates out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Hashable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.clock import Clock
from barrel_p2p.core.effects import Publish, SetTimer
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.core.members import MemberDead, MemberEvent, MemberUp
from barrel_p2p.core.ormap import Change, OrMap
from barrel_p2p.core.peers import PeerDown, PeerUp
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import (
    BarrelError,
    Busy,
    InvalidValue,
    NoLeader,
    NoProc,
    NotLeader,
    NotStarted,
)
from barrel_p2p.replica.driver import ReplicaHandle, Replicas
from barrel_p2p.replica.machine import Synced
from barrel_p2p.replica.store import ReplicatedStore, Source
from barrel_p2p.runtime.event_stream import EventStream
from barrel_p2p.runtime.pauses import PauseWatch
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.subscriptions import Filter, Subscriptions
from barrel_p2p.services.leader_events import (
    Candidate,
    Elected,
    LeaderEvent,
    Revoked,
    Role,
)
from barrel_p2p.services.leader_inputs import (
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
from barrel_p2p.services.leader_machine import LeaderMachine
from barrel_p2p.services.leadership import Term, terms
from barrel_p2p.services.registry_index import Slot, slot_of

__all__ = ["REPLICA_NAME", "LeaderListener", "Leaders", "Seat"]

REPLICA_NAME: Final = "leader"
"""The replica that carries it."""

TOMBSTONE_TTL_MS: Final = 300_000
"""How long a withdrawal is remembered, unless there are too many of them."""

_log = logging.getLogger("barrel_p2p.services")

type LeaderListener = Callable[[LeaderEvent], None]


class Seat(Protocol):
    """A candidate that is told by calls, where another one gets messages.

    Attributes:
        abandoned: Nobody can hear it any more; whoever stands next takes its place.
    """

    abandoned: bool

    def hear(self, event: LeaderEvent) -> None:
        """It was elected, or revoked."""
        ...

    def end(self) -> None:
        """It stands no more: it has resigned, ended, or its node stops."""
        ...


class _Campaign(NamedTuple):
    name: object
    pid: Pid
    priority: int
    seat: Seat | None


class Leaders:
    """Who leads what, from where this node stands.

    Args:
        node: This node's name.
        creation: This life of it.
        replicas: Carry the map.
        processes: Whose ends are watched.
        clock: Both kinds of time.
        hlc: Stamps what is written here; its stamps are the fences.
        pauses: Tells when this node stood still.
        pause_ms: For how long it may, unnoticed by others.
        settle_ms: How long a node waits to hear of others before it leads.

    Attributes:
        processes: The same.
        pause_ms: The same.
    """

    def __init__(
        self,
        node: str,
        creation: int,
        *,
        replicas: Replicas,
        processes: Processes,
        clock: Clock,
        hlc: HLC,
        pauses: PauseWatch,
        pause_ms: int,
        settle_ms: int,
    ) -> None:
        self.processes = processes
        self._node = node
        self._creation = creation
        self._replicas = replicas
        self._clock = clock
        self._pauses = pauses
        self.pause_ms = pause_ms
        self._settle_ms = settle_ms
        self._entries = OrMap(node, hlc)
        self._machine = self._new_machine()
        self._store = ReplicatedStore(
            self._entries,
            leaf=lambda key, value: self._machine.takes(key, value),
            may_write=lambda key, author: self._machine.may_write(key, author),
            on_change=self._on_change,
            clock=clock,
        )
        self._handle: ReplicaHandle | None = None
        self._campaigns: dict[Slot, _Campaign] = {}
        self._slots_of: dict[int, dict[Slot, None]] = {}  # by number of the process
        self._leading: dict[Slot, object] = {}  # what was told, and not taken back
        self._members: dict[str, int] = {}
        self._peers: dict[str, None] = {}
        self._effects: deque[LeaderEffect] = deque()
        self._performing = False
        self._restarting = False
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}
        self._listeners: list[LeaderListener] = []
        self._subscriptions = Subscriptions(processes.switch)
        self._forget_synced: Callable[[], None] | None = None
        self._forget_pauses: Callable[[], None] | None = None
        self._complaints = Complaints(_log)
        processes.listen(self._process_ended)

    # Its life.

    def start(self, members: Mapping[str, int], *, waits: bool) -> None:
        """Begin to replicate.

        Args:
            members: The creations of those who are members now. Further changes are to
                be told to ``member_changed``, and those of peers to ``peer_changed``.
            waits: Whether others may be there that this node has yet to hear of.
        """
        self._feed(Open(waits))
        for node, creation in members.items():
            self.member_changed(MemberUp(node, creation))
        self._forget_synced = self._replicas.on_synced(self._synced)
        self._handle = self._replicas.start(
            REPLICA_NAME, self._store, tombstone_ttl_ms=TOMBSTONE_TTL_MS
        )

    def close(self) -> None:
        """End all terms, and take nothing back: leaving does that. Idempotent."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        handle.stop()
        if self._forget_synced is not None:
            self._forget_synced()
        for slot in list(self._leading):
            self._revoke_told(slot)
        campaigns, self._campaigns = self._campaigns, {}
        self._slots_of.clear()
        for campaign in campaigns.values():
            if campaign.seat is not None:
                campaign.seat.end()
        self._watch_pauses()
        self._cancel_timers()
        self._subscriptions.close()

    def restart(self) -> None:
        """Begin anew with the candidates that there are; what led is told ``Revoked``.

        The node does so itself if deciding has failed: a defect must neither end the
        room nor leave two leaders behind.
        """
        self._restarting = True
        try:
            self._cancel_timers()
            self._effects.clear()
            for slot in list(self._leading):
                self._revoke_told(slot)
            self._machine = self._new_machine()
            for node, creation in self._members.items():
                self._feed(MemberUp(node, creation))
            for peer in self._peers:
                self._feed(PeerUp(peer))
            held = self._entries.snapshot()
            self._feed(Changed([Change(k, None, entry) for k, entry in held.items()]))
            for campaign in list(self._campaigns.values()):
                name, pid, priority, _ = campaign
                self._feed(Stand(name, pid, priority, notify=True))
            if self._handle is not None and self._peers:
                self._handle.catch_up()
        finally:
            self._restarting = False

    def member_changed(self, event: MemberEvent) -> None:
        """A member came, or died."""
        if isinstance(event, MemberUp):
            self._members[event.node] = event.creation
        elif isinstance(event, MemberDead):
            self._members.pop(event.node, None)
        self._feed(event)

    def peer_changed(self, event: object) -> None:
        """A neighbour came, or went. Other events mean nothing."""
        if isinstance(event, PeerUp):
            self._peers[event.node] = None
            self._feed(event)
        elif isinstance(event, PeerDown):
            self._peers.pop(event.node, None)
            self._feed(event)

    def peer_known(self, peer: str) -> None:
        """``peer`` is a neighbour already: ``start`` compares with it."""
        if peer not in self._peers:
            self.peer_changed(PeerUp(peer))

    # Standing.

    async def lead(self, name: object, pid: Pid, *, priority: int = 0) -> Role:
        """Let ``pid`` be a candidate for ``name``, until it resigns or ends.

        Args:
            name: A key term.
            pid: A process of this node. Later changes reach it as ``Elected`` and
                ``Revoked``.
            priority: The greatest leads, -``PRIORITY_MAX`` to ``PRIORITY_MAX``.

        Returns:
            Its role at first, of which no message is sent.

        Raises:
            AlreadyCandidate: This node has a candidate for ``name``.
            NoProc: ``pid`` has ended.
            InvalidValue: It is of another node, or the priority is out of range.
            NotEncodable: ``name`` is no key term.
            Busy: This node has ``CANDIDATES_PER_NODE_MAX`` candidates.
            NotStarted: The node is not running.

        Guarantee:
            ``Revoked`` comes before every message that was not read when it was sent.
        """
        role = self.stand(name, pid, priority)
        await self._replicas.room(REPLICA_NAME)
        return role

    def stand(
        self, name: object, pid: Pid, priority: int, *, seat: Seat | None = None
    ) -> Role:
        """As ``lead``, without waiting; a ``seat`` is called instead of messages."""
        self._running()
        self._check_process(pid)
        slot = slot_of(name)
        before = self._campaigns.get(slot)
        if before is not None and before.seat is not None and before.seat.abandoned:
            self.withdraw(name)
        self._feed(Stand(name, pid, priority))
        self._campaigns[slot] = _Campaign(name, pid, priority, seat)
        self._slots_of.setdefault(pid.id, {})[slot] = None
        self._watch_pauses()
        fence = self._machine.fence(name)
        return Role(fence is not None, fence)

    async def resign(self, name: object) -> None:
        """Stand for ``name`` no more. Who does not stand is ignored.

        The candidate is sent nothing; whoever listens is told ``Revoked``.

        Raises:
            NotEncodable: ``name`` is no key term.
            NotStarted: The node is not running.
        """
        self._running()
        self.withdraw(name)
        await self._replicas.room(REPLICA_NAME)

    def withdraw(self, name: object, *, seat: Seat | None = None) -> None:
        """As ``resign``, without waiting; with ``seat``, only if that one stands."""
        slot = slot_of(name)
        campaign = self._campaigns.get(slot)
        if campaign is None or (seat is not None and campaign.seat is not seat):
            return
        self._drop(slot, campaign)
        if self._handle is not None:
            self._feed(Withdraw(name))

    def leadership(
        self, name: object, pid: Pid | None = None, *, priority: int = 0
    ) -> AsyncGenerator[Term]:
        """Stand for ``name``, term after term, until the generator is closed.

        Args:
            name: A key term.
            pid: The candidate; None makes a process that is nothing else.
            priority: As for ``lead``. Raises as that does, at the first term.
        """
        self._running()
        return terms(self, name, pid, priority)

    # Looking.

    def look(self) -> None:
        """End all terms if this node stood still. Every answer begins with it."""
        self._pauses.look()

    def leader(self, name: object) -> tuple[str, Pid]:
        """Who leads ``name``, and on which node, as far as this node knows.

        Raises:
            NoLeader: Nobody does.
        """
        self._pauses.look()
        found = self._machine.leader(name)
        if found is None:
            raise NoLeader(f"{self._node} knows of no leader of {name!r:.200}")
        return found.node, found.pid

    def is_leader(self, name: object) -> bool:
        """Whether this node's candidate leads ``name``."""
        self._pauses.look()
        return self._machine.fence(name) is not None

    def fence(self, name: object) -> int:
        """The fence of this node's term of ``name``.

        Raises:
            NotLeader: It does not lead.
        """
        self._pauses.look()
        fence = self._machine.fence(name)
        if fence is None:
            raise NotLeader(f"{self._node} does not lead {name!r:.200}")
        return fence

    def candidates(self, name: object) -> list[Candidate]:
        """Who stands for ``name``: the one who should lead first, then the others."""
        return self._machine.candidates(name)

    def high_water(self, name: object) -> int | None:
        """The greatest fence of ``name`` that this node has heard of; None for none."""
        return self._machine.high_water(name)

    def names(self) -> list[object]:
        """For what somebody stands, in the order in which it was heard of."""
        return self._machine.names()

    def stats(self) -> LeaderStats:
        """Totals since the start."""
        return self._machine.stats

    # Hearing of it.

    def listen(self, listener: LeaderListener) -> Callable[[], None]:
        """Call ``listener`` with every event until the result is called."""
        self._listeners.append(listener)

        def forget() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return forget

    def subscribe(self, pid: Pid, *, name: object = None) -> None:
        """Send ``pid`` every event of this node's candidates, or those of one name.

        Raises:
            InvalidValue: ``pid`` is no process of this node.
            NoProc: It has ended.
            Busy: There are ``SUBSCRIBERS_MAX``.
            NotEncodable: ``name`` is no key term.
        """
        self._subscriptions.add(pid, _about(name))

    def unsubscribe(self, pid: Pid) -> None:
        """Send ``pid`` none any more. Idempotent."""
        self._subscriptions.remove(pid)

    def events(
        self, *, name: object = None, maxsize: int = 1_024
    ) -> EventStream[LeaderEvent]:
        """The same events, for plain code."""
        return self._subscriptions.stream(maxsize, _about(name))

    # Inside: the machine.

    def _new_machine(self) -> LeaderMachine:
        return LeaderMachine(self._entries, self._creation, settle_ms=self._settle_ms)

    def _feed(self, event: object) -> None:
        if type(event) is not Paused:
            self._pauses.look()
        now_ms = self._clock.now_ms()
        try:
            self._effects.extend(self._machine.handle(event, now_ms=now_ms))
        except BarrelError:
            raise
        except Exception as error:
            if self._restarting:
                raise
            text = f"deciding about {event!r:.200} failed: {error!r}"
            self._complaints.add("leader", text, error=error)
            self.restart()
        if self._performing:
            return  # A listener's own doing: its effects follow those of now.
        self._performing = True
        try:
            while self._effects:
                self._perform(self._effects.popleft())
        finally:
            self._performing = False

    def _perform(self, effect: LeaderEffect) -> None:
        match effect:
            case Tell(delta):
                self._replicate(delta)
            case Notify(_, event):
                self._notify(event)
            case Publish(event):
                self._publish(event)  # type: ignore[arg-type]
            case SetTimer(key, delay_ms):
                old = self._timers.pop(key, None)
                if old is not None:
                    old.cancel()
                loop = asyncio.get_running_loop()
                self._timers[key] = loop.call_later(delay_ms / 1_000, self._fire, key)
            case CatchUp():
                if self._handle is not None:
                    self._handle.catch_up()
            case _:
                raise AssertionError(effect)

    def _replicate(self, delta: Any) -> None:
        if self._handle is None:
            return
        try:
            self._handle.publish(delta)
        except (Busy, NotStarted) as error:
            # It stands in the map, so that comparing with others brings it to them.
            self._complaints.add("leader", error)

    def _notify(self, event: LeaderEvent) -> None:
        slot = slot_of(event.name)
        campaign = self._campaigns.get(slot)
        if campaign is None:
            return
        if campaign.seat is not None:
            self._tell_seat(campaign.seat, event)
            return
        box = self.processes.switch.box_of(campaign.pid.id)
        if box is None:
            return
        if isinstance(event, Elected):
            box.offer(event)
        # What it has not read yet, it need not be told to have lost.
        elif not box.discard(
            lambda message: type(message) is Elected and slot_of(message.name) == slot
        ):
            box.offer_first(event)

    def _tell_seat(self, seat: Seat, event: LeaderEvent) -> None:
        try:
            seat.hear(event)
        except Exception as error:  # noqa: BLE001 -- the others must hear it too
            text = f"a candidate failed: {error!r}"
            self._complaints.add("leader", text, error=error)

    def _publish(self, event: LeaderEvent) -> None:
        if isinstance(event, Elected):
            self._leading[slot_of(event.name)] = event.name
        else:
            self._leading.pop(slot_of(event.name), None)
        self._subscriptions.tell(event)
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 -- the others must hear it too
                text = f"a listener failed: {error!r}"
                self._complaints.add("leader", text, error=error)

    def _revoke_told(self, slot: Slot) -> None:
        event = Revoked(self._leading[slot])
        self._notify(event)
        self._publish(event)

    def _fire(self, key: Hashable) -> None:
        # A look may come first, and with it another timer of this key.
        timer = self._timers.get(key)
        self._pauses.look()
        if timer is not None and self._timers.get(key) is timer:
            del self._timers[key]
            self._feed(TimerFired(key))

    def _cancel_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _on_change(self, changes: list[Change], source: Source) -> None:
        self._feed(Changed(changes))

    def _synced(self, event: Synced) -> None:
        if event.replica == REPLICA_NAME:
            self._feed(Caught())

    # Inside: candidates.

    def _running(self) -> None:
        if self._handle is None:
            raise NotStarted(f"the elections of {self._node} are not running")

    def _check_process(self, pid: object) -> None:
        switch = self.processes.switch
        if type(pid) is not Pid or pid.node != switch.name:
            raise InvalidValue(
                f"a candidate is a process of {switch.name}, not {pid!r:.200}",
                hint="stand on the node that the process runs on",
            )
        if pid.creation != switch.creation or switch.box_of(pid.id) is None:
            raise NoProc(f"{pid!r} is no process of {switch.name} any more")

    def _process_ended(self, number: int) -> None:
        slots = self._slots_of.get(number)
        if not slots:
            return
        pid = self._campaigns[next(iter(slots))].pid
        for slot in list(slots):
            self._drop(slot, self._campaigns[slot])
        if self._handle is not None:
            self._feed(ProcessEnded(pid))

    def _drop(self, slot: Slot, campaign: _Campaign) -> None:
        del self._campaigns[slot]
        slots = self._slots_of[campaign.pid.id]
        del slots[slot]
        if not slots:
            del self._slots_of[campaign.pid.id]
        if campaign.seat is not None:
            campaign.seat.end()
        self._watch_pauses()

    def _watch_pauses(self) -> None:
        forget = self._forget_pauses
        if self._campaigns and forget is None:
            self._forget_pauses = self._pauses.watch(
                lambda ms: self._feed(Paused()), after_ms=self.pause_ms
            )
        elif forget is not None and not self._campaigns:
            self._forget_pauses = None
            forget()


def _about(name: object) -> Filter:
    if name is None:
        return lambda event: True
    slot = slot_of(name)
    return lambda event: slot_of(event.name) == slot

"""Durable reminders, as programs on a node set and hear them.

Runs ``ReminderMachine`` over ``ReminderStore``: what changes in the map, in the
partitions and among the listeners in, firings out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, assert_never, final

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.clock import Clock
from barrel_p2p.core.effects import Publish, SetTimer
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.core.members import MemberEvent, MemberUp
from barrel_p2p.core.ormap import Entry
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import BarrelError, NotStarted
from barrel_p2p.replica.driver import Replicas
from barrel_p2p.replica.rounds import Synced as RoundOver
from barrel_p2p.runtime.event_stream import EventStream
from barrel_p2p.runtime.pauses import PauseWatch
from barrel_p2p.runtime.subscriptions import Subscriptions
from barrel_p2p.runtime.switch import Switch
from barrel_p2p.services.reminder_events import Reminder, ReminderEntry
from barrel_p2p.services.reminder_inputs import (
    Consume,
    Deliver,
    Fired,
    Learned,
    Listening,
    NotFired,
    ReminderEffect,
    ReminderSettings,
    ReminderStats,
    Removed,
    Synced,
    Unsure,
)
from barrel_p2p.services.reminder_machine import (
    CATCH_UP_GAP_MS,
    LOOK,
    ReminderMachine,
)
from barrel_p2p.services.reminder_store import REPLICA_NAME, ReminderStore
from barrel_p2p.services.reminder_value import (
    at_ms_of,
    every_ms_of,
    fence_of,
    following,
    missed_of,
    payload_of,
)
from barrel_p2p.services.shard import Shards
from barrel_p2p.services.shard_events import Acquired
from barrel_p2p.storage.replica_log import Log
from barrel_p2p.wire.terms import decode, encode, key_bytes

__all__ = ["Reminders"]

_CLOSE_S: Final = 2.0
_log = logging.getLogger("barrel_p2p.services")


@final
class Reminders:
    """The reminders of the cluster, and the firing of those that are this node's.

    Args:
        node: This node's name.
        ring_size: How many partitions there are.
        log: Their file.
        replicas: Carry the map.
        shards: Say what is this node's.
        pauses: Whether this node stood still.
        pause_ms: After so long, others may have fired what was this node's.
        switch: Finds the mailboxes of subscribers.
        clock: Both kinds of time.
        hlc: Stamps what is written here.
        horizon_ms: For how long it is told what has fired.
        settings: The periods.
    """

    def __init__(
        self,
        node: str,
        ring_size: int,
        *,
        log: Log,
        replicas: Replicas,
        shards: Shards,
        pauses: PauseWatch,
        pause_ms: int,
        switch: Switch,
        clock: Clock,
        hlc: HLC,
        horizon_ms: int,
        settings: ReminderSettings | None = None,
    ) -> None:
        self._node = node
        self._replicas = replicas
        self._shards = shards
        self._pauses = pauses
        self._pause_ms = pause_ms
        self._clock = clock
        self._complaints = Complaints(_log)
        self._machine = ReminderMachine(node, ring_size, wall=clock, settings=settings)
        self._store = ReminderStore(
            node,
            hlc=hlc,
            clock=clock,
            horizon_ms=horizon_ms,
            log=log,
            complaints=self._complaints,
            changed=self._changed,
        )
        self._plain = Subscriptions(switch)
        self._acknowledging = Subscriptions(switch)
        self._untold: deque[Reminder] = deque()  # consumed; their subscribers had gone
        self._effects: deque[ReminderEffect] = deque()
        self._performing = False
        self._timer: asyncio.TimerHandle | None = None
        self._forget: list[Callable[[], None]] = []
        self._idle: asyncio.Future[None] | None = None
        self._closed = True

    # Its life.

    def start(self, members: list[str], *, waits: bool) -> None:
        """Take what the file held, and begin.

        Args:
            members: Who is a member now. Further changes are to be told to
                ``member_changed``.
            waits: Others may be there that know what has fired meanwhile.
        """
        self._closed = False
        if waits:
            self._feed(Unsure())
        for name in members:
            self.member_changed(MemberUp(name, 0))
        self._forget = [
            self._replicas.on_synced(self._synced),
            self._pauses.watch(self._paused, after_ms=self._pause_ms),
            self._shards.listen(self._feed),
        ]
        self._store.start(self._replicas)
        for partition in self._shards.owned_partitions():
            self._feed(Acquired(partition))

    async def close(self) -> None:
        """Fire no more, tell what is being made durable, and stop. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for forget in self._forget:
            forget()
        if self._timer is not None:
            self._timer.cancel()
        if self._machine.firing:
            self._idle = asyncio.get_running_loop().create_future()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._idle
        self._plain.close()
        self._acknowledging.close()
        await self._store.close()

    async def reopen(self) -> None:
        """Take writes again after the disk had failed. Nothing if it had not.

        Raises:
            StorageError: It still cannot be read or written.
        """
        await self._store.reopen()

    def member_changed(self, event: MemberEvent) -> None:
        """A member came, or died."""
        self._feed(event)

    # Setting.

    async def remind(self, key: object, value: tuple[Any, ...]) -> None:
        """Set a reminder, in the place of the one that is set under ``key``.

        Args:
            key: A key term without pids.
            value: As ``reminder_value`` has it; the payload is copied.

        Raises:
            InvalidValue: A part is out of range, or holds a ``Pid`` or ``Ref``.
            NotEncodable: The key is no key term, or the payload no term or too large.
            Busy: There are too many.
            ClockDrift: What is set there is stamped so far ahead that nothing beats it.
            StorageError: It could not be made durable. It is not set.
            NotStarted: The node is stopping.

        Guarantee:
            When it returns, it is on this node's disk, and all others are being told.
        """
        self._running()
        value = (value[0], decode(encode(value[1])), *value[2:])
        await asyncio.shield(self._store.arm(key, value))
        await self._replicas.room(REPLICA_NAME)

    async def cancel(self, key: object) -> None:
        """Take a reminder back, wherever it was set. Unknown keys are fine.

        Raises:
            InvalidValue, NotEncodable: ``key`` is no key term without pids.
            ClockDrift: As for ``remind``.
            StorageError: It could not be made durable. It is set still.
            NotStarted: The node is stopping.
        """
        self._running()
        await asyncio.shield(self._store.cancel(key))
        await self._replicas.room(REPLICA_NAME)

    async def acknowledge(self, key: object, fence: int) -> bool:
        """Say that a firing is done with.

        Returns:
            Whether it was still to be done with, as far as this node knows.

        Raises:
            NotEncodable: ``key`` is no key term.
            StorageError: It could not be made durable. It will be told again.
            ClockDrift: What comes next would be stamped too far ahead. As well.
            NotStarted: The node is stopping.
        """
        self._running()
        name, entry = key_bytes(key), self._store.entries.entry(key)
        if entry is None or entry.is_tombstone or fence_of(entry) != fence:
            return False
        after = following(entry, self._clock.wall_ms())[1]
        await asyncio.shield(self._store.put(name, after))
        return True

    def list(self) -> list[ReminderEntry]:
        """All that are set, as this node knows, the next one first."""
        found = [
            ReminderEntry(
                entry.key,
                at_ms_of(entry),
                payload_of(entry),
                every_ms_of(entry),
                missed_of(entry),
                fence_of(entry),
            )
            for entry in self._machine.entries()
        ]
        found.sort(key=lambda each: (each.at_ms, key_bytes(each.key)))
        return found

    # Hearing of it.

    def subscribe(self, pid: Pid, *, acknowledge: bool) -> None:
        """Send ``pid`` every firing here; again may change ``acknowledge``.

        Raises:
            InvalidValue: ``pid`` is no process of this node.
            NoProc: ``pid`` has ended.
            Busy: There are ``SUBSCRIBERS_MAX``.
        """
        chosen, other = self._plain, self._acknowledging
        if acknowledge:
            chosen, other = other, chosen
        chosen.add(pid)
        other.remove(pid)
        self._look_round()

    def unsubscribe(self, pid: Pid) -> None:
        """Send ``pid`` none any more. Idempotent."""
        self._plain.remove(pid)
        self._acknowledging.remove(pid)
        self._look_round()

    def events(self, *, acknowledge: bool, maxsize: int) -> EventStream[Reminder]:
        """Firings here from now on, for plain code."""
        room = self._acknowledging if acknowledge else self._plain
        stream = room.stream(maxsize)
        self._look_round()
        return stream

    def stats(self) -> ReminderStats:
        """Totals since the start."""
        self._machine.stats.refused = self._store.refused
        return self._machine.stats

    # Inside: the machine.

    def _running(self) -> None:
        if self._closed:
            raise NotStarted(f"the reminders of {self._node} are not running")

    def _changed(self, name: bytes, after: Entry) -> None:
        if after.is_tombstone:
            self._feed(Removed(name))
        else:
            self._feed(Learned(name, at_ms_of(after), after))

    def _synced(self, event: RoundOver) -> None:
        if event.replica == REPLICA_NAME:
            self._feed(Synced())

    def _paused(self, paused_ms: int) -> None:
        self._feed(Unsure())
        self._store.catch_up()

    def _look_round(self) -> None:
        room = self._room()
        while self._untold and room > 0:
            self._send(self._untold.popleft())
            room = self._room()
        handlers = len(self._plain) + len(self._acknowledging)
        if self._untold and handlers:
            self._arm(CATCH_UP_GAP_MS)
        self._feed(Listening(handlers, room, len(self._acknowledging) > 0))

    def _room(self) -> int:
        # Whoever does not acknowledge hears with those who do, if there are any.
        deciding = self._acknowledging if len(self._acknowledging) else self._plain
        return deciding.room()

    def _feed(self, event: object) -> None:
        now_ms = self._clock.now_ms()
        self._effects.extend(self._machine.handle(event, now_ms=now_ms))
        if self._performing:
            return  # An effect's own doing: what follows comes after those of now.
        self._performing = True
        try:
            while self._effects:
                self._perform(self._effects.popleft())
        finally:
            self._performing = False

    def _perform(self, effect: ReminderEffect) -> None:
        match effect:
            case Consume(name, entry):
                self._consume(name, entry)
            case Deliver(name, entry):
                self._deliver(name, entry)
            case SetTimer(_, delay_ms):
                self._arm(delay_ms)
            case Publish():
                raise AssertionError(effect)
            case _:
                assert_never(effect)

    def _arm(self, delay_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed:
            if self._untold:
                delay_ms = min(delay_ms, CATCH_UP_GAP_MS)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay_ms / 1_000, self._look)

    def _look(self) -> None:
        self._timer = None
        self._pauses.look()
        self._look_round()
        self._feed(TimerFired(LOOK))

    # Inside: firing.

    def _consume(self, name: bytes, entry: Entry) -> None:
        tells, after = following(entry, self._clock.wall_ms())
        try:
            kept = self._store.put(name, after)
        except BarrelError as error:
            self._complaints.add("reminders", f"{entry.key!r:.80} waits: {error}")
            self._feed(NotFired(name, entry))
            return
        kept.add_done_callback(partial(self._was_kept, name, entry, tells))

    def _was_kept(
        self, name: bytes, entry: Entry, tells: bool, kept: asyncio.Future[None]
    ) -> None:
        error = None if kept.cancelled() else kept.exception()
        if error is not None:
            self._complaints.add("reminders", f"{entry.key!r:.80} waits: {error}")
            self._feed(NotFired(name, entry))
        else:
            if tells:
                self._tell(entry)
            self._feed(Fired(name))
        idle = self._idle
        if idle is not None and not idle.done() and not self._machine.firing:
            idle.set_result(None)

    def _deliver(self, name: bytes, entry: Entry) -> None:
        tells, after = following(entry, self._clock.wall_ms())
        if tells:
            self._tell(entry)
            return
        try:
            self._store.put(name, after)
        except BarrelError as error:
            # It is looked at again, as if nobody had answered.
            self._complaints.add("reminders", f"{entry.key!r:.80} waits: {error}")

    def _tell(self, entry: Entry) -> None:
        event = Reminder(entry.key, payload_of(entry), fence_of(entry))
        if not self._untold and self._room() > 0:
            self._send(event)
            return
        # Who was to hear it has gone while it was made durable: the next one does. At
        # most FIRING_MAX, since nothing is consumed meanwhile.
        self._untold.append(event)
        if len(self._plain) + len(self._acknowledging):
            self._arm(CATCH_UP_GAP_MS)

    def _send(self, event: Reminder) -> None:
        self._acknowledging.tell(event)
        self._plain.tell(event)

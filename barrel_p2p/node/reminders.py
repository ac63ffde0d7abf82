"""What a node does with reminders, and the part of its start that loads them."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import InvalidValue
from barrel_p2p.node.run import self_pid
from barrel_p2p.node.shards import has_somebody_to_hear, pause_ms
from barrel_p2p.node.store import reminder_file
from barrel_p2p.runtime.event_stream import EventStream
from barrel_p2p.services.reminder import Reminders
from barrel_p2p.services.reminder_events import Reminder, ReminderEntry
from barrel_p2p.services.reminder_inputs import ReminderSettings
from barrel_p2p.services.reminder_store import REPLICA_NAME
from barrel_p2p.services.reminder_value import MISSED, Missed

if TYPE_CHECKING:
    from barrel_p2p.node.parts import Parts

__all__ = ["ReminderNode", "reminders"]


@asynccontextmanager
async def reminders(parts: Parts) -> AsyncIterator[None]:
    """Load what is set, and fire what is this node's."""
    config = parts.config
    log = await parts.stores.open(reminder_file(parts), store=REPLICA_NAME)
    parts.reminders = made = Reminders(
        parts.name,
        config.ring_size,
        log=log,
        replicas=parts.replicas,
        shards=parts.shards,
        pauses=parts.pauses,
        pause_ms=pause_ms(config),
        switch=parts.switch,
        clock=parts.clock,
        hlc=parts.hlc,
        horizon_ms=config.reminder_tombstone_ttl_ms,
        settings=ReminderSettings(
            scan_ms=config.reminder_scan_ms,
            settle_ms=config.member_heartbeat_ms,
            patience_ms=3 * config.member_ttl_ms,
        ),
    )
    forget = parts.members.listen(made.member_changed)
    made.start(parts.members.alive(), waits=has_somebody_to_hear(parts))
    try:
        yield
    finally:
        forget()
        await made.close()


class ReminderNode(ABC):
    """The part of ``Node`` that is about reminders."""

    @abstractmethod
    def _overlay(self) -> Parts:
        """What the node is made of; NotStarted if it runs not, Conflict if hidden."""

    async def remind(
        self,
        key: object,
        at: int | dt.datetime,
        payload: Any = None,
        *,
        every: int | dt.timedelta | None = None,
        missed: Missed = "coalesce",
    ) -> None:
        """Have ``Reminder(key, payload, fence)`` told at a time of day.

        It is told on the node that owns ``key`` then, and takes the place of what is
        set under ``key``.

        Args:
            key: A key term without pids.
            at: Milliseconds since 1970-01-01 UTC, or a datetime with a zone. What is
                past already is due at once, and with ``every`` when it comes next.
            payload: A term without pids and references.
            every: Milliseconds, or a timedelta, from one occurrence to the next, 100 ms
                to 366 days; None for once.
            missed: With ``every``, when the next occurrence is due too before one could
                be told: ``fire`` all of them, ``coalesce`` them to one, ``skip`` them.

        Raises:
            InvalidValue: A datetime without a zone, a value out of range, or a ``Pid``
                or ``Ref`` in key or payload.
            NotEncodable: ``key`` is no key term, or ``payload`` no term or too large.
            Busy: There are too many.
            StorageError: It could not be made durable. It is not set.

        Guarantee:
            When it returns, it is on this node's disk, and all others are being told.
            While members do not change, it fires once; see docs/concepts/reminders.md
            for the rest.
        """
        running, value = self._overlay(), _value(_wall_ms(at), payload, every, missed)
        if every is not None:
            value = _from_now_on(value, running.clock.wall_ms())
        await running.reminders.remind(key, value)

    async def remind_after(
        self,
        key: object,
        delay: int | dt.timedelta,
        payload: Any = None,
        *,
        every: int | dt.timedelta | None = None,
        missed: Missed = "coalesce",
    ) -> None:
        """As ``remind``, at the time of day that it will be in ``delay``.

        Args:
            key: A key term without pids.
            delay: Milliseconds, or a timedelta, not negative; by this node's clock.
            payload: A term without pids and references.
            every: As for ``remind``.
            missed: As for ``remind``.
        """
        running, delay_ms = self._overlay(), _span_ms("delay", delay)
        if delay_ms < 0:
            raise InvalidValue(f"delay={delay!r}: not negative")
        value = _value(running.clock.wall_ms() + delay_ms, payload, every, missed)
        await running.reminders.remind(key, value)

    async def cancel_reminder(self, key: object) -> None:
        """Take a reminder back, wherever it was set. Unknown keys are fine.

        Raises:
            NotEncodable: ``key`` is no key term.
            InvalidValue: There is a ``Pid`` in it.
            StorageError: It could not be made durable. It is set still.

        Guarantee:
            It is not told from then on; but it can be while other nodes are being told.
        """
        await self._overlay().reminders.cancel(key)

    async def acknowledge_reminder(self, key: object, fence: int) -> bool:
        """Say that a firing is done with; for who subscribed with ``acknowledge``.

        Args:
            key: As in the event.
            fence: As in the event.

        Returns:
            Whether it was still open, as far as this node knows.

        Raises:
            StorageError: It could not be made durable. It will be told again.

        Guarantee:
            When it returns, that is on this node's disk, and others are being told.
        """
        return await self._overlay().reminders.acknowledge(key, fence)

    def list_reminders(self) -> list[ReminderEntry]:
        """All reminders of the cluster, as this node knows, the next one first."""
        return self._overlay().reminders.list()

    async def subscribe_reminders(
        self, pid: Pid | None = None, *, acknowledge: bool = False
    ) -> None:
        """Send the reminders that this node owns to a process when they are due.

        Subscribe on every node that could do the work: nothing is fired on a node where
        nobody has subscribed, or where all subscribers' mailboxes are full; it waits.

        Args:
            pid: A process of this node; None is the one that asks.
            acknowledge: The process calls ``acknowledge_reminder`` when it is done;
                what it has not acknowledged after 30 s, or when this node owns the key
                no more, is told again. Without it a reminder is told at most once.

        Raises:
            InvalidValue: It is of another node.
            NoProc: There is no such process.
        """
        pid = pid or self_pid()
        self._overlay().reminders.subscribe(pid, acknowledge=acknowledge)

    async def unsubscribe_reminders(self, pid: Pid | None = None) -> None:
        """Send it no more. Idempotent."""
        self._overlay().reminders.unsubscribe(pid or self_pid())

    def reminders(
        self, *, acknowledge: bool = False, maxsize: int = 1_024
    ) -> EventStream[Reminder]:
        """The reminders that this node owns, when they are due, from now on.

        Args:
            acknowledge: As for ``subscribe_reminders``.
            maxsize: Events that may wait; while so many do, no more are fired.
        """
        return self._overlay().reminders.events(
            acknowledge=acknowledge, maxsize=maxsize
        )

    async def reopen_reminders(self) -> None:
        """Take writes again after the disk had failed. Nothing if it had not.

        Raises:
            StorageError: It still cannot be read or written.
        """
        await self._overlay().reminders.reopen()


def _wall_ms(at: object) -> int:
    if isinstance(at, dt.datetime):
        if at.utcoffset() is None:
            raise InvalidValue(
                f"at={at!r} has no time zone",
                hint="datetime.now(UTC) has one, and so has .astimezone()",
            )
        since = at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return since // dt.timedelta(milliseconds=1)
    if isinstance(at, int) and not isinstance(at, bool):
        return at
    raise InvalidValue(f"at={at!r:.40}: milliseconds since 1970, or a datetime")


def _span_ms(what: str, span: object) -> int:
    if isinstance(span, dt.timedelta):
        return span // dt.timedelta(milliseconds=1)
    if isinstance(span, int) and not isinstance(span, bool):
        return span
    raise InvalidValue(f"{what}={span!r:.40}: milliseconds, or a timedelta")


def _value(at_ms: int, payload: object, every: object, missed: str) -> tuple[Any, ...]:
    if missed not in MISSED:
        raise InvalidValue(f"missed={missed!r:.40}: one of {', '.join(MISSED)}")
    if every is None:
        if missed != "coalesce":
            raise InvalidValue(f"missed={missed!r} is for what comes again: say every=")
        return at_ms, payload
    return at_ms, payload, _span_ms("every", every), MISSED.index(missed)


def _from_now_on(value: tuple[Any, ...], wall_ms: int) -> tuple[Any, ...]:
    """Let what comes again begin with its next occurrence."""
    at_ms, payload, every_ms, missed = value
    if at_ms < wall_ms and every_ms > 0:
        at_ms += -((at_ms - wall_ms) // every_ms) * every_ms
    return at_ms, payload, every_ms, missed

"""What is told about reminders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from barrel_p2p.core.events import Event
from barrel_p2p.services.reminder_value import Missed

__all__ = ["Reminder", "ReminderEntry"]


@final
@dataclass(frozen=True, slots=True)
class Reminder(Event):
    """The time of a reminder has come, and this node owns its key.

    Args:
        key: What it was set under.
        payload: What it was set with.
        fence: Names this firing: if it is told twice, here or on another node, it has
            the same fence. Of one key, a later firing has a greater one.
    """

    key: Any
    payload: Any
    fence: int


@final
@dataclass(frozen=True, slots=True)
class ReminderEntry:
    """A reminder that is set.

    Args:
        key: What it was set under.
        at_ms: When it is due next, in wall milliseconds.
        payload: What it was set with.
        every_ms: Milliseconds to the occurrence after that; None if there is none.
        missed: ``fire``, ``skip`` or ``coalesce``; None if it comes once.
        fence: That of the next firing.
    """

    key: Any
    at_ms: int
    payload: Any
    every_ms: int | None
    missed: Missed | None
    fence: int

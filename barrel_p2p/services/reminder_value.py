"""What a reminder looks like in the map, when it is due, and what follows it.

A value is ``(at_ms, payload)``, or ``(at_ms, payload, every_ms, missed)`` for one that
comes again. Which occurrence an entry stands for is told by its stamp: counters that no
clock issues count them. So whoever fires an occurrence, and however many do, the entry
that follows is the same to the bit, with the same fence; and whatever a user has
written since beats it, heard of or not.

Bounded by ``AT_MS_MAX``, ``EVERY_MS_MIN`` and ``EVERY_MS_MAX``.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from barrel_p2p.core.hlc import (
    FENCE_EPOCH_MS,
    FENCE_WALL_MS_MAX,
    ISSUED_COUNTER_MAX,
    Timestamp,
)
from barrel_p2p.core.ormap import TOMBSTONE, Entry
from barrel_p2p.errors import InvalidValue
from barrel_p2p.storage.rows import check_restart_safe

__all__ = [
    "AT_MS_MAX",
    "EVERY_MS_MAX",
    "EVERY_MS_MIN",
    "FIRST_BEFORE_MS_MAX",
    "MISSED",
    "OCCURRENCES_MAX",
    "Missed",
    "at_ms_of",
    "check_entry",
    "check_value",
    "consumed",
    "every_ms_of",
    "fence_of",
    "fence_stamp_of",
    "following",
    "missed_of",
    "payload_of",
]

type Missed = Literal["fire", "skip", "coalesce"]

MISSED: Final[tuple[Missed, ...]] = ("fire", "skip", "coalesce")
"""What to do about occurrences that nobody could fire in time, by number."""

AT_MS_MAX: Final = 253_402_300_799_999
"""The end of the year 9999."""

EVERY_MS_MIN: Final = 100
EVERY_MS_MAX: Final = 366 * 86_400_000
"""From one occurrence to the next."""

FIRST_BEFORE_MS_MAX: Final = 3_600_000
"""By how much the first of many may be due before its stamp, because clocks differ."""

_STEP: Final = ISSUED_COUNTER_MAX + 1
OCCURRENCES_MAX: Final = (1 << 32) // _STEP
"""Occurrences that one stamp counts; then the reminder is stamped anew."""


def check_value(key: object, value: object) -> None:
    """Refuse what is no reminder.

    Raises:
        InvalidValue: The text says what is wrong: a part out of range, or a ``Pid`` or
            ``Ref`` in key or payload.
        NotEncodable: The payload has no form as a term.
    """
    if type(value) is not tuple:
        raise InvalidValue(f"{value!r:.80} is no reminder")
    match value:
        case (at_ms, _):
            _check_range("at", at_ms, 0, AT_MS_MAX)
        case (at_ms, _, every_ms, missed):
            _check_range("at", at_ms, 0, AT_MS_MAX)
            _check_range("every", every_ms, EVERY_MS_MIN, EVERY_MS_MAX)
            _check_range("missed", missed, 0, len(MISSED) - 1)
        case _:
            raise InvalidValue(f"{value!r:.80} is no reminder")
    check_restart_safe((key, value))


def check_entry(entry: Entry) -> None:
    """Refuse what cannot stand in the map, or must not be followed.

    The stamps that follow run as far ahead of the time of day as the first occurrence
    lay before its stamp; no clock could be moved past one that is far ahead.

    Raises:
        InvalidValue: As ``check_value``; also what comes again from long before it was
            set, and what is due beyond ``AT_MS_MAX``.
        NotEncodable: As ``check_value``.
    """
    if entry.is_tombstone:
        check_restart_safe(entry.key)
        return
    check_value(entry.key, entry.value)
    value: Any = entry.value
    if every_ms_of(entry) is None:
        return
    _check_range("the next time", at_ms_of(entry), 0, AT_MS_MAX)
    if value[0] < entry.wall_ms - FIRST_BEFORE_MS_MAX:
        raise InvalidValue(
            f"at={value[0]} is {entry.wall_ms - value[0]} ms before it was set;"
            f" FIRST_BEFORE_MS_MAX={FIRST_BEFORE_MS_MAX} for what comes again",
            hint="begin with the next time that is to come",
        )


def payload_of(entry: Entry) -> Any:
    """What the handler gets."""
    value: Any = entry.value
    return value[1]


def every_ms_of(entry: Entry) -> int | None:
    """Milliseconds from one occurrence to the next; None if there is one only."""
    value: Any = entry.value
    return value[2] if len(value) == 4 else None


def missed_of(entry: Entry) -> Missed | None:
    """What to do about missed occurrences; None if there is one only."""
    value: Any = entry.value
    return MISSED[value[3]] if len(value) == 4 else None


def at_ms_of(entry: Entry) -> int:
    """When it is due, in wall milliseconds."""
    value: Any = entry.value
    first_ms: int = value[0]
    return first_ms + (every_ms_of(entry) or 0) * _occurrence(entry)


def fence_of(entry: Entry) -> int:
    """What names this firing on every node; grows from one to the next of a key."""
    return fence_stamp_of(entry).pack(entry.node)


def fence_stamp_of(entry: Entry) -> Timestamp:
    """The stamp whose fence this firing has; it may be later than any that was issued.

    Args:
        entry: A reminder, or a tombstone, whose fence nobody is told.
    """
    stamp, wall_ms = entry.stamp, entry.wall_ms
    if not entry.is_tombstone:
        wall_ms += (every_ms_of(entry) or 0) * _occurrence(entry)
    wall_ms = min(max(wall_ms, FENCE_EPOCH_MS), FENCE_WALL_MS_MAX)
    return Timestamp(wall_ms, stamp.counter % _STEP)


def consumed(entry: Entry) -> Entry:
    """The tombstone of exactly this firing: whatever was written since beats it."""
    return Entry(entry.key, entry.stamp, entry.node, TOMBSTONE)


def following(entry: Entry, wall_ms: int) -> tuple[bool, Entry]:
    """What becomes of a reminder that is due.

    Args:
        entry: It.
        wall_ms: The time of day.

    Returns:
        Whether this occurrence is told, and the entry that stands there afterwards.
    """
    every_ms = every_ms_of(entry)
    if every_ms is None:
        return True, consumed(entry)
    over = max(wall_ms - at_ms_of(entry), 0) // every_ms
    missed = missed_of(entry)
    step = 1 if missed == "fire" else over + 1
    tells = missed != "skip" or over == 0
    return tells, _later(entry, every_ms, step)


def _later(entry: Entry, every_ms: int, step: int) -> Entry:
    stamp, occurrence = entry.stamp, _occurrence(entry) + step
    value: Any = entry.value
    if at_ms_of(entry) + step * every_ms > AT_MS_MAX:
        return consumed(entry)
    if occurrence < OCCURRENCES_MAX:
        later = Timestamp(stamp.wall_ms, stamp.counter + step * _STEP)
        return Entry(entry.key, later, entry.node, value)
    # Not the next one's time, which may be a year ahead of all clocks; and one
    # millisecond after the fence of what is told.
    wall_ms = stamp.wall_ms + (occurrence - 1) * every_ms + 1
    begins = (value[0] + occurrence * every_ms, *value[1:])
    restamped = Timestamp(wall_ms, stamp.counter % _STEP)
    return Entry(entry.key, restamped, entry.node, begins)


def _occurrence(entry: Entry) -> int:
    return entry.stamp.counter // _STEP


def _check_range(what: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise InvalidValue(f"{what}={value!r:.40} is not within {least} to {most}")

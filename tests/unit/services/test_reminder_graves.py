"""What has fired is told for a while, remembered longer, and never simply revived."""

from __future__ import annotations

import pytest

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.core.ormap import Delta, Entry
from barrel_p2p.services import reminder_graves
from barrel_p2p.services.reminder_graves import Graves
from barrel_p2p.services.reminder_value import consumed

HORIZON = 3_600_000
WALL = 1_800_000_000_000
DUE = WALL - 2 * HORIZON
ARMED = WALL - 40 * HORIZON


def reminder(name: str, *, wall_ms: int = ARMED, at_ms: int = DUE) -> Entry:
    return Entry(name, Timestamp(wall_ms, 1), "a@h", (at_ms, None))


def bury(graves: Graves, *entries: Entry, now_ms: int) -> None:
    for entry in entries:
        graves.note(str(entry.key).encode(), consumed(entry), now_ms)


def admit(
    graves: Graves, *entries: Entry, known: tuple[str, ...] = ()
) -> tuple[Delta, Delta]:
    delta = {str(entry.key).encode(): entry for entry in entries}
    return graves.admit(delta, WALL, lambda key: key in known)


def test_age_counts_from_the_firing_and_not_from_the_setting() -> None:
    graves, old = Graves(HORIZON), reminder("k")
    bury(graves, old, now_ms=1_000)
    assert graves.collect(1_000 + HORIZON) == {}
    assert graves.collect(1_001 + HORIZON) == {b"k": consumed(old)}
    assert graves.collect(1_002 + HORIZON) == {}
    assert len(graves) == 1


def test_who_comes_with_what_has_fired_is_told_again() -> None:
    graves, old = Graves(HORIZON), reminder("k")
    bury(graves, old, now_ms=0)
    graves.collect(HORIZON + 1)
    assert graves.remembers
    good, again = admit(graves, old, reminder("other"))
    assert (list(good), again) == ([b"other"], {b"k": consumed(old)})
    assert admit(graves, consumed(old)) == ({}, {})
    graves.note(b"k", consumed(old), HORIZON + 2)
    graves.told_again(again, HORIZON + 2)
    assert graves.collect(HORIZON + 3) == {}
    assert list(graves.collect(HORIZON + 700_000)) == [b"k"]


def test_what_is_set_anew_is_no_grave() -> None:
    graves, old = Graves(HORIZON), reminder("k")
    bury(graves, old, now_ms=0)
    graves.collect(HORIZON + 1)
    later = reminder("k", wall_ms=ARMED + 1, at_ms=WALL)
    assert admit(graves, later) == ({b"k": later}, {})
    graves.note(b"k", later, HORIZON + 2)
    assert len(graves) == 0


def test_beyond_what_can_be_remembered_the_old_and_overdue_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reminder_graves, "ASIDE_MAX", 2)
    graves = Graves(HORIZON)
    bury(graves, *(reminder(name) for name in "abc"), now_ms=0)
    graves.collect(HORIZON + 1)
    assert (len(graves), graves.forgotten_ms) == (2, ARMED)
    lost = reminder("a")
    assert admit(graves, lost) == ({}, {})
    assert graves.refused == 1
    fine = [
        reminder("known"),
        reminder("newer", wall_ms=ARMED + 1),
        reminder("ahead", at_ms=WALL + 1),
        reminder("late", at_ms=WALL - HORIZON),
        consumed(lost),
    ]
    assert list(admit(graves, *fine, known=("known",))[0].values()) == fine
    assert graves.refused == 1

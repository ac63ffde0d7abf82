"""A reminder's entry says when it is due, what names its firing, what follows it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.hlc import FENCE_WALL_MS_MAX, Timestamp
from barrel_p2p.core.ormap import Entry
from barrel_p2p.core.terms import Pid, Ref
from barrel_p2p.errors import InvalidValue, NotEncodable
from barrel_p2p.services.reminder_value import (
    AT_MS_MAX,
    EVERY_MS_MAX,
    FIRST_BEFORE_MS_MAX,
    MISSED,
    OCCURRENCES_MAX,
    at_ms_of,
    check_entry,
    check_value,
    consumed,
    every_ms_of,
    fence_of,
    following,
    missed_of,
    payload_of,
)

ARMED = 1_800_000_000_000
AT = ARMED + 60_000
EVERY = 1_000
FIRE, SKIP, COALESCE = 0, 1, 2


def entry(*value: Any, wall_ms: int = ARMED, counter: int = 7) -> Entry:
    return Entry("k", Timestamp(wall_ms, counter), "a@h", value)


def test_what_comes_once_is_followed_by_the_tombstone_of_itself() -> None:
    one = entry(AT, "do")
    assert (at_ms_of(one), payload_of(one), every_ms_of(one)) == (AT, "do", None)
    assert missed_of(one) is None
    assert fence_of(one) == Timestamp(ARMED, 7).pack("a@h")
    tells, after = following(one, AT)
    assert tells
    assert after == consumed(one)
    assert after.is_tombstone
    assert after.beats(one)
    assert not one.beats(after)


def test_whatever_a_user_writes_since_beats_a_firing() -> None:
    """A firing that has not heard of a new setting, or a cancellation, undoes none."""
    one, again = entry(AT, "do"), entry(AT, "do", EVERY, COALESCE)
    later = Entry("k", Timestamp(ARMED + 1, 0), "a@h", (AT + 5, "other"))
    for fired in (one, again):
        assert later.beats(following(fired, AT + 99)[1])


def test_what_comes_again_counts_in_its_stamp() -> None:
    first = entry(AT, "do", EVERY, COALESCE)
    assert (every_ms_of(first), missed_of(first)) == (EVERY, "coalesce")
    tells, second = following(first, AT + 3)
    assert tells
    assert second.beats(first)
    assert second.value == first.value
    assert second.stamp.wall_ms == ARMED
    assert at_ms_of(second) == AT + EVERY
    assert fence_of(second) > fence_of(first)
    assert following(first, AT + 900) == (True, second)  # whoever fires it, whenever


@pytest.mark.parametrize(
    ("missed", "told", "next_ms"),
    [(FIRE, True, EVERY), (COALESCE, True, 6 * EVERY), (SKIP, False, 6 * EVERY)],
)
def test_missed_occurrences_go_as_was_chosen(
    missed: int, told: bool, next_ms: int
) -> None:
    late = entry(AT, "do", EVERY, missed)
    tells, after = following(late, AT + 5 * EVERY + 1)
    assert tells == told
    assert at_ms_of(after) == AT + next_ms
    in_time = following(late, AT + EVERY - 1)
    assert in_time[0]
    assert at_ms_of(in_time[1]) == AT + EVERY


def test_a_stamp_that_can_count_no_further_is_replaced_by_a_later_one() -> None:
    counter = 7 + (OCCURRENCES_MAX - 1) * 8_192
    last = entry(AT, "do", EVERY, FIRE, counter=counter)
    _, after = following(last, at_ms_of(last))
    assert after.beats(last)
    assert at_ms_of(after) == at_ms_of(last) + EVERY
    assert after.stamp.counter == 7
    assert fence_of(after) > fence_of(last)


def test_nothing_follows_the_end_of_time() -> None:
    last = entry(AT_MS_MAX, "do", EVERY, FIRE)
    assert following(last, AT_MS_MAX) == (True, consumed(last))


@given(
    st.integers(0, 1 << 47),
    st.integers(0, 1 << 32).filter(lambda c: c < 1 << 32),
    st.integers(0, AT_MS_MAX),
    st.one_of(
        st.none(), st.tuples(st.integers(100, EVERY_MS_MAX), st.sampled_from([0, 1, 2]))
    ),
    st.integers(0, 1 << 47),
)
def test_no_entry_that_passes_fails_to_fire(
    wall_ms: int, counter: int, at_ms: int, again: tuple[int, int] | None, now: int
) -> None:
    one = entry(at_ms, "do", *(again or ()), wall_ms=wall_ms, counter=counter)
    check_value("k", one.value)
    _, after = following(one, now)
    assert after.beats(one)
    assert 0 < fence_of(one) < 1 << 63
    if not after.is_tombstone:
        check_value("k", after.value)
        assert at_ms_of(after) > at_ms_of(one)
        assert after.stamp.wall_ms <= max(wall_ms, FENCE_WALL_MS_MAX) or again


@pytest.mark.parametrize(
    "value",
    [
        None,
        (),
        (AT,),
        (-1, "do"),
        (AT_MS_MAX + 1, "do"),
        (True, "do"),
        ("soon", "do"),
        (AT, "do", EVERY),
        (AT, "do", 99, FIRE),
        (AT, "do", EVERY_MS_MAX + 1, FIRE),
        (AT, "do", EVERY, len(MISSED)),
        (AT, "do", EVERY, -1),
        (AT, "do", EVERY, FIRE, 0),
        (AT, Pid("a@h", 1, 1)),
        (AT, [{"to": Ref("a@h", 1, (1,))}]),
        [AT, "do"],
    ],
)
def test_what_is_no_reminder_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue):
        check_value("k", value)


def test_keys_and_payloads_must_be_safe_to_keep() -> None:
    with pytest.raises(InvalidValue, match="restart"):
        check_value(("k", Pid("a@h", 1, 1)), (AT, "do"))
    with pytest.raises(NotEncodable):
        check_value("k", (AT, object()))


def test_what_began_long_before_its_stamp_cannot_come_again() -> None:
    """Its followers would be stamped as far ahead of all clocks."""
    for at_ms in (0, ARMED - FIRST_BEFORE_MS_MAX - 1):
        with pytest.raises(InvalidValue, match="FIRST_BEFORE_MS_MAX"):
            check_entry(entry(at_ms, "do", EVERY, COALESCE))
        check_entry(entry(at_ms, "do"))
    check_entry(entry(ARMED - FIRST_BEFORE_MS_MAX, "do", EVERY, COALESCE))


def test_what_is_next_due_after_the_end_of_time_is_refused() -> None:
    check_entry(entry(AT_MS_MAX - EVERY, "do", EVERY, FIRE, counter=8_192))
    with pytest.raises(InvalidValue, match="the next time"):
        check_entry(entry(AT_MS_MAX - EVERY, "do", EVERY, FIRE, counter=2 * 8_192))


@given(
    st.integers(0, (1 << 32) - 1),
    st.integers(0, 10 * EVERY_MS_MAX),
    st.integers(100, EVERY_MS_MAX),
    st.sampled_from([0, 1, 2]),
    st.integers(0, 1 << 40),
)
def test_no_follower_is_stamped_ahead_of_the_time_of_day(
    counter: int, in_ms: int, every: int, missed: int, late_ms: int
) -> None:
    one = entry(ARMED + in_ms, "do", every, missed, counter=counter)
    now = at_ms_of(one) + late_ms
    _, after = following(one, now)
    assert after.stamp.wall_ms <= now + 1
    assert (
        after.is_tombstone or fence_of(after) > fence_of(one) or now > FENCE_WALL_MS_MAX
    )

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.errors import InvalidValue
from barrel_p2p.testing.overlay.schedule import Schedule


@given(st.lists(st.integers(0, 20)))
def test_calls_are_made_by_time_and_then_in_the_order_of_their_coming(
    times: list[int],
) -> None:
    schedule, made = Schedule(), []
    for number, when_ms in enumerate(times):
        schedule.at(when_ms, lambda a, b: made.append((a, b)), when_ms, number)
    assert len(schedule) == len(times)
    assert schedule.run_until(20) == len(times)
    assert made == sorted((when_ms, number) for number, when_ms in enumerate(times))
    assert len(schedule) == 0


def test_a_call_for_this_millisecond_is_made_in_it() -> None:
    schedule, made = Schedule(), []

    def call(a: object, b: object) -> None:
        made.append((schedule.now_ms, a))
        if a == "first":
            schedule.at(schedule.now_ms, call, "second", None)

    schedule.at(5, call, "first", None)
    assert schedule.run_until(5) == 2
    assert made == [(5, "first"), (5, "second")]


def test_time_goes_on_without_calls_and_stops_where_it_is_told() -> None:
    schedule = Schedule()
    schedule.at(8, lambda a, b: None, None, None)
    assert schedule.run_until(7) == 0
    assert schedule.now_ms == 7
    assert schedule.run_until(100) == 1
    assert (schedule.now_ms, schedule.events) == (100, 1)


def test_nothing_can_happen_in_the_past() -> None:
    schedule = Schedule()
    schedule.run_until(10)
    with pytest.raises(InvalidValue, match="an event at 9 ms, and it is 10 ms"):
        schedule.at(9, lambda a, b: None, None, None)

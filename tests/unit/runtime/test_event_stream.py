"""An event stream keeps order, says what it lost, and ends when it is told to."""

from __future__ import annotations

import asyncio

import pytest

from barrel_p2p.errors import InvalidValue
from barrel_p2p.runtime.event_stream import EVENTS_MAX, EventStream, Lagged
from tests.endpoints import within


def stream(maxsize: int = 4) -> tuple[EventStream[int], list[EventStream[int]]]:
    closed: list[EventStream[int]] = []
    return EventStream(closed.append, maxsize=maxsize), closed


async def test_events_come_in_the_order_in_which_they_were_put() -> None:
    events, _ = stream()
    for number in range(3):
        events.put(number)
    assert [await events.next(timeout=1) for _ in range(3)] == [0, 1, 2]


async def test_a_reader_that_waits_is_woken_by_the_next_event() -> None:
    events, _ = stream()
    reader = asyncio.create_task(events.next())
    await asyncio.sleep(0)  # not synchronisation: the reader must be parked first
    events.put(7)
    assert await within(reader) == 7


async def test_a_full_stream_drops_the_oldest_and_says_how_many() -> None:
    events, _ = stream(maxsize=2)
    for number in range(5):
        events.put(number)
    events.close()
    assert [event async for event in events] == [Lagged(3), 3, 4]


async def test_next_gives_up_after_its_timeout_and_loses_nothing() -> None:
    events, _ = stream()
    with pytest.raises(TimeoutError):
        await events.next(timeout=0.01)
    events.put(1)
    assert await events.next(timeout=1) == 1


async def test_until_drops_what_comes_before_the_wanted_event() -> None:
    events, _ = stream(maxsize=8)
    for number in range(6):
        events.put(number)
    assert await events.until(lambda event: event == 4, timeout=1) == 4
    assert await events.next(timeout=1) == 5


async def test_a_closed_stream_takes_nothing_more_and_ends() -> None:
    events, closed = stream()
    events.put(1)
    events.close()
    events.close()
    events.put(2)
    assert [event async for event in events] == [1]
    assert closed == [events]


async def test_leaving_the_block_closes_the_stream() -> None:
    events, closed = stream()
    async with events:
        pass
    assert closed == [events]
    with pytest.raises(StopAsyncIteration):
        await events.next(timeout=1)


async def test_closing_ends_a_reader_that_waits() -> None:
    events, _ = stream()
    reader = asyncio.create_task(anext(aiter(events), "ended"))
    await asyncio.sleep(0)  # not synchronisation: the reader must be parked first
    events.close()
    assert await within(reader) == "ended"


@pytest.mark.parametrize("maxsize", [0, -1, EVENTS_MAX + 1])
def test_a_size_out_of_range_is_refused(maxsize: int) -> None:
    with pytest.raises(InvalidValue, match=f"maxsize={maxsize}"):
        EventStream(lambda _: None, maxsize=maxsize)

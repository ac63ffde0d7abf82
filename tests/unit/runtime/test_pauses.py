"""A pause is told before anything else that is looked at, and a busy loop is none."""

from __future__ import annotations

import asyncio
import time

import pytest

from barrel_p2p.core.clock import SystemClock
from barrel_p2p.errors import InvalidValue
from barrel_p2p.runtime.pauses import AFTER_MS_MIN, PauseWatch
from barrel_p2p.testing import FakeClock
from tests.endpoints import eventually


def block(seconds: float) -> None:
    time.sleep(seconds)  # not synchronisation: what is noticed


async def test_a_loop_that_stood_still_is_told_at_the_next_look() -> None:
    told: list[int] = []
    watch = PauseWatch(SystemClock())
    forget = watch.watch(told.append, after_ms=200)
    watch.look()
    assert told == []
    block(0.3)
    watch.look()
    watch.look()
    assert len(told) == 1
    assert told[0] >= 300
    forget()
    block(0.3)
    watch.look()
    assert len(told) == watch.pauses == 1


async def test_it_is_told_before_a_callback_that_was_waiting() -> None:
    order: list[str] = []
    watch = PauseWatch(SystemClock())
    watch.watch(lambda ms: order.append("pause"), after_ms=200)
    act = watch.before(lambda: order.append("act"))
    act()
    block(0.3)
    act()
    assert order == ["act", "pause", "act"]
    watch.close()


async def test_it_is_told_before_a_task_that_slept_meanwhile_goes_on() -> None:
    order: list[str] = []
    watch = PauseWatch(SystemClock())
    watch.watch(lambda ms: order.append("pause"), after_ms=200)

    async def nap() -> None:
        await asyncio.sleep(0.001)  # not synchronisation: it is due first
        order.append("task")

    task = asyncio.create_task(nap())
    await asyncio.sleep(0)
    block(0.3)
    await task
    assert order == ["pause", "task"]
    watch.close()


async def test_each_listener_has_its_own_patience() -> None:
    clock = FakeClock()
    watch = PauseWatch(clock)
    short: list[int] = []
    long: list[int] = []
    watch.watch(short.append, after_ms=500)
    forget = watch.watch(long.append, after_ms=5_000)
    clock.advance(500)
    watch.look()
    assert (short, long) == ([], [])
    clock.advance(1_000)
    watch.look()
    assert (short, long) == ([1_500], [])
    clock.advance(6_000)
    watch.look()
    assert (short, long) == ([1_500, 6_000], [6_000])
    forget()
    clock.advance(6_000)
    watch.look()
    assert len(long) == 1
    watch.close()


async def test_a_busy_loop_that_goes_on_is_no_pause() -> None:
    told: list[int] = []
    watch = PauseWatch(SystemClock())
    watch.watch(told.append, after_ms=AFTER_MS_MIN * 4)
    turns = 0

    async def busy() -> None:
        nonlocal turns
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            turns += 1
            await asyncio.sleep(0)
            watch.look()

    await busy()
    assert turns > 10
    assert told == []
    watch.close()


@pytest.mark.parametrize("after_ms", [400, 800])
@pytest.mark.parametrize("every_s", [0, 0.01])
async def test_watching_and_forgetting_again_and_again_is_no_pause(
    after_ms: int, every_s: float
) -> None:
    told: list[int] = []
    watch = PauseWatch(SystemClock())
    watch.watch(told.append, after_ms=400)
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        forget = watch.watch(told.append, after_ms=after_ms)
        await asyncio.sleep(every_s)  # not synchronisation: more often than a beat
        forget()
        watch.look()
    assert told == []
    watch.close()


async def test_what_was_before_a_listener_watched_is_no_pause_of_its() -> None:
    clock = FakeClock()
    watch = PauseWatch(clock)
    long: list[int] = []
    short: list[int] = []
    watch.watch(long.append, after_ms=1_000)
    clock.advance(600)
    watch.watch(short.append, after_ms=500)
    watch.look()
    assert (long, short, watch.pauses) == ([], [], 0)
    clock.advance(501)
    watch.look()
    assert (long, short, watch.pauses) == ([1_101], [501], 1)
    watch.close()


async def test_nothing_beats_while_nobody_watches() -> None:
    active: list[bool] = []
    watch = PauseWatch(SystemClock(), on_active=active.append)
    forget = watch.watch(lambda ms: None, after_ms=200)
    other = watch.watch(lambda ms: None, after_ms=300)
    forget()
    assert active == [True]
    other()
    other()
    assert active == [True, False]
    await eventually(lambda: watch._timer is None)


async def test_a_pause_too_short_to_tell_is_refused() -> None:
    with pytest.raises(InvalidValue, match="99"):
        PauseWatch(SystemClock()).watch(lambda ms: None, after_ms=99)

"""A loop whose answers come quickly looks for the next one before it sleeps."""

from __future__ import annotations

import asyncio

import pytest

from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import Pair, echo, eventually, pair, stream_pair, within


async def _exchange(both: Pair, count: int) -> int:
    """After how many of ``count`` answers the dialler was polling."""
    near, far = await stream_pair(both)
    answering = asyncio.create_task(echo(far))
    polling = 0
    for _ in range(count):
        await near.write(b"ping")
        await within(near.readexactly(4))
        polling += both.dialler.pump.polling
    near.finish()
    await within(answering)
    return polling


async def test_quick_answers_keep_the_loop_awake() -> None:
    async with pair(EngineSettings(poll_us=1_000)) as both:
        assert await _exchange(both, 300) > 0


async def test_the_loop_sleeps_again_once_nothing_comes() -> None:
    async with pair(EngineSettings(poll_us=1_000)) as both:
        await _exchange(both, 300)
        await eventually(lambda: not both.dialler.pump.polling)
        await eventually(lambda: not both.acceptor.pump.polling)


async def test_with_poll_us_0_the_loop_always_sleeps() -> None:
    async with pair(EngineSettings(poll_us=0)) as both:
        assert await _exchange(both, 300) == 0


async def test_a_transfer_does_not_poll() -> None:
    async with pair(EngineSettings(poll_us=1_000)) as both:
        near, far = await stream_pair(both)
        polling = 0

        async def read() -> None:
            nonlocal polling
            for _ in range(64):
                await far.readexactly(1 << 20)
                polling += both.acceptor.pump.polling

        reading = asyncio.create_task(read())
        for _ in range(64):
            await within(near.write(bytes(1 << 20)))
        await within(reading)
        assert polling < 32


async def test_what_is_ready_runs_while_the_loop_polls() -> None:
    async with pair(EngineSettings(poll_us=1_000)) as both:
        await _exchange(both, 300)
        ran = asyncio.Event()
        asyncio.get_running_loop().call_soon(ran.set)
        await within(ran.wait())


@pytest.mark.parametrize("poll_us", [1, 1_000])
async def test_polling_ends_with_its_endpoint(poll_us: int) -> None:
    async with pair(EngineSettings(poll_us=poll_us)) as both:
        await _exchange(both, 50)
        pump = both.dialler.pump
    await eventually(lambda: not pump.polling)

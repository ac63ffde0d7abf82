"""Two processes that share a core do not poll: each would only delay the other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from barrel_p2p.quic.settings import EngineSettings
from tests.child_endpoint import child_endpoint
from tests.endpoints import endpoint, eventually, within


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and those it starts meanwhile, on one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.serial
async def test_a_peer_on_the_same_core_is_found_out_and_waited_for_asleep() -> None:
    with one_core():
        async with endpoint(EngineSettings()) as near, child_endpoint() as peer:
            connection = await within(near.connect(*peer.address))
            stream = connection.open_stream()
            async with asyncio.timeout(20):
                while not near.pump.resting:
                    await stream.write(b"ping")
                    await stream.readexactly(4)
            await eventually(lambda: not near.pump.polling)

"""What a connection costs that only waits."""

from __future__ import annotations

import pytest

from tests.victims import Victim, victim

CONNECTIONS = 1_000
WARM_UP = 50  # they pay for what all connections share
BYTES_MAX = 64 << 10


async def settled(dialler: Victim, acceptor: Victim, count: int) -> tuple[int, int]:
    """Resident bytes of both, ``count`` open and a round of keep-alive gone by."""
    told = await acceptor.until("connections", count, count)
    await acceptor.until("datagrams_in", told["datagrams_in"] + count, 1 << 62)
    told = await dialler.counts()
    assert told["connections"] == told["alive"] == count
    return dialler.rss_bytes, acceptor.rss_bytes


@pytest.mark.serial
async def test_a_thousand_idle_connections_cost_64_kib_each_at_most() -> None:
    """Both ends, each in its own process; the keep-alive goes on meanwhile."""
    async with victim() as dialler, victim() as acceptor:
        await dialler.dial(acceptor.address, WARM_UP)
        before = await settled(dialler, acceptor, WARM_UP)
        await dialler.dial(acceptor.address, CONNECTIONS)
        after = await settled(dialler, acceptor, WARM_UP + CONNECTIONS)
        for end_before, end_after in zip(before, after, strict=True):
            each = (end_after - end_before) / CONNECTIONS
            assert 0 < each <= BYTES_MAX, f"{each:,.0f} bytes a connection"

"""A thousand idle connections cost either side little memory and little work."""

from __future__ import annotations

import asyncio

import psutil

from tests.child_endpoint import ChildEndpoint, child_endpoint
from tests.endpoints import endpoint, within
from tests.tools import rounds

CONNECTIONS = rounds(500, whole=1_000)
BYTES_MAX = 64 << 10
WARM = 50

# Nothing may go in that time but keep-alives: one in 10 s each way.
SETTINGS = {"idle_timeout_ms": 30_000}


async def cost(child: ChildEndpoint, before: int) -> float:
    """Resident bytes a connection since ``before``."""
    return (int((await child.ask("stats"))["rss"]) - before) / CONNECTIONS


async def test_an_idle_connection_costs_at_most_64_kib_on_either_side() -> None:
    async with child_endpoint(**SETTINGS) as far, child_endpoint(**SETTINGS) as near:
        to = list(far.address)
        await near.ask("connect", to=to, count=WARM)
        before = [(await child.ask("stats"))["rss"] for child in (near, far)]
        await near.ask("connect", to=to, count=CONNECTIONS)
        stats = await far.ask("stats")
        while stats["accepted"] < WARM + CONNECTIONS:
            stats = await far.ask("stats")
        assert (stats["connections"], stats["half_open"]) == (WARM + CONNECTIONS, 0)
        assert await cost(near, before[0]) <= BYTES_MAX
        assert await cost(far, before[1]) <= BYTES_MAX


async def test_closed_connections_give_their_memory_to_new_ones() -> None:
    """What was used once is used again: ten times as many cost hardly more."""
    async with child_endpoint(**SETTINGS) as far:
        grown: list[int] = []
        for _ in range(10):
            async with endpoint() as near:
                dials = [near.connect(*far.address) for _ in range(100)]
                await within(asyncio.gather(*dials))
            await _none_left(far)
            grown.append((await far.ask("stats"))["rss"])
        assert grown[-1] - grown[2] <= 4 << 20


async def test_idle_connections_need_next_to_no_processor_time() -> None:
    async with child_endpoint(**SETTINGS) as far, child_endpoint(**SETTINGS) as near:
        await near.ask("connect", to=list(far.address), count=200)
        watched = psutil.Process(far.pid)
        await _settled(far)
        before_s = sum(watched.cpu_times()[:2])
        await asyncio.sleep(1)  # not synchronisation: a second of idleness is measured
        assert sum(watched.cpu_times()[:2]) - before_s <= 0.1


async def _none_left(child: ChildEndpoint) -> None:
    while (stats := await child.ask("stats"))["connections"] + stats["half_open"]:
        pass


async def _settled(child: ChildEndpoint) -> None:
    """Until the last handshake's last packet has been taken."""
    before, same = -1, 0
    while same < 20:
        now = (await child.ask("stats"))["datagrams_in"]
        same = same + 1 if now == before else 0
        before = now

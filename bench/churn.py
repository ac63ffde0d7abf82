"""Services that come and go: ``python -m bench.churn`` prints its figures as JSON.

One node without peers registers and takes back one name after the other, each of them
new, through the registry, the replica and the broadcast that every node has. What grows
with the number of names that ever were shows as a slower end and a larger process.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from barrel_p2p.broadcast.driver import Broadcast
from barrel_p2p.broadcast.machine import Plumtree
from barrel_p2p.carrier.dispatcher import Dispatcher
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.names import Address, NodeReference
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.errors import PeerUnreachable
from barrel_p2p.replica.driver import Replicas
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.runner import Peer
from barrel_p2p.runtime.switch import Switch
from barrel_p2p.services.registry import Registry
from bench.harness import rss_bytes

__all__ = ["CYCLES", "churn", "main", "measure"]

CYCLES = 200_000
NODE = "a@host"
PARTS = 100
TENTH = PARTS // 10


class _NoPeers:
    """The channels of a node that has none."""

    def get(self, name: str) -> Peer | None:
        return None

    async def connect(
        self, ref: str | Address | NodeReference, *, timeout: float | None
    ) -> Peer:
        raise PeerUnreachable(f"{ref} is not there")

    def disconnect(self, name: str, reason: str) -> bool:
        return False


async def _idle(process: Process) -> None:
    await process.receive(lambda message: False)


@asynccontextmanager
async def _node() -> AsyncIterator[tuple[Registry, Processes]]:
    clock, hlc = SystemClock(), HLC(node=NODE)
    switch = Switch(NODE, 1, asyncio.get_running_loop())
    processes = Processes(switch, node=NODE)
    network, dispatcher = _NoPeers(), Dispatcher()
    broadcast = Broadcast(
        Plumtree(NODE, SeededRng(1)),
        network=network,
        dispatcher=dispatcher,
        clock=clock,
    )
    replicas = Replicas(
        node=NODE,
        creation=1,
        network=network,
        dispatcher=dispatcher,
        broadcast=broadcast,
        clock=clock,
        hlc=hlc,
        rng=SeededRng(2),
        anti_entropy_ms=30_000,
    )
    registry = Registry(
        NODE,
        1,
        replicas=replicas,
        processes=processes,
        clock=clock,
        hlc=hlc,
        rng=SeededRng(3),
    )
    registry.start({})
    try:
        yield registry, processes
    finally:
        registry.close()
        await replicas.close()
        await broadcast.close()
        await processes.stop(timeout=5)
        switch.close()


async def churn(cycles: int) -> dict[str, float]:
    """Register and unregister ``cycles`` names, one after the other.

    Returns:
        ``churn_per_s``: cycles a second of processor time; ``churn_tail_vs_head``: the
        rate of the last tenth by that of the first, medians of ten parts of each;
        ``churn_rss_growth_mb``: how much larger the process is at the end than after
        the first tenth. What it grows by is what broadcast keeps for 60 s, for peers
        that ask again: at most 32 MiB, whatever the number of names.
    """
    seconds: list[float] = []
    sizes: list[int] = []
    async with _node() as (registry, processes):
        pid = processes.spawn(_idle).pid
        for part in range(PARTS):
            started = time.process_time()
            for i in range(part * cycles // PARTS, (part + 1) * cycles // PARTS):
                name = f"service-{i}"
                await registry.register_service(name, pid, {"index": i})
                await registry.unregister_service(name)
            seconds.append(time.process_time() - started)
            if (part + 1) % TENTH == 0:
                gc.collect()
                sizes.append(rss_bytes(os.getpid()))
    head, tail = seconds[:TENTH], seconds[-TENTH:]
    return {
        "churn_per_s": cycles / sum(seconds),
        "churn_tail_vs_head": statistics.median(head) / statistics.median(tail),
        "churn_rss_growth_mb": (sizes[-1] - sizes[0]) / 1e6,
    }


def measure(cycles: int = CYCLES) -> dict[str, float]:
    """The figures of ``churn`` on a loop of their own."""
    return asyncio.run(churn(cycles))


def main() -> None:
    """Print them."""
    print(json.dumps({name: round(value, 3) for name, value in measure().items()}))


if __name__ == "__main__":
    main()

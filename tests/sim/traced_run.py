"""Prints the trace hashes of short runs with every fault; see ``test_trace.py``."""

from __future__ import annotations

import sys

from barrel_p2p.testing.experiments.cluster import Cluster
from barrel_p2p.testing.overlay.faults import Faults

__all__ = ["digest_of"]


def digest_of(seed: int, nodes: int = 40) -> str:
    """The trace hash of a run in which nearly everything happens."""
    cluster = Cluster(nodes, seed, policy="three", is_traced=True)
    world = cluster.world
    cluster.start_all(nodes)
    cluster.rounds(1)
    cluster.send(world.nodes[1], 1_000)
    world.set_faults(Faults(loss=0.1, jitter_ms=20))
    world.swizzle(range(0, nodes, 4), over_ms=5_000)
    world.pause(2)
    world.crash([3, 4])
    world.crash([5], is_silent=True)
    cluster.rounds(0.5)
    world.resume(2)
    world.start(3)
    world.cut(6, 7, both_ways=False)
    cluster.send(world.nodes[3], 1_000)
    world.set_faults(
        Faults(loss=0.1, duplicate=0.1, reorder=0.1, jitter_ms=5, repaired=False)
    )
    cluster.rounds(1)
    world.heal()
    cluster.send(world.nodes[6], 10_000)
    return cluster.digest()


if __name__ == "__main__":
    sys.stdout.write(" ".join(digest_of(int(seed)) for seed in sys.argv[1:]))

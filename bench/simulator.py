"""How fast the overlay simulator is: ``python -m bench.simulator [--json]``.

One process, real machines, 1,000 nodes that join, rest and broadcast. CPU seconds are
the measure, so that other programs disturb it less; they still take the caches away.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence

from barrel_p2p.testing.experiments.cluster import Cluster
from barrel_p2p.testing.overlay.garbage import uncollected

__all__ = ["main", "measure"]

NODES = 1_000
SEED = 1
BROADCASTS = 20
BROADCAST_MS = 500
BURST_MS = 10_000


def measure(*, nodes: int = NODES) -> dict[str, float]:
    """Return events for a second of CPU, of the whole run and of its parts.

    Args:
        nodes: How many are simulated, 2 or more.

    Returns:
        ``events_per_s`` of all; ``join_``, ``quiet_``, ``broadcast_`` and
        ``burst_events_per_s``; ``events``, ``cpu_s``, ``rss_mb``.
    """
    cluster = Cluster(nodes, SEED)
    schedule = cluster.world.schedule
    figures: dict[str, float] = {}
    parts: list[tuple[str, Callable[[], None]]] = [
        ("join", lambda: _join(cluster, nodes)),
        ("quiet", lambda: cluster.rounds(10)),
        ("broadcast", lambda: _broadcast(cluster)),
        ("burst", lambda: _burst(cluster)),
    ]
    cpu_s = 0.0
    with uncollected():  # as every run of a goal is
        for name, part in parts:
            events, began_s = schedule.events, time.process_time()
            part()
            took_s = time.process_time() - began_s
            figures[f"{name}_events_per_s"] = (schedule.events - events) / took_s
            cpu_s += took_s
    return {
        "events_per_s": schedule.events / cpu_s,
        **figures,
        "events": schedule.events,
        "cpu_s": cpu_s,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _join(cluster: Cluster, nodes: int) -> None:
    cluster.start_all(nodes)
    cluster.rounds(1)


def _broadcast(cluster: Cluster) -> None:
    """One message after the other, each from another node."""
    for _ in range(BROADCASTS):
        cluster.send(cluster.any_of(cluster.world.nodes), BROADCAST_MS)


def _burst(cluster: Cluster) -> None:
    """One node in twenty at the same instant."""
    for node in cluster.world.nodes[::20]:
        cluster.traffic.send(node)
    cluster.world.run_for(BURST_MS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    options = parser.parse_args(arguments)
    figures = measure(nodes=options.nodes)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:12,.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

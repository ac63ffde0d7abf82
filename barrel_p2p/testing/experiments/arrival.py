"""Do all who arrive end in one cluster, whomever they contact, however many at once?

Nodes that are powered on together all contact somebody before anybody knows anybody.
Views as published leave islands then, which nothing brings together again.

Source: Leitao, Pereira, Rodrigues, "HyParView", DSN 2007, section 4.2.
"""

from __future__ import annotations

from barrel_p2p.testing.experiments.cluster import Arrivals, Cluster, Policy
from barrel_p2p.testing.experiments.controls import Control, planted
from barrel_p2p.testing.experiments.outcome import Outcome

__all__ = ["arrival"]


def arrival(
    *,
    n: int,
    seed: int,
    policy: Policy,
    arrivals: Arrivals,
    limit: float = 5.0,
    control: Control = "",
) -> Outcome:
    """Start ``n`` nodes and count the rounds until they are one component.

    Args:
        n: Nodes.
        seed: Of the run.
        policy: Whom they contact.
        arrivals: How they come.
        limit: Rounds to wait after the last one has been started.
        control: A defect to plant.
    """
    cluster = Cluster(n, seed, policy=policy, **planted(control))
    cluster.start_all(n, arrivals)
    rounds = cluster.rounds_until_one(limit, step=0.5)
    shape = cluster.shape()
    faults = sum(len(node.faults) for node in cluster.world.nodes)
    return Outcome(
        f"{policy}, {arrivals}",
        seed,
        {
            "rounds": rounds,
            "components": len(shape.components),
            "active_mean": shape.active_mean,
            "oneway": shape.oneway,
            "faults": faults,
        },
        cluster.world.schedule.events,
    )

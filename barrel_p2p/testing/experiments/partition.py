"""Does a cluster that was split for long become one again, and how soon?

While it is split, both parts forget each other: views refresh themselves with whom they
can reach. What is left to bring them together is what the nodes remember of former
peers, and their contacts.
"""

from __future__ import annotations

from collections.abc import Sequence

from barrel_p2p.testing.experiments.cluster import Cluster, Policy
from barrel_p2p.testing.experiments.controls import Control, planted
from barrel_p2p.testing.experiments.crash import SETTLE_ROUNDS
from barrel_p2p.testing.experiments.outcome import Outcome

__all__ = ["split"]


def split(
    *,
    n: int,
    seed: int,
    shares: Sequence[float],
    rounds: int,
    policy: Policy = "three",
    limit: float = 3.0,
    control: Control = "",
) -> Outcome:
    """Split the cluster, wait, heal it, and count the rounds until it is one.

    Args:
        n: Nodes.
        seed: Of the run.
        shares: Of the parts, together 1; who is in which is by chance.
        rounds: How long it is split.
        policy: Whom the nodes had contacted.
        limit: Rounds to wait after the heal.
        control: A defect to plant.
    """
    cluster = Cluster(n, seed, policy=policy, **planted(control))
    cluster.start_all(n)
    cluster.rounds(SETTLE_ROUNDS)
    order = cluster.rng.sample(range(n), n)
    sides, start = [], 0.0
    for share in shares:
        sides.append(order[round(start * n) : round((start + share) * n)])
        start += share
    cluster.world.split(sides)
    cluster.rounds(rounds)
    parts = len(cluster.shape().components)
    cluster.world.heal()
    took = cluster.rounds_until_one(limit)
    name = "/".join(f"{share:.0%}" for share in shares).replace("%", "")
    return Outcome(
        f"{name} for {rounds}",
        seed,
        {"rounds": took, "parts": parts},
        cluster.world.schedule.events,
    )

"""Nodes that come and go for long: do those that stay hear everything?"""

from __future__ import annotations

from typing import Final

from barrel_p2p.testing.experiments.cluster import ROUND_MS, Cluster
from barrel_p2p.testing.experiments.controls import Control, planted
from barrel_p2p.testing.experiments.crash import SETTLE_ROUNDS
from barrel_p2p.testing.experiments.outcome import Outcome

__all__ = ["churn"]

_REST_ROUNDS: Final = 2


def churn(
    *, n: int, seed: int, share: float, rounds: int = 100, control: Control = ""
) -> Outcome:
    """Replace ``share`` of the nodes by new ones in every round.

    A tenth of the nodes stays throughout; one of them sends a message a round, and of
    each message counts how many of them it reaches.

    Args:
        n: Nodes at any time.
        seed: Of the run.
        share: Replaced a round, at random moments of it.
        rounds: How many.
        control: A defect to plant.
    """
    per_round = max(1, round(share * n))
    cluster = Cluster(n + rounds * per_round, seed, **planted(control))
    world = cluster.world
    cluster.start_all(n)
    cluster.rounds(SETTLE_ROUNDS)
    staying = world.running()[: max(2, n // 10)]
    kept = {node.index: True for node in staying}
    views: list[float] = []
    sent = []
    for at in range(rounds):
        mortal = [node.index for node in world.running() if node.index not in kept]
        for number, index in enumerate(cluster.rng.sample(mortal, per_round)):
            fresh = n + at * per_round + number
            world.later(cluster.rng.below(ROUND_MS), _Replace(cluster, index, fresh))
        sent.append(cluster.traffic.send(cluster.any_of(staying)))
        cluster.rounds(1)
        views.append(cluster.shape().active_mean)
    cluster.rounds(_REST_ROUNDS)
    shape = cluster.shape()
    heard = sum(sum(1 for index in each.reached if index in kept) for each in sent)
    return Outcome(
        f"{share:.0%} a round",
        seed,
        {
            "delivered": heard / (len(sent) * len(staying)),
            "active_mean": min(views),
            "symmetric": 1 - shape.oneway / max(1, shape.links),
            "components": len(shape.components),
        },
        world.schedule.events,
        tuple((float(at + 1), view) for at, view in enumerate(views)),
    )


class _Replace:
    """One node dies and another is born."""

    def __init__(self, cluster: Cluster, old: int, new: int) -> None:
        self._cluster, self._old, self._new = cluster, old, new

    def __call__(self) -> None:
        self._cluster.world.crash([self._old])
        self._cluster.start(self._new)

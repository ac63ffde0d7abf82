"""Does a cluster that was split for long become one again, and how soon?

While it is split, both parts forget each other: views refresh themselves with whom they
can reach. What is left to bring them together is what the nodes remember of former
peers, and their contacts. What each part writes meanwhile, the other one has to learn
afterwards, though nobody broadcasts it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from barrel_p2p.core.hlc import HLC
from barrel_p2p.ormap import OrMap
from barrel_p2p.testing.experiments.cluster import ROUND_MS, Cluster, Policy
from barrel_p2p.testing.experiments.controls import Control, planted
from barrel_p2p.testing.experiments.crash import SETTLE_ROUNDS
from barrel_p2p.testing.experiments.outcome import Outcome
from barrel_p2p.testing.overlay.replica import ANTI_ENTROPY_MS

__all__ = ["PERIODS_MAX", "split"]

PERIODS_MAX: Final = 2
"""Periods of anti-entropy, from when the parts are one, until all hold the same."""

_WRITES_MAX: Final = 50
_PERIOD: Final = ANTI_ENTROPY_MS / ROUND_MS
_LOOK: Final = 0.1


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
    cluster = Cluster(n, seed, policy=policy, has_replica=True, **planted(control))
    cluster.start_all(n)
    cluster.rounds(SETTLE_ROUNDS)
    order = cluster.rng.sample(range(n), n)
    sides, start = [], 0.0
    for share in shares:
        sides.append(order[round(start * n) : round((start + share) * n)])
        start += share
    for node in cluster.world.running():
        cluster.update(node, node.name, 0)
    cluster.world.split(sides)
    _write(cluster, rounds)
    parts = len(cluster.shape().components)
    cluster.world.heal()
    watch = _Watch(cluster)
    took = cluster.rounds_until_one(limit, step=_LOOK, look=watch.look)
    passed, last = limit, min(took, limit) + PERIODS_MAX * _PERIOD
    while passed < last and watch.alike == float("inf"):
        cluster.rounds(_LOOK)
        passed += _LOOK
        watch.look(passed)
    name = "/".join(f"{share:.0%}" for share in shares).replace("%", "")
    return Outcome(
        f"{name} for {rounds}",
        seed,
        {
            "rounds": took,
            "parts": parts,
            "periods": max(0.0, watch.alike - min(took, limit)) / _PERIOD,
            "entries": watch.entries,
        },
        cluster.world.schedule.events,
    )


def _write(cluster: Cluster, rounds: int) -> None:
    """Let ``rounds`` pass and nodes of any part write: new keys, and others' keys."""
    nodes, count = cluster.world.running(), min(rounds, _WRITES_MAX)
    for at in range(count):
        node, other = cluster.any_of(nodes), cluster.any_of(nodes)
        cluster.update(node, ("new", at), at)
        cluster.update(node, other.name, at if at % 2 else None)
        cluster.rounds(rounds / count)


@final
class _Watch:
    """Looks whether all nodes hold what they held together when this was made.

    Attributes:
        entries: How many that are, removed ones included.
        alike: At which look it was so first; infinite before.
    """

    def __init__(self, cluster: Cluster) -> None:
        everything = OrMap("all@sim", HLC())
        self._maps = [each.entries for each in cluster.stack.replicas.values()]
        for entries in self._maps:
            everything.merge(entries.snapshot())
        self._digest = everything.digest()
        self.entries = len(everything.snapshot())
        self.alike = float("inf")

    def look(self, passed: float) -> None:
        """Look, ``passed`` rounds after the heal."""
        if self.alike == float("inf") and all(
            entries.digest() == self._digest for entries in self._maps
        ):
            self.alike = passed

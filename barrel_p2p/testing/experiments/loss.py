"""Messages that get lost although nothing may get lost: what the machines repair alone.

Channels repair loss, so this is harder than any network: each message of either machine
vanishes with some probability. Views have to live with it, and what a broadcast misses
has to be announced again by somebody else.
"""

from __future__ import annotations

from barrel_p2p.testing.experiments.cluster import Cluster
from barrel_p2p.testing.experiments.controls import Control, planted
from barrel_p2p.testing.experiments.crash import SETTLE_ROUNDS
from barrel_p2p.testing.experiments.outcome import Outcome
from barrel_p2p.testing.overlay.faults import Faults
from barrel_p2p.testing.overlay.replica import ANTI_ENTROPY_MS

__all__ = ["loss"]


def loss(
    *, n: int, seed: int, share: float, messages: int = 20, control: Control = ""
) -> Outcome:
    """Lose ``share`` of all messages, and broadcast through it.

    Args:
        n: Nodes.
        seed: Of the run.
        share: 0 to 1.
        messages: One a second, by random nodes.
        control: A defect to plant.
    """
    cluster = Cluster(n, seed, **planted(control))
    cluster.start_all(n)
    cluster.rounds(SETTLE_ROUNDS)
    cluster.world.set_faults(Faults(loss=share, repaired=False))
    nodes = cluster.world.running()
    sent = [cluster.send(cluster.any_of(nodes), 1_000)[0] for _ in range(messages)]
    cluster.world.run_for(2 * ANTI_ENTROPY_MS)
    return Outcome(
        f"{share:.0%}",
        seed,
        {
            "delivered": sum(len(each.reached) for each in sent) / (messages * n),
            "repeated": cluster.traffic.repeated,
            "components": len(cluster.shape().components),
        },
        cluster.world.schedule.events,
    )

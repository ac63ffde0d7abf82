"""Messages that get lost although nothing may get lost: what the machines repair alone.

Channels repair loss, so this is harder than any network: each message of either machine
vanishes with some probability. Views have to live with it; what a broadcast misses has
to be announced again by somebody else, and where all announcements were lost too, a
replica has to learn it by comparing.
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
    """Lose ``share`` of all messages, and broadcast and write through it.

    Args:
        n: Nodes.
        seed: Of the run.
        share: 0 to 1.
        messages: One a second, by random nodes, which also write one entry each.
        control: A defect to plant.
    """
    cluster = Cluster(n, seed, has_replica=True, **planted(control))
    cluster.start_all(n)
    cluster.rounds(SETTLE_ROUNDS)
    cluster.world.set_faults(Faults(loss=share, repaired=False))
    nodes = cluster.world.running()
    sent = []
    for at in range(messages):
        node = cluster.any_of(nodes)
        cluster.update(node, at, at)
        sent.append(cluster.send(node, 1_000)[0])
    cluster.world.run_for(2 * ANTI_ENTROPY_MS)
    held = sum(len(each.entries) for each in cluster.stack.replicas.values())
    return Outcome(
        f"{share:.0%}",
        seed,
        {
            "delivered": held / (messages * n),
            "heard": sum(len(each.reached) for each in sent) / (messages * n),
            "repeated": cluster.traffic.repeated,
            "components": len(cluster.shape().components),
        },
        cluster.world.schedule.events,
    )

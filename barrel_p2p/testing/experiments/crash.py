"""What is left of broadcasts when most processes die at the same instant.

The processes are killed, their hosts live: a channel is known to be over when its next
message or keep-alive is refused, so within one idle timeout all of them are. Messages
begin after that. ``is_told`` off is the harder case of the paper, where nothing but the
messages themselves finds out who is gone.

Source: Leitao, Pereira, Rodrigues, "HyParView", DSN 2007, section 5.2.
"""

from __future__ import annotations

from typing import Final

from barrel_p2p.testing.experiments.cluster import ROUND_MS, Cluster
from barrel_p2p.testing.experiments.controls import Control, planted
from barrel_p2p.testing.experiments.outcome import Outcome
from barrel_p2p.testing.overlay.faults import Detection

__all__ = ["SETTLE_ROUNDS", "heal", "reliability", "reunion"]

SETTLE_ROUNDS: Final = 5
_WAIT_MS: Final = 500
_LAST_MS: Final = 10_000
_NEVER_MS: Final = 1 << 30


def reliability(
    *,
    n: int,
    seed: int,
    share: float,
    messages: int,
    is_told: bool = True,
    control: Control = "",
) -> Outcome:
    """Crash ``share`` of ``n`` nodes; then how many of those left get a message?

    Args:
        n: Nodes.
        seed: Of the run.
        share: 0 to 1.
        messages: Sent one every half second, by random survivors.
        is_told: Channels notice by themselves; else only messages do.
        control: A defect to plant.
    """
    limits = Detection() if is_told else Detection(0, _NEVER_MS)
    cluster = Cluster(n, seed, detection=limits, **planted(control))
    cluster.start_all(n)
    cluster.rounds(SETTLE_ROUNDS)
    alive = cluster.crash_share(share)
    if is_told:
        cluster.world.run_for(limits.idle_timeout_ms)
    sent = [cluster.send(cluster.any_of(alive), _WAIT_MS)[0] for _ in range(messages)]
    cluster.world.run_for(_LAST_MS)
    shares = [len(each.reached) / len(alive) for each in sent]
    return Outcome(
        f"{share:.0%}",
        seed,
        {
            "reliability": sum(shares) / len(shares),
            "first": shares[0],
            "worst": min(shares),
            "repeated": cluster.traffic.repeated,
        },
        cluster.world.schedule.events,
        tuple((at * _WAIT_MS / 1_000, share) for at, share in enumerate(shares)),
    )


def reunion(
    *, n: int, seed: int, share: float, limit: float = 3.0, control: Control = ""
) -> Outcome:
    """Crash all but some, of which one is a seed: rounds until those are one.

    Args:
        n: Nodes, of which the first three are everybody's contacts.
        seed: Of the run.
        share: 0 to 1.
        limit: Rounds to wait.
        control: A defect to plant.
    """
    cluster = Cluster(n, seed, policy="three", **planted(control))
    cluster.start_all(n)
    cluster.rounds(SETTLE_ROUNDS)
    alive = cluster.crash_share(share, spared=[cluster.rng.below(3)])
    rounds = cluster.rounds_until_one(limit)
    left = cluster.shape().components[0] / len(alive)
    return Outcome(
        f"{share:.0%}",
        seed,
        {"rounds": rounds, "largest": left},
        cluster.world.schedule.events,
    )


def heal(
    *, n: int, seed: int, share: float, messages: int = 10, control: Control = ""
) -> Outcome:
    """Crash ``share``; what the first messages of one sender reach, and cost.

    Args:
        n: Nodes.
        seed: Of the run.
        share: 0 to 1.
        messages: One a second before the crash, one a round after it.
        control: A defect to plant.
    """
    cluster = Cluster(n, seed, **planted(control))
    cluster.start_all(n)
    cluster.rounds(SETTLE_ROUNDS)
    before = cluster.any_of(cluster.world.running())
    for _ in range(messages):
        cluster.send(before, 1_000)
    alive = cluster.crash_share(share, spared=[before.index])
    cluster.world.run_for(cluster.world.links.detection.idle_timeout_ms)
    rmr = []
    sent = []
    for _ in range(messages):
        each, redundancy = cluster.send(before, ROUND_MS)
        sent.append(each)
        rmr.append(redundancy)
    cluster.world.run_for(ROUND_MS)
    return Outcome(
        f"{share:.0%}",
        seed,
        {
            "first": len(sent[0].reached) / len(alive),
            "rmr_first": rmr[0],
            "rmr_last": rmr[-1],
        },
        cluster.world.schedule.events,
        tuple((float(at + 1), value) for at, value in enumerate(rmr)),
    )

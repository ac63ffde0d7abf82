"""What a broadcast costs in payloads and hops, once the tree has formed.

All links have one latency, so that the first copy is one that crossed the fewest links:
hops mean little where a long way may be the quick one.

Source: Leitao, Pereira, Rodrigues, "Epidemic Broadcast Trees", SRDS 2007, section 4.
"""

from __future__ import annotations

from typing import Final

from barrel_p2p.testing.experiments.cluster import ROUND_MS, Cluster
from barrel_p2p.testing.experiments.controls import Control, planted
from barrel_p2p.testing.experiments.outcome import Outcome
from barrel_p2p.testing.overlay.traffic import Sent

__all__ = ["BURST_MAX", "burst", "senders"]

BURST_MAX: Final = 1_000
"""Nodes that send at the same instant: every one of 10,000 would be 10^8 deliveries."""

_WAIT_MS: Final = 1_000
_LATENCY_MS: Final = (10, 10)
_SETTLE_ROUNDS: Final = 20
"""Until the views are at rest: a link that is new carries a payload too many."""
_FORMED: Final = 10
"""Messages that the tree may take to form; what comes after them is measured."""


def senders(
    *, n: int, seed: int, is_single: bool, messages: int = 20, control: Control = ""
) -> Outcome:
    """Send one message a second and measure those from the tenth on.

    Args:
        n: Nodes.
        seed: Of the run.
        is_single: One node sends all, or each is sent by another one.
        messages: More than ten.
        control: A defect to plant.
    """
    cluster = Cluster(n, seed, latency_ms=_LATENCY_MS, **planted(control))
    cluster.start_all(n)
    cluster.rounds(_SETTLE_ROUNDS)
    nodes = cluster.world.running()
    sender = cluster.any_of(nodes)
    rmr: list[float] = []
    sent: list[Sent] = []
    before = cluster.payloads()
    for at in range(messages):
        if at == _FORMED - 1:
            before = cluster.payloads()
        each, redundancy = cluster.send(
            sender if is_single else cluster.any_of(nodes), _WAIT_MS
        )
        sent.append(each)
        rmr.append(redundancy)
    cluster.world.run_for(ROUND_MS)
    late = range(_FORMED - 1, messages)
    return Outcome(
        "single" if is_single else "random",
        seed,
        {
            "rmr": cluster.redundancy(before),
            "ldh": max(sent[at].hops_max for at in late),
            "missed": sum(n - len(each.reached) for each in sent),
            "last_ms": max(sent[at].last_ms - sent[at].at_ms for at in late),
        },
        cluster.world.schedule.events,
        tuple((float(at + 1), value) for at, value in enumerate(rmr)),
    )


def burst(*, n: int, seed: int, control: Control = "") -> Outcome:
    """Let every node, or ``BURST_MAX`` of them, send a message at the same instant.

    Args:
        n: Nodes.
        seed: Of the run.
        control: A defect to plant.
    """
    cluster = Cluster(n, seed, latency_ms=_LATENCY_MS, **planted(control))
    cluster.start_all(n)
    cluster.rounds(_SETTLE_ROUNDS)
    nodes = cluster.world.running()
    sender = cluster.any_of(nodes)
    for _ in range(_FORMED):
        cluster.send(sender, _WAIT_MS)
    before = cluster.payloads()
    origins = nodes if n <= BURST_MAX else cluster.rng.sample(nodes, BURST_MAX)
    sent = [cluster.traffic.send(node) for node in origins]
    cluster.world.run_for(ROUND_MS)
    return Outcome(
        "burst",
        seed,
        {
            "rmr": cluster.redundancy(before),
            "ldh": max(each.hops_max for each in sent),
            "missed": sum(n - len(each.reached) for each in sent),
        },
        cluster.world.schedule.events,
    )

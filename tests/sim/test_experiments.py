"""Each experiment, small: what it finds of the machines, and of a planted defect.

The goals themselves, at their sizes, are run by ``make sim``.
"""

from __future__ import annotations

import math

import pytest

from barrel_p2p.broadcast.messages import Graft
from barrel_p2p.core.peers import PeerDown
from barrel_p2p.testing.experiments.arrival import arrival
from barrel_p2p.testing.experiments.churn import churn
from barrel_p2p.testing.experiments.cluster import Cluster, Policy
from barrel_p2p.testing.experiments.crash import heal, reliability, reunion
from barrel_p2p.testing.experiments.liars import liars
from barrel_p2p.testing.experiments.loss import loss
from barrel_p2p.testing.experiments.partition import split
from barrel_p2p.testing.experiments.tree import burst, senders


def test_a_message_reaches_every_survivor_and_not_without_repair() -> None:
    found = reliability(n=100, seed=1, share=0.5, messages=5).figures
    assert (found["reliability"], found["repeated"]) == (1.0, 0)
    broken = reliability(n=100, seed=1, share=0.5, messages=5, control="no repair")
    assert broken.figures["reliability"] < 0.9


def test_survivors_with_a_seed_are_one_and_not_without_repair() -> None:
    assert reunion(n=100, seed=1, share=0.9).figures["rounds"] <= 3
    broken = reunion(n=100, seed=1, share=0.9, control="no repair").figures
    assert math.isinf(broken["rounds"])


@pytest.mark.parametrize("policy", ["single", "three", "random"])
def test_all_who_arrive_are_one_and_not_without_walks(policy: Policy) -> None:
    found = arrival(n=60, seed=10, policy=policy, arrivals="at once").figures
    assert (found["components"], found["faults"]) == (1, 0)
    assert found["active_mean"] > 4.5
    broken = arrival(
        n=60, seed=10, policy=policy, arrivals="at once", control="no walks"
    )
    assert broken.figures["components"] > 1


def test_a_long_split_is_overcome_and_not_by_views_as_published() -> None:
    halves = (0.5, 0.5)
    found = split(n=60, seed=1, shares=halves, rounds=40).figures
    assert found == {
        "rounds": pytest.approx(0.5, abs=0.5),
        "parts": 2,
        "periods": pytest.approx(0.2, abs=0.2),
        "entries": 60 + 40,
    }
    broken = split(n=60, seed=1, shares=halves, rounds=40, control="textbook")
    assert math.isinf(broken.figures["rounds"])


def test_what_was_written_while_apart_is_learned_and_not_without_comparing() -> None:
    parts = (0.9, 0.1)
    found = split(n=60, seed=10, shares=parts, rounds=5).figures
    assert (found["entries"], found["periods"] < 1) == (65, True)
    broken = split(n=60, seed=1, shares=parts, rounds=5, control="no sync").figures
    assert broken["rounds"] <= 3
    assert math.isinf(broken["periods"])


def test_a_broadcast_costs_one_payload_a_node_and_more_where_nobody_prunes() -> None:
    found = senders(n=100, seed=1, is_single=True).figures
    assert found["rmr"] < 0.2
    assert found["missed"] == 0
    flooded = senders(n=100, seed=1, is_single=True, control="flood").figures
    assert flooded["rmr"] > 2


def test_a_burst_of_all_nodes_reaches_all_nodes_and_leaves_the_tree() -> None:
    found = burst(n=60, seed=1).figures
    assert found["missed"] == 0
    assert found["rmr"] < 0.1
    assert burst(n=60, seed=1, control="flood").figures["rmr"] > 2


def test_the_first_message_after_a_crash_reaches_all_and_not_without_repair() -> None:
    assert heal(n=100, seed=1, share=0.5).figures["first"] == 1
    broken = heal(n=100, seed=1, share=0.5, control="no repair").figures
    assert broken["first"] < 0.9


def test_who_stays_hears_everything_and_not_without_repair() -> None:
    found = churn(n=80, seed=1, share=0.05, rounds=10).figures
    assert found["delivered"] == 1
    assert found["active_mean"] > 4.5
    broken = churn(n=80, seed=1, share=0.2, rounds=10, control="no repair").figures
    assert broken["delivered"] < 0.9


def test_what_is_lost_is_asked_for_and_missing_where_nobody_asks() -> None:
    found = loss(n=60, seed=1, share=0.1, messages=5).figures
    assert (found["heard"], found["repeated"]) == (1, 0)
    broken = loss(n=60, seed=1, share=0.1, messages=5, control="no graft").figures
    assert broken["heard"] < 0.99


def test_what_is_written_arrives_even_where_no_broadcast_does() -> None:
    assert loss(n=100, seed=1, share=0.3).figures["delivered"] == 1
    broken = loss(n=100, seed=1, share=0.3, control="no sync").figures
    assert broken["delivered"] < 1


def test_liars_get_no_more_places_than_they_are_due() -> None:
    found = liars(n=100, seed=1).figures
    assert found["components"] == 1
    assert found["held"] <= found["allowed"]
    assert found["probes"] == 1
    assert liars(n=100, seed=1, is_credulous=True).figures["probes"] > 1


@pytest.mark.parametrize("seed", [2, 3])
def test_one_of_a_branch_that_was_cut_off_asks_for_nearly_all_of_it(seed: int) -> None:
    """Its root has no lazy peer who could help, so those below it have to ask."""
    cluster = Cluster(200, seed, latency_ms=(10, 10))
    cluster.start_all(200)
    cluster.rounds(20)
    world = cluster.world
    sender = cluster.any_of(world.running())
    for _ in range(3):
        cluster.send(sender, 1_000)
    root = world.named(next(iter(sender.peers)))
    assert root is not None
    sender.rooms[1].feed(PeerDown(root.name, "dropped"))
    root.rooms[1].feed(PeerDown(sender.name, "dropped"))
    before, asked = cluster.payloads(), world.received[Graft]
    sent, _ = cluster.send(sender, 1_000)
    cut_off = 200 - len(sent.reached)
    assert cut_off > 50
    world.run_for(2_000)
    assert len(sent.reached) == 200
    assert world.received[Graft] - asked < cut_off / 3
    assert cluster.redundancy(before) < 0.1

"""Nodes that know one seed become one overlay, and stay one."""

from __future__ import annotations

import pytest

from barrel_p2p.core.peers import Joined, PeerDown, PeerUp
from tests.overlay_nodes import SimViews


def crowd(n: int, seed: int) -> SimViews:
    views = SimViews(seed=seed)
    views.add("n0@h")
    for i in range(1, n):
        views.add(f"n{i}@h", contacts=("n0@h",))
    return views


@pytest.mark.parametrize("seed", range(3))
def test_twenty_nodes_that_join_one_seed_at_once_have_full_views_in_time(
    seed: int,
) -> None:
    views = crowd(20, seed)
    views.run(5_000)
    assert views.components() == [20]
    assert views.full() == 20
    views.quiet()
    assert views.one_way() == []


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_cluster_no_larger_than_a_view_is_a_mesh(n: int) -> None:
    views = crowd(n, seed=7)
    views.run(5_000)
    for name, node in views.nodes.items():
        assert sorted(node.machine.active_view()) == sorted(
            other for other in views.nodes if other != name
        )


def test_a_lone_node_has_empty_views_and_tells_nothing() -> None:
    """HPV-02, HPV-03, HPV-05, HPV-06: shuffles without peers do nothing."""
    views = SimViews()
    node = views.add("a@h")
    views.run(60_000)
    assert node.machine.active_view() == node.machine.passive_view() == []
    assert node.events == []


def test_two_nodes_tell_of_each_other_once_and_join_once() -> None:
    views = SimViews()
    a, b = views.add("a@h"), views.add("b@h")
    views.join("b@h", "a@h")
    views.run(60_000)
    assert a.events == [PeerUp("b@h"), Joined()]
    assert b.events == [PeerUp("a@h"), Joined()]
    views.crash("a@h")
    views.run(100)
    assert b.events[2:] == [PeerDown("a@h", "idle_timeout")]

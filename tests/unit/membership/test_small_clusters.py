"""A few nodes become one cluster and stay it, with as few peers as they may have."""

from __future__ import annotations

import pytest

from barrel_p2p.core.peers import PeerDown
from barrel_p2p.membership.machine import Settings
from tests.overlay_nodes import SimViews

HOUR_MS = 3_600_000
NAMES = [f"{letter}@h" for letter in "abcde"]


def _started(count: int, settings: Settings, seed: int) -> SimViews:
    """Nodes that all know the first one, and the first one the last."""
    views = SimViews(settings, seed=seed)
    views.add(NAMES[0], contacts=(NAMES[count - 1],))
    for name in NAMES[1:count]:
        views.add(name, contacts=(NAMES[0],))
    return views


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("size", [1, 2, 5])
def test_two_nodes_become_a_pair_and_nothing_parts_them(size: int, seed: int) -> None:
    """Even where both ask each other at once, again and again, by hand."""
    views = _started(2, Settings(active_size=size), seed)
    for name, other in (NAMES[:2], NAMES[1::-1]):
        views.join(name, other)
    views.run(60_000)
    for _ in range(20):
        views.join(NAMES[0], NAMES[1])
        views.join(NAMES[1], NAMES[0])
        views.run(HOUR_MS // 20)
    for name, node in views.nodes.items():
        (other,) = set(views.nodes) - {name}
        assert node.machine.active_view() == [other]
        assert not [event for event in node.events if isinstance(event, PeerDown)]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("count", [3, 4, 5])
def test_few_nodes_with_two_peers_each_hang_together(count: int, seed: int) -> None:
    """The least that a configuration allows: also after each of many rounds."""
    views = _started(count, Settings(active_size=2), seed)
    views.run(60_000)
    for _ in range(20):
        # Whoever has just made room for another may be alone for a moment.
        for _ in range(5):
            if views.components() != [count]:
                views.run(1_000)
        assert views.components() == [count]
        views.run(60_000)
    # With three there is nobody left to take turns with.
    if count == 3:
        before = [len(node.events) for node in views.nodes.values()]
        views.run(HOUR_MS)
        assert [len(node.events) for node in views.nodes.values()] == before


def test_with_one_peer_each_three_nodes_never_rest() -> None:
    """Why a configuration asks for two: one is alone, and takes another's place."""
    views = _started(3, Settings(active_size=1), 1)
    views.run(60_000)
    ups = [node.machine.counters.peer_up for node in views.nodes.values()]
    assert views.components() == [2, 1]
    views.run(600_000)
    later = [node.machine.counters.peer_up for node in views.nodes.values()]
    assert views.components() == [2, 1]
    assert all(now > before for before, now in zip(ups, later, strict=True))

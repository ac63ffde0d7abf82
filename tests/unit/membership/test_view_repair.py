"""A view that lost peers is full again soon, even if those asked first are gone too."""

from __future__ import annotations

import pytest

from barrel_p2p.core.peers import PeerDown
from tests.overlay_nodes import SimViews, address

REPAIR_MS = 10_000


@pytest.mark.parametrize("seed", range(4))
def test_views_refill_when_half_of_the_candidates_have_crashed_too(seed: int) -> None:
    """E4: 24 nodes, of which 12 crash at once: peers and replacements alike."""
    views = SimViews(seed=seed)
    views.add("n00@h")
    for i in range(1, 24):
        views.add(f"n{i:02}@h", contacts=("n00@h",))
    views.run(60_000)
    assert views.full() >= 20
    for i in range(1, 24, 2):
        views.crash(f"n{i:02}@h")
    views.run(REPAIR_MS)
    for node in views.nodes.values():
        # Of an odd rest, the last one to look finds everybody full.
        assert len(node.machine.active_view()) >= views.settings.active_size - 1
        assert [e for e in node.events if isinstance(e, PeerDown)], "it lost nobody"
    assert views.components() == [12]
    views.quiet()
    assert views.one_way() == []


def test_one_candidate_that_lives_is_found_among_those_that_do_not() -> None:
    """E4: the peer is lost, and of five candidates the last one answers."""
    views = SimViews()
    dead = tuple(address(f"dead{i}@h") for i in range(4))
    node = views.add("a@h", remembered=(*dead, address("alive@h")))
    views.add("alive@h")
    views.run(REPAIR_MS)
    assert node.machine.active_view() == ["alive@h"]

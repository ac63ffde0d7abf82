"""The pytest plugin: ``cluster``, ``partition``, ``eventually`` and ``fake_clock``.

pytest loads it by itself where the package is installed. It imports nodes when a test
first asks for one, has no hooks and no options, and needs no other plugin: its fixtures
are plain ones, and what they make is awaited by the test.

Source: docs/how-to/test-your-cluster.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from barrel_p2p.testing.clocks import FakeClock
    from barrel_p2p.testing.clusters import Clusters

__all__ = ["cluster", "eventually", "fake_clock", "partition"]


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Clusters:
    """Makes clusters of real nodes: ``nodes = await cluster(3)``.

    Those that the test leaves running are stopped after it.
    """
    from barrel_p2p.testing.clusters import Clusters

    # What the test itself registers is run before its fixtures end, the loop included.
    return Clusters(tmp_path, request.node.addfinalizer)


@pytest.fixture
def partition() -> Any:
    """Cuts the network between nodes: ``with partition([a], [b, c]):``."""
    from barrel_p2p.testing.partitions import partition as cut

    return cut


@pytest.fixture
def eventually() -> Any:
    """Waits for a claim: ``await eventually(lambda: a.lookup("s"))``."""
    from barrel_p2p.testing.waiting import eventually as wait

    return wait


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that the test moves."""
    from barrel_p2p.testing.clocks import FakeClock

    return FakeClock()

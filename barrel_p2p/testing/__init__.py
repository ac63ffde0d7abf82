"""What tests run nodes on: real clusters, simulated ones, and their goals.

The public names are for users' tests, and are imported on first use: the pytest plugin
must cost nothing where no test asks for a node.

In:   for users: a number of nodes. For simulations: machines of the rooms, and a seed.
Out:  Cluster, FakeClock, cluster, eventually, partition; ``plugin`` has them as pytest
      fixtures. ``overlay``, ``experiments``, ``drawing`` for simulations.
From: docs/how-to/test-your-cluster.md; docs/how-to/simulate.md;
      docs/design/0005-overlay.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from barrel_p2p.testing.clocks import FakeClock
    from barrel_p2p.testing.clusters import TEST_SETTINGS, Cluster, cluster
    from barrel_p2p.testing.partitions import partition
    from barrel_p2p.testing.waiting import eventually
else:

    def __getattr__(name):
        """Import the name's module, and keep the name."""
        if name == "FakeClock":
            from barrel_p2p.testing import clocks as module
        elif name in ("TEST_SETTINGS", "Cluster", "cluster"):
            from barrel_p2p.testing import clusters as module
        elif name == "partition":
            from barrel_p2p.testing import partitions as module
        elif name == "eventually":
            from barrel_p2p.testing import waiting as module
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(module, name)
        return value


__all__ = [
    "TEST_SETTINGS",
    "Cluster",
    "FakeClock",
    "cluster",
    "eventually",
    "partition",
]

"""The node simulator: 3 to 12 whole nodes on one virtual clock, drivers included.

In:   a seed; a simulated network below the channels, and clocks that lie.
Out:  ``World``, ``run``, the goal D1; a trace hash that is equal for equal seeds.
From: docs/how-to/simulate.md; docs/design/0005-overlay.md.
"""

"""The overlay simulator: up to 16,384 nodes' machines on one virtual clock.

In:   a seed; ``build``, which makes a node's machines; faults.
Out:  World, Traffic, Shape; a trace hash that is equal for equal seeds.
From: docs/design/0005-overlay.md; Leitao, Pereira, Rodrigues, "HyParView", DSN 2007
      (what is measured).
"""

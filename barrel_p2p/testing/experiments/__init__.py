"""What the overlay is measured by: one experiment a module, goals with targets, curves.

In:   ``testing.overlay``; a seed, a size and the case's own numbers.
Out:  ``goals.GOALS``, ``runner.run``, ``curves.CURVES``; ``barrel-p2p sim``.
From: docs/how-to/simulate.md; Leitao, Pereira, Rodrigues, "HyParView", DSN 2007, and
      "Epidemic Broadcast Trees", SRDS 2007 (what is measured, and how).
"""

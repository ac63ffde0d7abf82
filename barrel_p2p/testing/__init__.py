"""What tests run nodes on: simulated clusters, and the goals they are measured by.

In:   the machines of ``membership`` and ``broadcast``; a seed.
Out:  ``overlay``, ``experiments``, ``drawing``.
From: docs/how-to/simulate.md; docs/design/0005-overlay.md.
"""

"""Curves of experiments as SVG text, without a library; as PNG with one.

In:   ``Chart``: named series of points.
Out:  ``svg.svg_of``, ``files.write``.
From: the experiments of ``testing.overlay``; the command ``barrel-p2p sim``.
"""

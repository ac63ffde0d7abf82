"""The node itself: the only room that knows all the others.

In:   a configuration; the clocks.
Out:  the data directory, locked, with this life's creation number.
From: Barrel P2P documentation, "Run in production".
"""

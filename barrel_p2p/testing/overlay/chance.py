"""Cheap chance for thousands of machines: the draws of ``core.rng`` over ``random()``.

``random`` and ``getrandbits`` of ``random.Random`` give equal numbers for equal seeds
on every Python. The same is not promised of ``sample`` and ``randrange``.

Compiled in ``_chance.pyx``; what it must do is stated by ``tests/models/chance.py``.
"""

from __future__ import annotations

from barrel_p2p.testing.overlay._chance import SimRng

__all__ = ["SimRng"]

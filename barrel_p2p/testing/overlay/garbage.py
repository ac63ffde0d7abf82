"""Runs without the cyclic garbage collector.

Nearly all garbage of a simulation goes by reference counts; the collector would walk
millions of live objects, again and again, to find the rest.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["uncollected"]


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector from running; within another such block it does nothing.

    Guarantee:
        Afterwards it is as it was before.
    """
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_collecting:
            gc.enable()

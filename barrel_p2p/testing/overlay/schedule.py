"""Virtual time: an agenda of calls, run in the order of their times and their coming.

Compiled in ``_schedule.pyx``; what it must do is stated by
``tests/models/schedule.py``.
"""

from __future__ import annotations

from collections.abc import Callable

from barrel_p2p.testing.overlay._schedule import Schedule, Task

__all__ = ["Call", "Schedule", "Task"]

type Call = Callable[[object, object], object]

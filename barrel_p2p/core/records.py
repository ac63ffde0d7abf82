"""Small values that are made by the million: a constructor that runs no Python.

A frozen dataclass with slots takes a microsecond for what is a few stores. Compiled in
``_records.pyx``; what it must do is stated by ``tests/models/records.py``. Bounded by
``FIELDS_MAX``.
"""

from __future__ import annotations

from barrel_p2p.core._records import FIELDS_MAX, quickly_made

__all__ = ["FIELDS_MAX", "quickly_made"]

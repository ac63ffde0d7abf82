"""What every event of a simulation passes: ends of channels, and machines in rooms.

Compiled in ``_rooms.pyx``; what it must do is stated by ``tests/models/rooms.py``.
"""

from __future__ import annotations

from barrel_p2p.testing.overlay._rooms import (
    DOWN,
    HELD,
    ROOMS_MAX,
    UP,
    End,
    Receiver,
    Room,
)

__all__ = ["DOWN", "HELD", "ROOMS_MAX", "UP", "End", "Receiver", "Room"]

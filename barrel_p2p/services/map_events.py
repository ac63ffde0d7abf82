"""What is told of a replicated map: a key has another value, or none any more.

Source: Barrel P2P documentation, "Replicated maps".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from barrel_p2p.core.events import Event

__all__ = ["MapEvent", "MapPut", "MapRemove"]


@final
@dataclass(frozen=True, slots=True)
class MapPut(Event):
    """``key`` of ``map`` has the value ``value``, and had another one or none."""

    map: str
    key: Any
    value: Any


@final
@dataclass(frozen=True, slots=True)
class MapRemove(Event):
    """``key`` of ``map`` had a value, and has none now."""

    map: str
    key: Any


type MapEvent = MapPut | MapRemove

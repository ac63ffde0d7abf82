"""What is told about the partitions of this node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from barrel_p2p.core.events import Event

__all__ = ["Acquired", "Released", "ShardEvent"]


@final
@dataclass(frozen=True, slots=True)
class Acquired(Event):
    """This node owns ``partition`` from now on. Never told twice in a row."""

    partition: int


@final
@dataclass(frozen=True, slots=True)
class Released(Event):
    """This node owns ``partition`` no more. Told once for each ``Acquired``."""

    partition: int


type ShardEvent = Acquired | Released

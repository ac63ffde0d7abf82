"""What one map holds, and what it has refused, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

__all__ = ["MapStats"]


@final
@dataclass(frozen=True, slots=True)
class MapStats:
    """Figures of one map on one node.

    Attributes:
        keys: That readers see.
        removed: Removed keys that travel still.
        remembered: Removed keys that are only remembered.
        told_again: How often one of these was told to who came with its value.
        refused: Values of others that the validator refused, or that cannot be kept.
        refused_old: Values of others that are older than what was forgotten.
        refused_over: Values that were written in a life which is over.
        overflowed: Keys of others for which there was no room.
        disk: ``none`` for a map in memory; ``degraded`` takes no writes.
        fault: Why it is degraded.
    """

    keys: int
    removed: int
    remembered: int
    told_again: int
    refused: int
    refused_old: int
    refused_over: int
    overflowed: int
    disk: Literal["none", "open", "degraded", "closed"]
    fault: str | None

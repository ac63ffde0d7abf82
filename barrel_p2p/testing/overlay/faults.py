"""What a simulated network may do to messages, and how soon an end is noticed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from barrel_p2p.errors import InvalidValue

__all__ = ["NO_FAULTS", "Detection", "Faults"]


@final
@dataclass(frozen=True, slots=True)
class Detection:
    """How channels notice that their other end is gone.

    Args:
        keep_alive_ms: A silent channel sends something this often, and so meets the
            refusal of a host whose process has died; 0: only messages do.
        idle_timeout_ms: A channel that hears nothing for so long goes down.
        dial_timeout_ms: A dial that gets no answer at all fails after this.
    """

    keep_alive_ms: int = 1_667
    idle_timeout_ms: int = 5_000
    dial_timeout_ms: int = 10_000


@final
@dataclass(frozen=True, slots=True)
class Faults:
    """Chances for each message, 0 to 1.

    Args:
        loss: It never arrives; or, where ``repaired``, one round trip later.
        duplicate: It arrives twice.
        reorder: It is held for 1 to ``hold_ms`` and may be overtaken.
        hold_ms: See ``reorder``.
        jitter_ms: Every message takes 0 to this many milliseconds more.
        repaired: Keep what channels promise: everything arrives, once, in order.
            Without it the machines see what no channel of ours would let them see.

    Raises:
        InvalidValue: A chance is not from 0 to 1, or a time is negative.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    hold_ms: int = 50
    jitter_ms: int = 0
    repaired: bool = True

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidValue(f"{name}={getattr(self, name)} is not from 0 to 1")
        if self.repaired and self.loss == 1:
            raise InvalidValue("loss=1 cannot be repaired: cut the link instead")
        for name in ("hold_ms", "jitter_ms"):
            if getattr(self, name) < 0:
                raise InvalidValue(f"{name}={getattr(self, name)} is negative")


NO_FAULTS: Final = Faults()

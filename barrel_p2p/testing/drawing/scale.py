"""Axes: round numbers for the eye, and where a value is on the paper."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

__all__ = ["Scale", "label_of", "scale_of"]

_STEPS: Final = (1.0, 2.0, 5.0, 10.0)
_TICKS: Final = 6


class Scale(NamedTuple):
    """A linear axis from the first tick to the last."""

    ticks: tuple[float, ...]

    def place(self, value: float, start: float, end: float) -> float:
        """Where ``value`` is between ``start`` and ``end``."""
        low, high = self.ticks[0], self.ticks[-1]
        return start + (value - low) / (high - low) * (end - start)


def scale_of(low: float, high: float) -> Scale:
    """The axis that shows ``low`` to ``high`` with about six round ticks."""
    if high <= low:
        high = low + 1.0
    rough = (high - low) / (_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in _STEPS if s * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Scale(tuple(at * step for at in range(first, max(last, first + 1) + 1)))


def label_of(value: float) -> str:
    """``value`` as a tick says it: no noise of binary fractions, no ``-0``."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text

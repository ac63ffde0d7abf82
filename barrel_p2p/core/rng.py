"""Randomness as an argument: the three draws a machine may make.

A machine gets its ``Rng`` from its owner and uses nothing else, so that a seed replays
a run. Not for secrets.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, final

from barrel_p2p.errors import InvalidValue

__all__ = ["Rng", "SeededRng"]


class Rng(Protocol):
    """What a machine may ask of chance."""

    def below(self, n: int) -> int:
        """Return an integer from 0 to ``n - 1``, each as likely."""
        ...

    def sample[T](self, seq: Sequence[T], k: int) -> list[T]:
        """Return ``k`` different positions of ``seq`` in random order, or all of it."""
        ...

    def jitter(self, ms: int) -> int:
        """Return 0 to ``ms`` milliseconds, each as likely."""
        ...


@final
class SeededRng:
    """A Mersenne Twister of its own: equal seeds draw equally, on every Python.

    Args:
        seed: Any integer. ``secrets.randbits(128)`` where runs need not repeat.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, n: int) -> int:
        """Return an integer from 0 to ``n - 1``.

        Raises:
            InvalidValue: ``n`` is below 1.
        """
        if n < 1:
            raise InvalidValue(f"below({n}): there is no integer from 0 to {n - 1}")
        return self._random.randrange(n)

    def sample[T](self, seq: Sequence[T], k: int) -> list[T]:
        """Return ``k`` different positions of ``seq`` in random order.

        All of them, shuffled, when ``seq`` is shorter.

        Raises:
            InvalidValue: ``k`` is negative.
        """
        if k < 0:
            raise InvalidValue(f"sample of {k} items: the count must not be negative")
        return self._random.sample(seq, min(k, len(seq)))

    def jitter(self, ms: int) -> int:
        """Return 0 to ``ms`` milliseconds.

        Raises:
            InvalidValue: ``ms`` is negative.
        """
        if ms < 0:
            raise InvalidValue(f"jitter of {ms} ms: the bound must not be negative")
        return self.below(ms + 1)

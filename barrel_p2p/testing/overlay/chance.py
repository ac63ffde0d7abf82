"""Cheap chance for thousands of machines: the draws of ``core.rng`` over ``random()``.

``random`` and ``getrandbits`` of ``random.Random`` give equal numbers for equal seeds
on every Python. The same is not promised of ``sample`` and ``randrange``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, final

from barrel_p2p.errors import InvalidValue

__all__ = ["SimRng"]

_FLOAT_EXACT: Final = 1 << 48


@final
class SimRng:
    """An ``Rng``, and what a network needs besides.

    Args:
        seed: Any integer. Two that differ give unrelated draws.
    """

    __slots__ = ("_bits", "_random")

    def __init__(self, seed: int) -> None:
        generator = random.Random(seed)
        self._random = generator.random
        self._bits = generator.getrandbits

    def below(self, n: int) -> int:
        """Return an integer from 0 to ``n - 1``.

        Raises:
            InvalidValue: ``n`` is below 1.
        """
        if n < 1:
            raise InvalidValue(f"below({n}): there is no integer from 0 to {n - 1}")
        if n > _FLOAT_EXACT:
            return self._bits(n.bit_length() + 64) % n
        return int(self._random() * n)

    def sample[T](self, seq: Sequence[T], k: int) -> list[T]:
        """Return ``k`` different positions of ``seq`` in random order, or all of it.

        Raises:
            InvalidValue: ``k`` is negative.
        """
        if k < 0:
            raise InvalidValue(f"sample of {k} items: the count must not be negative")
        pool = list(seq)
        count = len(pool)
        chance = self._random
        for at in range(min(k, count)):
            other = at + int(chance() * (count - at))
            pool[at], pool[other] = pool[other], pool[at]
        return pool[:k]

    def jitter(self, ms: int) -> int:
        """Return 0 to ``ms`` milliseconds.

        Raises:
            InvalidValue: ``ms`` is negative.
        """
        if ms < 0:
            raise InvalidValue(f"jitter of {ms} ms: the bound must not be negative")
        return int(self._random() * (ms + 1))

    def happens(self, probability: float) -> bool:
        """Whether something of that probability, 0 to 1, happens this time."""
        return self._random() < probability

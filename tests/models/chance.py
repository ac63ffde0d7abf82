"""The simulator's chance, plainly."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from barrel_p2p.errors import InvalidValue

__all__ = ["SimRngModel"]

_FLOAT_EXACT: Final = 1 << 48


class SimRngModel:
    """Draws over ``random()`` of one generator."""

    def __init__(self, seed: int) -> None:
        generator = random.Random(seed)
        self._random = generator.random
        self._bits = generator.getrandbits

    def below(self, n: int) -> int:
        if n < 1:
            raise InvalidValue(f"below({n}): there is no integer from 0 to {n - 1}")
        if n > _FLOAT_EXACT:
            return self._bits(n.bit_length() + 64) % n
        return int(self._random() * n)

    def sample[T](self, seq: Sequence[T], k: int) -> list[T]:
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
        if ms < 0:
            raise InvalidValue(f"jitter of {ms} ms: the bound must not be negative")
        return int(self._random() * (ms + 1))

    def happens(self, probability: float) -> bool:
        return self._random() < probability

# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""Draws over ``random()``. Types: ``_chance.pyi``; model: ``tests/models/chance.py``."""

from cpython.list cimport PyList_GET_SIZE
cimport cython

import random

from barrel_p2p.errors import InvalidValue

cdef object _float_exact = 1 << 48


@cython.final
cdef class SimRng:
    """An ``Rng``, and what a network needs besides.

    Args:
        seed: Any integer. Two that differ give unrelated draws.
    """

    cdef object _random
    cdef object _bits

    def __cinit__(self, seed):
        generator = random.Random(seed)
        self._random = generator.random
        self._bits = generator.getrandbits

    def below(self, n):
        """Return an integer from 0 to ``n - 1``.

        Raises:
            InvalidValue: ``n`` is below 1.
        """
        if n < 1:
            raise InvalidValue(f"below({n}): there is no integer from 0 to {n - 1}")
        if n > _float_exact:
            return self._bits(n.bit_length() + 64) % n
        return self.draw(n)

    def sample(self, seq, k):
        """Return ``k`` different positions of ``seq`` in random order, or all of it.

        Raises:
            InvalidValue: ``k`` is negative.
        """
        if k < 0:
            raise InvalidValue(f"sample of {k} items: the count must not be negative")
        cdef list pool = list(seq)
        cdef Py_ssize_t count = PyList_GET_SIZE(pool), at, other
        for at in range(min(k, count)):
            other = at + self.draw(count - at)
            pool[at], pool[other] = pool[other], pool[at]
        return pool[:k]

    def jitter(self, ms):
        """Return 0 to ``ms`` milliseconds.

        Raises:
            InvalidValue: ``ms`` is negative.
        """
        if ms < 0:
            raise InvalidValue(f"jitter of {ms} ms: the bound must not be negative")
        return self.draw(ms + 1)

    def happens(self, double probability):
        """Whether something of that probability, 0 to 1, happens this time."""
        return <double>self._random() < probability

    cdef long long draw(self, long long n) except -1:
        return <long long>(<double>self._random() * <double>n)

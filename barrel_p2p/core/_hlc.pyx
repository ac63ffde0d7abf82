# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Hybrid logical clock. Types: ``_hlc.pyi``; model: ``tests/models/hlc.py``.

A stamp is wall milliseconds and a counter. A clock issues counters up to
``ISSUED_COUNTER_MAX`` and carries into the wall beyond, so that every stamp it issues
packs into a fence. Peers may send 32 bits; how far one can push a clock is bounded by
``max_drift_ms``.

Source: Kulkarni, Demirbas, Madappa, Avva, Leone, "Logical Physical Clocks and
Consistent Snapshots in Globally Distributed Databases", OPODIS 2014; the drift bound
follows CockroachDB's maximum offset.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport Py_EQ, Py_GE, Py_GT, Py_LE, Py_LT
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec
cimport cython

import datetime as dt

from xxhash import xxh3_64_intdigest

from barrel_p2p.core.clock import SystemClock
from barrel_p2p.errors import ClockDrift, InvalidValue, WireError

cdef extern from *:
    """
    #define BP_WALL_MS_MAX 253402300799999ULL
    #define BP_COUNTER_MAX 4294967295U
    #define BP_ISSUED_COUNTER_MAX 8191U
    #define BP_FENCE_EPOCH_MS 1704067200000ULL
    #define BP_FENCE_WALL_MS_MAX (BP_FENCE_EPOCH_MS + (1ULL << 42) - 1)
    #define BP_FENCE_COUNTER_BITS 13
    #define BP_FENCE_TAG_BITS 8
    #define BP_TIMESTAMP_BYTES 12
    """
    const uint64_t BP_WALL_MS_MAX
    const uint32_t BP_COUNTER_MAX
    const uint32_t BP_ISSUED_COUNTER_MAX
    const uint64_t BP_FENCE_EPOCH_MS
    const uint64_t BP_FENCE_WALL_MS_MAX
    const int BP_FENCE_COUNTER_BITS
    const int BP_FENCE_TAG_BITS
    const int BP_TIMESTAMP_BYTES

# 9999-12-31T23:59:59.999Z: every stamp has a datetime, and the sum of two fits 64 bits.
WALL_MS_MAX = BP_WALL_MS_MAX
COUNTER_MAX = BP_COUNTER_MAX
ISSUED_COUNTER_MAX = BP_ISSUED_COUNTER_MAX
TIMESTAMP_BYTES = BP_TIMESTAMP_BYTES
FENCE_EPOCH_MS = BP_FENCE_EPOCH_MS
FENCE_WALL_MS_MAX = BP_FENCE_WALL_MS_MAX
MAX_DRIFT_MS_DEFAULT = 60_000

_UNIX_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def node_tag(str node not None):
    """Return the low 8 bits of XXH3-64 of ``node`` in UTF-8: its part of a fence."""
    return xxh3_64_intdigest(node.encode()) & ((1 << BP_FENCE_TAG_BITS) - 1)


@cython.final
@cython.freelist(64)
cdef class Timestamp:
    """One instant of a hybrid logical clock. Immutable; ordered by wall, then counter.

    Args:
        wall_ms: Milliseconds since 1970-01-01 UTC, 0 to ``WALL_MS_MAX``.
        counter: Tells stamps of one millisecond apart, 0 to ``COUNTER_MAX``.

    Raises:
        InvalidValue: An argument is not an integer in its range.
    """

    __match_args__ = ("wall_ms", "counter")

    def __cinit__(self, wall_ms=None, counter=None):
        # None is the way of new_timestamp(), which fills the fields itself.
        if wall_ms is not None:
            self.wall_ms = _bounded("wall_ms", wall_ms, 0, BP_WALL_MS_MAX)
        if counter is not None:
            self.counter = <uint32_t>_bounded("counter", counter, 0, BP_COUNTER_MAX)

    def to_binary(self):
        """Return 8 bytes of wall and 4 of counter, big endian: they sort like stamps."""
        cdef bytes out = PyBytes_FromStringAndSize(NULL, BP_TIMESTAMP_BYTES)
        cdef unsigned char *to = <unsigned char *>PyBytes_AS_STRING(out)
        cdef int i
        for i in range(8):
            to[i] = <unsigned char>(self.wall_ms >> (56 - 8 * i))
        for i in range(4):
            to[8 + i] = <unsigned char>(self.counter >> (24 - 8 * i))
        return out

    @classmethod
    def from_binary(cls, data):
        """Return the stamp whose ``to_binary`` is ``data``.

        Raises:
            WireError: ``data`` is not 12 bytes, or its wall exceeds ``WALL_MS_MAX``.
        """
        cdef bytes exact = data if type(data) is bytes else bytes(memoryview(data))
        if len(exact) != BP_TIMESTAMP_BYTES:
            raise WireError(
                f"timestamp of {len(exact)} bytes; TIMESTAMP_BYTES={TIMESTAMP_BYTES}"
            )
        cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(exact)
        cdef uint64_t wall_ms = 0
        cdef uint32_t counter = 0
        cdef int i
        for i in range(8):
            wall_ms = (wall_ms << 8) | at[i]
        for i in range(8, 12):
            counter = (counter << 8) | at[i]
        if wall_ms > BP_WALL_MS_MAX:
            raise WireError(
                f"timestamp wall of {wall_ms} ms exceeds WALL_MS_MAX={WALL_MS_MAX}"
            )
        return new_timestamp(wall_ms, counter)

    def pack(self, str node not None):
        """Return this stamp as a fence: an integer below 2^63 that orders like stamps.

        Args:
            node: Name of the node that issued the stamp. Stamps are unique on a node;
                its 8-bit tag tells two nodes' equal stamps apart, most of the time.

        Raises:
            InvalidValue: The wall is outside ``FENCE_EPOCH_MS`` to
                ``FENCE_WALL_MS_MAX``, or the counter exceeds ``ISSUED_COUNTER_MAX``.
        """
        return _fence(self, node_tag(node))

    def __iter__(self):
        return iter((self.wall_ms, self.counter))

    def __hash__(self):
        # Peers choose stamps; bytes hash with a seed, so they cannot aim at collisions.
        return hash(self.to_binary())

    def __richcmp__(self, other, int op):
        if type(other) is not Timestamp:
            return NotImplemented
        cdef int sign = order(self, <Timestamp>other)
        if op == Py_EQ:
            return sign == 0
        if op == Py_LT:
            return sign < 0
        if op == Py_LE:
            return sign <= 0
        if op == Py_GT:
            return sign > 0
        if op == Py_GE:
            return sign >= 0
        return sign != 0

    def __repr__(self):
        return f"Timestamp(wall_ms={self.wall_ms}, counter={self.counter})"

    def __reduce__(self):
        # Without it copy.copy and copy.deepcopy refuse; they come this way.
        return Timestamp, (self.wall_ms, self.counter)


@cython.final
cdef class HLC:
    """One node's clock. Not thread-safe: it belongs to the node's event loop.

    Args:
        clock: The wall clock, anything with ``wall_ms()``. None or a ``SystemClock``:
            ``CLOCK_REALTIME``, read in C.
        max_drift_ms: How far ahead of the wall clock a peer's stamp may be, in
            milliseconds, 1 to ``WALL_MS_MAX``.
        floor: Every stamp issued will be greater: the bound kept from an earlier run.
        node: Name of the node, needed only by ``pack``.

    Raises:
        InvalidValue: ``max_drift_ms`` is out of range.

    Guarantee:
        Stamps issued are strictly increasing whatever the wall clock does, and each is
        greater than every stamp merged before it. No peer's stamp puts the clock more
        than ``max_drift_ms`` ahead of the wall. It gets further ahead only when the
        wall steps back, and by one millisecond when a full counter carries.
    """

    def __cinit__(
        self,
        clock=None,
        *,
        max_drift_ms=MAX_DRIFT_MS_DEFAULT,
        Timestamp floor=None,
        str node=None,
    ):
        self._clock = None if type(clock) is SystemClock else clock
        self.max_drift_ms = _bounded("max_drift_ms", max_drift_ms, 1, BP_WALL_MS_MAX)
        self._tag = -1 if node is None else node_tag(node)
        if floor is not None:
            self._wall_ms = floor.wall_ms
            self._counter = floor.counter

    cdef int _read_wall(self, uint64_t *wall_ms) except -1:
        cdef timespec t
        cdef int64_t system_ms
        if self._clock is not None:
            wall_ms[0] = _reading(self._clock.wall_ms())
            return 0
        clock_gettime(CLOCK_REALTIME, &t)
        system_ms = t.tv_sec * <int64_t>1000 + t.tv_nsec // 1_000_000
        if 0 <= system_ms <= <int64_t>BP_WALL_MS_MAX:
            wall_ms[0] = <uint64_t>system_ms
        else:
            wall_ms[0] = _reading(system_ms)
        return 0

    cdef int _advance(self, uint64_t wall_ms, uint32_t counter) except -1:
        # Move to the successor of (wall_ms, counter). It carries long before 32 bits
        # are full, so that what this clock issues always packs.
        if counter < BP_ISSUED_COUNTER_MAX:
            self._wall_ms = wall_ms
            self._counter = counter + 1
            return 0
        if wall_ms >= BP_WALL_MS_MAX:
            raise InvalidValue(
                f"the clock stands at its end, WALL_MS_MAX={WALL_MS_MAX}",
                hint="Correct the system clock or the floor it was started with.",
            )
        self._wall_ms = wall_ms + 1
        self._counter = 0
        return 0

    cpdef Timestamp now(self):
        """Issue the next stamp.

        Raises:
            InvalidValue: The wall clock reads beyond ``WALL_MS_MAX``, the year 9999.
        """
        cdef uint64_t wall_ms
        self._read_wall(&wall_ms)
        if wall_ms > self._wall_ms:
            self._wall_ms = wall_ms
            self._counter = 0
        else:
            self._advance(self._wall_ms, self._counter)
        return new_timestamp(self._wall_ms, self._counter)

    cpdef Timestamp update(self, Timestamp peer):
        """Merge a stamp received from a peer and issue one greater than it and our own.

        Raises:
            ClockDrift: ``peer``, or the stamp after it, is more than ``max_drift_ms``
                ahead of the wall clock. Counted in ``drift_refused``; the clock stays
                as it was.
            InvalidValue: The wall clock reads beyond ``WALL_MS_MAX``.
        """
        cdef uint64_t wall_ms, follows_ms
        if peer is None:
            raise TypeError("peer must be a Timestamp, not None")
        self._read_wall(&wall_ms)
        # A full counter carries: it is where the clock would stand that has to be near.
        follows_ms = peer.wall_ms + (peer.counter >= BP_ISSUED_COUNTER_MAX)
        if follows_ms > wall_ms + self.max_drift_ms:
            self.drift_refused += 1
            raise ClockDrift(
                f"{peer!r} leads {follows_ms - wall_ms} ms ahead of the local clock; "
                f"hlc_max_drift_ms={self.max_drift_ms}",
                hint="Synchronise the clocks of both nodes, for instance with NTP.",
            )
        if wall_ms > self._wall_ms and wall_ms > peer.wall_ms:
            self._wall_ms = wall_ms
            self._counter = 0
        elif peer.wall_ms > self._wall_ms or (
            peer.wall_ms == self._wall_ms and peer.counter > self._counter
        ):
            self._advance(peer.wall_ms, peer.counter)
        else:
            self._advance(self._wall_ms, self._counter)
        return new_timestamp(self._wall_ms, self._counter)

    def drift_limit_ms(self):
        """Return the greatest wall part, in milliseconds, that ``update`` takes now.

        Raises:
            InvalidValue: The wall clock reads beyond ``WALL_MS_MAX``.
        """
        cdef uint64_t wall_ms
        self._read_wall(&wall_ms)
        return wall_ms + self.max_drift_ms

    def pack(self, Timestamp ts not None):
        """Return a stamp that this clock issued as a fence; see ``Timestamp.pack``.

        Raises:
            InvalidValue: The stamp does not fit, or the clock has no node name.
        """
        if self._tag < 0:
            raise InvalidValue(
                "a clock without a node name cannot pack a fence",
                hint="Create it as HLC(node=name), or call ts.pack(name).",
            )
        return _fence(ts, self._tag)

    @staticmethod
    def compare(Timestamp a not None, Timestamp b not None):
        """Return -1, 0 or 1 as ``a`` is less than, equal to or greater than ``b``."""
        return order(a, b)

    @staticmethod
    def wall_time(Timestamp ts not None):
        """Return the wall part in milliseconds since 1970-01-01 UTC."""
        return ts.wall_ms

    @staticmethod
    def wall_datetime(Timestamp ts not None):
        """Return the wall part as an aware datetime in UTC, without rounding."""
        return _UNIX_EPOCH + dt.timedelta(milliseconds=ts.wall_ms)

    @staticmethod
    def logical(Timestamp ts not None):
        """Return the counter."""
        return ts.counter

    @staticmethod
    def to_binary(Timestamp ts not None):
        """Return the 12 bytes of ``ts``; see ``Timestamp.to_binary``."""
        return ts.to_binary()

    @staticmethod
    def from_binary(data):
        """Return the stamp in 12 bytes; see ``Timestamp.from_binary``."""
        return Timestamp.from_binary(data)


cdef Timestamp new_timestamp(uint64_t wall_ms, uint32_t counter):
    # Requires wall_ms <= BP_WALL_MS_MAX.
    cdef Timestamp ts = Timestamp.__new__(Timestamp)
    ts.wall_ms = wall_ms
    ts.counter = counter
    return ts


cdef int order(Timestamp a, Timestamp b) noexcept:
    if a.wall_ms != b.wall_ms:
        return 1 if a.wall_ms > b.wall_ms else -1
    return (a.counter > b.counter) - (a.counter < b.counter)


cdef uint64_t _bounded(str what, object value, uint64_t low, uint64_t high) except? 0:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise InvalidValue(f"{what}={_shown(value)} is not an integer from {low} to {high}")


cdef str _shown(object value):
    # Printing an integer of any size can itself raise, or print for minutes.
    if isinstance(value, int) and value.bit_length() > 64:
        return f"(integer of {value.bit_length()} bits)"
    return repr(value)


cdef uint64_t _reading(object wall_ms) except? 0:
    # A clock before 1970 counts as 1970: stamps go on growing until it is set.
    if isinstance(wall_ms, int) and wall_ms < 0:
        return 0
    return _bounded("wall_ms()", wall_ms, 0, BP_WALL_MS_MAX)


cdef object _fence(Timestamp ts, int tag):
    cdef uint64_t fence
    if not BP_FENCE_EPOCH_MS <= ts.wall_ms <= BP_FENCE_WALL_MS_MAX:
        raise InvalidValue(
            f"{ts!r} does not fit a fence: wall_ms must be from FENCE_EPOCH_MS="
            f"{FENCE_EPOCH_MS} to FENCE_WALL_MS_MAX={FENCE_WALL_MS_MAX}"
        )
    if ts.counter > BP_ISSUED_COUNTER_MAX:
        raise InvalidValue(
            f"{ts!r} does not fit a fence: ISSUED_COUNTER_MAX={ISSUED_COUNTER_MAX}",
            hint="Pack only stamps that a clock of this package issued.",
        )
    fence = (ts.wall_ms - BP_FENCE_EPOCH_MS) << BP_FENCE_COUNTER_BITS | ts.counter
    return fence << BP_FENCE_TAG_BITS | <uint64_t>tag

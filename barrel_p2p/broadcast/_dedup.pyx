# cython: language_level=3, boundscheck=False, wraparound=False
# distutils: sources = csrc/codec/seen_ids.c
"""Message ids seen lately. Types: ``_dedup.pyi``; model: ``tests/models/dedup.py``."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
cimport cython

from barrel_p2p.errors import InvalidValue

cdef extern from "codec/seen_ids.h" nogil:
    const uint32_t BP_SEEN_ID_BYTES
    const uint32_t BP_SEEN_COUNT_TOP

    ctypedef struct bp_seen_ids_t:
        uint32_t count
        uint32_t count_max
        uint64_t evicted
        int64_t ttl_ms

    void bp_seen_init(bp_seen_ids_t *t, uint32_t count_max, int64_t ttl_ms, const uint64_t *key)
    int bp_seen_add(bp_seen_ids_t *t, const uint8_t *id, int64_t now_ms)
    int bp_seen_has(const bp_seen_ids_t *t, const uint8_t *id, int64_t now_ms)
    uint32_t bp_seen_expire(bp_seen_ids_t *t, int64_t now_ms, uint32_t limit)
    uint64_t bp_seen_bytes(const bp_seen_ids_t *t)
    void bp_seen_clear(bp_seen_ids_t *t)

ID_BYTES = BP_SEEN_ID_BYTES
IDS_TOP = BP_SEEN_COUNT_TOP


@cython.final
cdef class SeenIds:
    """The ids of the messages that were seen in the last ``ttl_ms``. Not thread-safe.

    Args:
        ids_max: Ids kept, 1 to ``IDS_TOP``; the oldest goes first when there are more.
            One takes 32 bytes while the table is full, up to 64 while it grows.
        ttl_ms: How long an id counts as seen, 1 ms or more.
        key: A random integer of up to 128 bits that peers must not know.

    Raises:
        InvalidValue: An argument is out of range.
    """

    cdef bp_seen_ids_t _table

    def __cinit__(self, ids_max, *, ttl_ms, key):
        cdef uint64_t words[2]
        cdef int64_t ttl = _bounded("ttl_ms", ttl_ms, 1, 1 << 53)
        cdef uint32_t count_max = <uint32_t>_bounded("ids_max", ids_max, 1, IDS_TOP)
        words[0] = <uint64_t>(key & 0xFFFFFFFFFFFFFFFF)
        words[1] = <uint64_t>((key >> 64) & 0xFFFFFFFFFFFFFFFF)
        bp_seen_init(&self._table, count_max, ttl, words)

    def __dealloc__(self):
        bp_seen_clear(&self._table)

    def add(self, message_id, int64_t now_ms):
        """Remember ``message_id``; return whether it is new.

        Args:
            message_id: ``ID_BYTES`` bytes.
            now_ms: Monotonic time. An id that is known keeps its first time.

        Raises:
            InvalidValue: ``message_id`` has another length or type.
        """
        cdef int found = bp_seen_add(&self._table, _id_of(message_id), now_ms)
        if found < 0:
            raise MemoryError("no memory for the id of a message")
        return found == 1

    def has(self, message_id, int64_t now_ms):
        """Return whether it was seen, and not longer ago than ``ttl_ms``.

        Raises:
            InvalidValue: ``message_id`` is not ``ID_BYTES`` bytes.
        """
        return bp_seen_has(&self._table, _id_of(message_id), now_ms) == 1

    def unknown(self, ids, int64_t now_ms):
        """Return which of several ids were not seen, by position.

        Args:
            ids: Any number of ids, one after the other.
            now_ms: Monotonic time.

        Raises:
            InvalidValue: ``ids`` is not bytes, or ends inside an id.
        """
        if not PyBytes_CheckExact(ids) or PyBytes_GET_SIZE(ids) % BP_SEEN_ID_BYTES:
            raise InvalidValue(f"ids are bytes, {ID_BYTES} for each")
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(ids)
        cdef Py_ssize_t count = PyBytes_GET_SIZE(ids) // BP_SEEN_ID_BYTES
        cdef Py_ssize_t i
        cdef list found = []
        for i in range(count):
            if not bp_seen_has(&self._table, at + i * BP_SEEN_ID_BYTES, now_ms):
                found.append(i)
        return found

    def expire(self, int64_t now_ms, uint32_t limit=IDS_TOP):
        """Forget at most ``limit`` ids whose time is over; return how many those were."""
        return bp_seen_expire(&self._table, now_ms, limit)

    def __len__(self):
        return self._table.count

    @property
    def ids_max(self):
        """Ids kept at most."""
        return self._table.count_max

    @property
    def ttl_ms(self):
        """How long an id counts as seen."""
        return self._table.ttl_ms

    @property
    def evicted(self):
        """Ids given up before their time was over, because there were too many."""
        return self._table.evicted

    @property
    def held_bytes(self):
        """Bytes allocated."""
        return bp_seen_bytes(&self._table)


cdef const uint8_t *_id_of(id) except NULL:
    if not PyBytes_CheckExact(id) or PyBytes_GET_SIZE(id) != BP_SEEN_ID_BYTES:
        shown = f"{len(id)} bytes" if isinstance(id, bytes) else type(id).__name__
        raise InvalidValue(f"a message id is {ID_BYTES} bytes, not {shown}")
    return <const uint8_t *>PyBytes_AS_STRING(id)


cdef int64_t _bounded(str name, value, int64_t lowest, int64_t highest) except -1:
    if type(value) is not int or not lowest <= value <= highest:
        raise InvalidValue(f"{name} is not an integer {lowest} to {highest}")
    return value

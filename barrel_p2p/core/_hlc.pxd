from libc.stdint cimport uint32_t, uint64_t


cdef class Timestamp:
    cdef readonly uint64_t wall_ms   # at most WALL_MS_MAX
    cdef readonly uint32_t counter


cdef class HLC:
    cdef uint64_t _wall_ms           # the greatest stamp issued or merged so far
    cdef uint32_t _counter
    cdef object _clock               # None: CLOCK_REALTIME, read in C
    cdef int _tag                    # fence tag of the node, -1 without a name
    cdef readonly uint64_t max_drift_ms
    cdef readonly uint64_t drift_refused

    cdef int _read_wall(self, uint64_t *wall_ms) except -1
    cdef int _advance(self, uint64_t wall_ms, uint32_t counter) except -1
    cpdef Timestamp now(self)
    cpdef Timestamp update(self, Timestamp peer)


cdef Timestamp new_timestamp(uint64_t wall_ms, uint32_t counter)
cdef int order(Timestamp a, Timestamp b) noexcept

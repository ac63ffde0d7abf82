"""The agenda, for compiled callers."""

from libc.stdint cimport int64_t


cdef class Task:
    # What is to be done with the two that were given with it.
    cdef int run(self, object a, object b) except -1


cdef class Schedule:
    cdef readonly int64_t now_ms
    cdef readonly int64_t events
    cdef dict _buckets       # millisecond -> [call, a, b, call, a, b, ...]
    cdef list _times         # its keys, as a heap

    cdef int add(self, int64_t when_ms, object call, object a, object b) except -1

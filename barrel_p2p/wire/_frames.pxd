"""Frames for compiled callers: split a receive arena in place, write headers in place.

``bp_frame_write_header`` is inline in the header. The splitting functions are linked
into ``_frames`` only: elsewhere, split through ``Splitter.next``.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t


cdef extern from "codec/frame.h" nogil:
    const unsigned int BP_FRAME_HEADER_BYTES
    const unsigned int BP_FRAME_LENGTH_MIN
    const unsigned int BP_FRAME_LENGTH_TOP
    const int BP_FRAME_NONE
    const int BP_FRAME_READY
    const int BP_E_FRAME_SHORT
    const int BP_E_FRAME_LIMIT
    const int BP_E_FRAME_MEMORY

    ctypedef struct bp_frame_t:
        const uint8_t *body
        size_t body_bytes
        uint8_t kind
        uint8_t flags

    ctypedef struct bp_splitter_t:
        uint8_t *carry
        size_t carried
        size_t capacity
        uint32_t length_max
        uint32_t announced
        int status
        int lent

    void bp_frame_write_header(
        uint8_t *out, uint8_t kind, uint8_t flags, size_t body_bytes
    )


cdef class Frame:
    cdef readonly uint8_t kind
    cdef readonly uint8_t flags
    cdef readonly bytes body


cdef class Splitter:
    cdef bp_splitter_t _split
    cdef readonly object peer        # whom to blame, or None

    # BP_FRAME_READY: *frame is set, lent from [*pos, end) or from the splitter until
    # the next call; BP_FRAME_NONE: the chunk is used up; below 0: call fail().
    cdef int next(
        self, const uint8_t **pos, const uint8_t *end, bp_frame_t *frame
    ) noexcept nogil
    # Raises the WireError that describes the status the splitter ended with.
    cdef int fail(self) except -1
    cdef list _split_chunk(self, const uint8_t *pos, Py_ssize_t size)


cdef Frame new_frame(const bp_frame_t *frame)

"""A peer's one-way streams for compiled callers: override ``FrameSink.frame``."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t

from barrel_p2p.quic._pump cimport RawStream
from barrel_p2p.wire._frames cimport Splitter, bp_frame_t


cdef class FrameSink:
    cdef public object owner        # takes what a subclass does not; None: nobody

    # One frame, lent for the call. The default makes a Frame for owner.frame_received.
    # While stream.waiting is set by it, the stream hands over no further frame.
    cdef int frame(self, InboundStream stream, const bp_frame_t *frame) except -1


cdef class InboundStream(RawStream):
    cdef readonly int role          # its first byte; -1 before that
    cdef public FrameSink sink
    cdef readonly bint waiting      # keeps what arrives, in `kept`
    cdef readonly bint broken       # drops what arrives
    cdef Splitter splitter
    cdef bint ended                 # FIN has come
    cdef list kept
    cdef uint64_t owed              # bytes handled but not credited, while held
    cdef int holds

    cdef Py_ssize_t split(self, const uint8_t *pos, const uint8_t *end) except -1
    cdef int announce(self) except -1
    cdef int conclude(self) except -1
    cdef int keep(self, const uint8_t *pos, const uint8_t *end) except -1
    cdef int credit(self, uint64_t length) except -1
    # hold: handled bytes are no longer credited, so that the peer soon has to stop.
    cdef int hold(self) except -1
    cdef int unhold(self) except -1

# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
# distutils: include_dirs = csrc
"""A peer's one-way stream: its role byte, then frames, split where they arrived.

The stream's ``FrameSink`` decides which roles it takes and what a frame means. What a
frame's handler raises stays with that frame: a ``WireError`` ends the stream's use and is
told to the sink, as is a want of memory, because then a frame was lost; anything else is
reported and the next frame goes on.

Types: ``_inbound.pyi``. Source: docs/reference/wire.md, "Streams".
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
cimport cython

from barrel_p2p.quic._pump cimport Pump, RawStream
from barrel_p2p.wire._frames cimport BP_FRAME_READY, Splitter, bp_frame_t, new_frame

from barrel_p2p.errors import WireError


cdef class FrameSink:
    """Takes the frames of one connection's one-way streams, for its ``owner``.

    A compiled subclass overrides ``frame`` and passes on what it does not take itself.
    """

    cdef int frame(self, InboundStream stream, const bp_frame_t *frame) except -1:
        self.frame_received(stream, new_frame(frame))
        return 0

    def role_announced(self, InboundStream stream):
        """The stream's first byte has come: check ``stream.role``, keep the stream.

        Raises:
            WireError: No such stream may exist now.
        """
        if self.owner is None:
            raise WireError(f"a stream of role {stream.role} is not expected")
        self.owner.role_announced(stream)

    def frame_received(self, InboundStream stream, frame):
        """A frame has come, in the stream's order."""
        if self.owner is not None:
            self.owner.frame_received(stream, frame)

    def stream_over(self, InboundStream stream, clean):
        """No more frames will come. ``clean``: the peer ended it, between two frames."""
        if self.owner is not None:
            self.owner.stream_over(stream, clean)

    def stream_broken(self, InboundStream stream, error):
        """The stream broke a rule; what follows on it is dropped."""
        if self.owner is not None:
            self.owner.stream_broken(stream, error)


@cython.final
cdef class InboundStream(RawStream):
    """One stream that the peer opened towards us. Credits what its sink has handled.

    Args:
        connection: Whose stream it is.
        handle: The engine's.
        stream_id: QUIC's.
        sink: Takes role and frames.
        frame_bytes_max: Greatest length field accepted.
        peer: Whom errors blame.
    """

    def __cinit__(
        self, connection, uint64_t handle, uint64_t stream_id, FrameSink sink not None,
        frame_bytes_max, str peer
    ):
        self.role = -1
        self.sink = sink
        self.splitter = Splitter(frame_bytes_max, peer=peer)
        self.kept = []

    def __init__(self, connection, handle, stream_id, sink, frame_bytes_max, peer):
        pass  # __cinit__ has done it; this only names the parameters.

    def wait(self):
        """Keep what arrives, uncredited, until ``go_on``. Flow control bounds it."""
        self.waiting = True

    def go_on(self):
        """Hand over what was kept, and what arrives from now on as it arrives."""
        cdef list kept = self.kept
        cdef bytes chunk
        cdef const uint8_t *at
        if not self.waiting:
            return
        self.waiting = False
        self.kept = []
        for chunk in kept:
            at = <const uint8_t *>PyBytes_AS_STRING(chunk)
            self.credit(self.split(at, at + PyBytes_GET_SIZE(chunk)))
        self.conclude()
        self.connection.pump.schedule()

    cdef int keep(self, const uint8_t *pos, const uint8_t *end) except -1:
        if pos < end:
            self.kept.append(PyBytes_FromStringAndSize(<const char *>pos, end - pos))
        return 0

    cdef int hold(self) except -1:
        self.holds += 1
        return 0

    cdef int unhold(self) except -1:
        cdef uint64_t owed = self.owed
        if self.holds > 0:
            self.holds -= 1
        if self.holds == 0 and owed > 0:
            self.owed = 0
            self.consumed(owed)
        return 0

    cdef int credit(self, uint64_t length) except -1:
        cdef Pump pump = self.connection.pump
        if self.holds > 0:
            self.owed += length
        elif length > 0 and pump.engine != NULL and not self.released:
            pump.hot.consumed(pump.engine, self.handle, length)
        return 0

    cdef int take(self, const uint8_t *data, size_t length, bint fin) except -1:
        cdef const uint8_t *pos = data
        if fin:
            self.ended = True
        if length > 0 and self.role < 0:
            self.role = data[0]
            pos += 1
            self.credit(1)
            self.announce()
        self.credit(self.split(pos, data + length))
        return self.conclude()

    cdef int announce(self) except -1:
        if self.broken:
            return 0
        try:
            self.sink.role_announced(self)
        except (WireError, MemoryError) as error:
            self.fail(error)
        except Exception as error:
            # Nobody has said what the stream is for, so its frames mean nothing.
            self.connection.pump.on_error(error)
            self.fail(WireError(f"a stream of role {self.role} was not taken"))
        return 0

    cdef Py_ssize_t split(self, const uint8_t *pos, const uint8_t *end) except -1:
        # Returns the bytes that are done with; those that wait are not.
        cdef const uint8_t *start = pos
        cdef bp_frame_t frame
        cdef int status = BP_FRAME_READY
        while not self.broken and not self.waiting:
            status = self.splitter.next(&pos, end, &frame)
            if status != BP_FRAME_READY:
                break
            try:
                self.sink.frame(self, &frame)
            except (WireError, MemoryError) as error:
                self.fail(error)
            except Exception as error:
                self.connection.pump.on_error(error)
        if status < 0:
            try:
                self.splitter.fail()
            except (WireError, MemoryError) as error:
                self.fail(error)
        if self.waiting and not self.broken:
            self.keep(pos, end)
            return pos - start
        return end - start

    cdef int conclude(self) except -1:
        if not self.ended or self.waiting or self.broken:
            return 0
        self.ended = False  # It is told once.
        try:
            self.splitter.finish()
        except (WireError, MemoryError) as error:
            self.fail(error)
        else:
            self.sink.stream_over(self, True)
        return 0

    def fail(self, error):
        """Drop what follows, and tell the sink why."""
        if not self.broken:
            self.broken = True
            self.kept.clear()
            self.sink.stream_broken(self, error)

    def reset_received(self, error_code):
        """Engine callback."""
        if not self.broken:
            self.broken = True
            self.kept.clear()
            self.sink.stream_over(self, False)

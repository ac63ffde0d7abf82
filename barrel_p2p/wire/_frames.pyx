# cython: language_level=3, boundscheck=False, wraparound=False
# distutils: sources = csrc/codec/frame.c
"""Frames: bytes in, frames out. Types: ``_frames.pyi``; model: ``tests/models/frames.py``.

A body is a ``bytes`` copy, not a view: up to several KiB the copy costs less than making
a view, and above that a view would keep a chunk of up to a megabyte alive for one frame.
Compiled callers avoid the copy with ``Splitter.next``.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.long cimport PyLong_AsLongAndOverflow, PyLong_Check
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t
from libc.string cimport memcpy
cimport cython

from barrel_p2p.errors import InvalidValue, NotEncodable, WireError
from barrel_p2p.wire.limits import FRAME_BYTES_MAX as _FRAME_BYTES_MAX

cdef extern from "codec/frame.h" nogil:
    void bp_splitter_init(bp_splitter_t *s, uint32_t length_max)
    int bp_splitter_next(
        bp_splitter_t *s, const uint8_t **pos, const uint8_t *end, bp_frame_t *frame
    )
    void bp_splitter_refuse(bp_splitter_t *s, int error)
    void bp_splitter_clear(bp_splitter_t *s)

cdef Py_ssize_t _BODY_BYTES_MAX = _FRAME_BYTES_MAX - BP_FRAME_LENGTH_MIN

HEADER_BYTES = BP_FRAME_HEADER_BYTES


@cython.final
@cython.freelist(256)
cdef class Frame:
    """One frame: a kind and flags, 0 to 255 each, and a body. Immutable.

    Equal and hashed by value. Nothing here knows what a kind means.
    """

    __match_args__ = ("kind", "flags", "body")

    def __cinit__(self, kind=0, flags=0, bytes body not None=b""):
        self.kind = <uint8_t>_octet("kind", kind)
        self.flags = <uint8_t>_octet("flags", flags)
        self.body = body

    def __richcmp__(self, other, int op):
        if type(other) is not Frame or op not in (2, 3):
            return NotImplemented
        cdef Frame that = <Frame>other
        cdef bint equal = (
            self.kind == that.kind
            and self.flags == that.flags
            and self.body == that.body
        )
        return equal if op == 2 else not equal

    def __hash__(self):
        return hash((self.kind, self.flags, self.body))

    def __repr__(self):
        shown = repr(self.body[:32])
        if len(self.body) > 32:
            shown = f"<{len(self.body)} bytes, {shown}...>"
        return f"Frame(kind={self.kind}, flags={self.flags}, body={shown})"

    def __reduce__(self):
        # copy.copy and copy.deepcopy come this way.
        return Frame, (self.kind, self.flags, self.body)


cdef Frame new_frame(const bp_frame_t *frame):
    cdef Frame made = Frame.__new__(Frame)
    made.kind = frame.kind
    made.flags = frame.flags
    made.body = PyBytes_FromStringAndSize(
        <const char *>frame.body, <Py_ssize_t>frame.body_bytes
    )
    return made


@cython.final
cdef class Splitter:
    """One stream's bytes back into its frames, however they were cut.

    Holds only a torn frame: at most twice the bytes received of it, and never more
    than ``frame_bytes_max`` and a length. Not thread-safe.

    Args:
        frame_bytes_max: Greatest length field accepted, 2 to 2^30 bytes.
        peer: Whom errors blame: a node name, or an address before there is one.

    Raises:
        InvalidValue: ``frame_bytes_max`` is out of range.
    """

    def __cinit__(self, frame_bytes_max=_FRAME_BYTES_MAX, *, str peer=None):
        cdef long long value = _limit(frame_bytes_max)
        bp_splitter_init(&self._split, <uint32_t>value)
        self.peer = peer

    def __dealloc__(self):
        bp_splitter_clear(&self._split)

    cdef int next(
        self, const uint8_t **pos, const uint8_t *end, bp_frame_t *frame
    ) noexcept nogil:
        return bp_splitter_next(&self._split, pos, end, frame)

    cdef int fail(self) except -1:
        cdef int status = self._split.status
        sender = "" if self.peer is None else f" from {self.peer}"
        if status == BP_E_FRAME_MEMORY:
            raise MemoryError(f"no memory for a frame{sender}")
        told = f"frame of {self._split.announced} bytes{sender}"
        if status == BP_E_FRAME_SHORT:
            raise WireError(
                f"{told} has no room for kind and flags, {BP_FRAME_LENGTH_MIN} bytes",
                peer=self.peer,
            )
        raise WireError(
            f"{told} exceeds frame_bytes_max={self._split.length_max}",
            hint="send larger values on a user stream",
            peer=self.peer,
        )

    def feed(self, chunk):
        """Take the stream's next bytes; return the frames they complete, in order.

        Args:
            chunk: Any number of bytes. Not kept: bodies are copies.

        Raises:
            WireError: A length is below 2 or above ``frame_bytes_max``. Frames that
                the same chunk completed before it are dropped, and every later call
                raises the same: the channel is over.
            NotEncodable: ``chunk`` is not contiguous bytes. Nothing was taken.
        """
        if PyBytes_CheckExact(chunk):
            return self._split_chunk(
                <const uint8_t *>PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk)
            )
        cdef Py_buffer view
        _borrow("chunk", chunk, &view)
        try:
            return self._split_chunk(<const uint8_t *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef list _split_chunk(self, const uint8_t *pos, Py_ssize_t size):
        cdef list frames = []
        cdef const uint8_t *end = pos + size
        cdef bp_frame_t frame
        cdef int status = self.next(&pos, end, &frame)
        try:
            while status == BP_FRAME_READY:
                frames.append(new_frame(&frame))
                status = self.next(&pos, end, &frame)
        except MemoryError:
            # Frames were lost, so nothing after them may be delivered.
            bp_splitter_refuse(&self._split, BP_E_FRAME_MEMORY)
            raise
        if status < 0:
            self.fail()
        return frames

    def finish(self):
        """Say that the stream has ended.

        Raises:
            WireError: It ended inside a frame, or was refused before.
        """
        if self._split.status < 0:
            self.fail()
        if self.pending_bytes:
            sender = "" if self.peer is None else f" of {self.peer}"
            raise WireError(
                f"stream{sender} ended {self.pending_bytes} bytes into a frame",
                peer=self.peer,
            )

    @property
    def frame_bytes_max(self):
        """Greatest length field accepted, in bytes."""
        return self._split.length_max

    @property
    def pending_bytes(self):
        """Bytes received of a frame that is not complete yet."""
        return 0 if self._split.lent else self._split.carried

    @property
    def held_bytes(self):
        """Bytes allocated for torn frames."""
        return self._split.capacity


def encode(kind, flags, body):
    """Return one frame's bytes.

    Args:
        kind: 0 to 255; see ``barrel_p2p.wire.kinds``.
        flags: 0 to 255.
        body: At most ``FRAME_BYTES_MAX - 2`` bytes.

    Raises:
        InvalidValue: An argument is out of range.
        NotEncodable: ``body`` is not contiguous bytes.
    """
    cdef uint8_t k = _octet("kind", kind)
    cdef uint8_t f = _octet("flags", flags)
    if PyBytes_CheckExact(body):
        return _encode(
            k, f, <const uint8_t *>PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body)
        )
    cdef Py_buffer view
    _borrow("body", body, &view)
    try:
        return _encode(k, f, <const uint8_t *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


def encode_many(frames):
    """Return the bytes of several frames, one after the other, in one buffer.

    Args:
        frames: ``Frame`` objects or ``(kind, flags, body)`` tuples, with the limits
            of :func:`encode`.

    Raises:
        InvalidValue: A part of a frame is out of range.
        NotEncodable: An item is not a frame, or its body not contiguous bytes.
    """
    cdef list checked = [_checked(item) for item in frames]
    cdef Frame frame
    cdef Py_ssize_t total = 0
    for frame in checked:
        total += BP_FRAME_HEADER_BYTES + PyBytes_GET_SIZE(frame.body)
    cdef bytes out = PyBytes_FromStringAndSize(NULL, total)
    cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(out)
    for frame in checked:
        to = _write(
            to,
            frame.kind,
            frame.flags,
            <const uint8_t *>PyBytes_AS_STRING(frame.body),
            PyBytes_GET_SIZE(frame.body),
        )
    return out


cdef Frame _checked(frame):
    cdef Frame made
    if type(frame) is Frame:
        made = <Frame>frame
    elif type(frame) is tuple and len(<tuple>frame) == 3:
        kind, flags, body = <tuple>frame
        made = Frame(kind, flags, body if type(body) is bytes else _copy(body))
    else:
        raise NotEncodable(
            f"{type(frame).__name__} is neither a Frame nor (kind, flags, body)"
        )
    _check_body(PyBytes_GET_SIZE(made.body))
    return made


cdef bytes _copy(body):
    cdef Py_buffer view
    _borrow("body", body, &view)
    try:
        return PyBytes_FromStringAndSize(<const char *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


cdef bytes _encode(uint8_t kind, uint8_t flags, const uint8_t *body, Py_ssize_t size):
    _check_body(size)
    cdef bytes out = PyBytes_FromStringAndSize(NULL, BP_FRAME_HEADER_BYTES + size)
    _write(<uint8_t *>PyBytes_AS_STRING(out), kind, flags, body, size)
    return out


cdef inline uint8_t *_write(
    uint8_t *to, uint8_t kind, uint8_t flags, const uint8_t *body, Py_ssize_t size
) noexcept:
    bp_frame_write_header(to, kind, flags, <size_t>size)
    if size:
        memcpy(to + BP_FRAME_HEADER_BYTES, body, <size_t>size)
    return to + BP_FRAME_HEADER_BYTES + size


cdef int _check_body(Py_ssize_t size) except -1:
    if size > _BODY_BYTES_MAX:
        raise InvalidValue(
            f"frame of {size + BP_FRAME_LENGTH_MIN} bytes exceeds "
            f"FRAME_BYTES_MAX={_FRAME_BYTES_MAX}",
            hint="send larger values on a user stream",
        )
    return 0


cdef int _octet(str name, value) except -1:
    cdef int overflow = 0
    cdef long number = -1
    if PyLong_Check(value):
        number = PyLong_AsLongAndOverflow(value, &overflow)
    if overflow or not 0 <= number <= 255:
        raise InvalidValue(f"{name} {_shown(value)} is not an integer 0..255")
    return <int>number


cdef long long _limit(value) except -1:
    if type(value) is not int or not BP_FRAME_LENGTH_MIN <= value <= BP_FRAME_LENGTH_TOP:
        raise InvalidValue(
            f"frame_bytes_max {_shown(value)} is not an integer "
            f"{BP_FRAME_LENGTH_MIN}..{BP_FRAME_LENGTH_TOP}"
        )
    return value


cdef str _shown(value):
    # Printing an integer of any size can itself raise, or print for minutes.
    if isinstance(value, int) and value.bit_length() > 64:
        return f"(integer of {value.bit_length()} bits)"
    return repr(value)


cdef int _borrow(str name, value, Py_buffer *view) except -1:
    try:
        PyObject_GetBuffer(value, view, PyBUF_SIMPLE)
    except (TypeError, BufferError) as error:
        raise NotEncodable(
            f"{name} of type {type(value).__name__} is not contiguous bytes"
        ) from error
    return 0

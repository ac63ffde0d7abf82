# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# distutils: sources = csrc/codec/key_probe.c csrc/codec/term_weigh.c
"""Terms: values to bytes and back. Types: ``_terms.pyi``; model: ``tests/models/terms.py``.

Values nest on a stack of our own, at most ``TERM_DEPTH_MAX`` frames. Failures are codes
until ``term_raise`` turns one into an exception. No Python code runs meanwhile: types
are exact, so no method of a caller's class is ever called.

Source: Erlang/OTP, ERTS User's Guide, "External Term Format".
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject, PyTypeObject
from libc.stddef cimport size_t
from libc.stdint cimport (
    UINT64_MAX,
    int32_t,
    int64_t,
    uint8_t,
    uint16_t,
    uint32_t,
    uint64_t,
)
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from barrel_p2p.core._terms cimport (
    ATOM_CHARS,
    Atom,
    Pid,
    REF_WORDS,
    Ref,
    is_node_name,
    is_reserved,
    new_atom,
    new_pid,
    new_ref,
)
from barrel_p2p.wire._objects cimport *

from barrel_p2p.errors import InvalidValue, NotEncodable, WireError
from barrel_p2p.wire import limits as _limits

cdef extern from "codec/term.h":
    enum:
        BP_TAG_NEW_FLOAT
        BP_TAG_NEW_PID
        BP_TAG_NEWER_REFERENCE
        BP_TAG_SMALL_INTEGER
        BP_TAG_INTEGER
        BP_TAG_ATOM
        BP_TAG_SMALL_TUPLE
        BP_TAG_LARGE_TUPLE
        BP_TAG_NIL
        BP_TAG_STRING
        BP_TAG_LIST
        BP_TAG_BINARY
        BP_TAG_SMALL_BIG
        BP_TAG_LARGE_BIG
        BP_TAG_SMALL_ATOM
        BP_TAG_MAP
        BP_TAG_ATOM_UTF8
        BP_TAG_SMALL_ATOM_UTF8
        BP_TERM_VERSION
        BP_TAG_SMALL_STR
        BP_TAG_STR
        BP_TAG_SET
        BP_TAG_FROZENSET
    enum:
        BP_TERM_OK
        BP_E_TERM_VERSION
        BP_E_TERM_TAG
        BP_E_TERM_SHORT
        BP_E_TERM_TRAILING
        BP_E_TERM_COUNT
        BP_E_TERM_DEPTH
        BP_E_TERM_BYTES
        BP_E_TERM_MEMORY
        BP_E_TERM_NODES
        BP_E_TERM_INT
        BP_E_TERM_SIGN
        BP_E_TERM_UTF8
        BP_E_TERM_ATOM
        BP_E_TERM_NODE
        BP_E_TERM_WORDS
        BP_E_TERM_TAIL
        BP_E_TERM_UNHASHABLE
        BP_E_TERM_NAN
        BP_E_TERM_DUPLICATE
        BP_E_TERM_COLLISION
        BP_E_TERM_TYPE
        BP_E_TERM_KEY
        BP_E_TERM_ALLOC

cdef extern from "codec/words.h":
    const size_t BP_SHORT_MAX
    uint16_t bp_get16(const uint8_t *p) noexcept
    uint32_t bp_get32(const uint8_t *p) noexcept
    uint64_t bp_get_little(const uint8_t *p, size_t n) noexcept
    double bp_get_double(const uint8_t *p) noexcept
    void bp_put16(uint8_t *p, uint16_t v) noexcept
    void bp_put32(uint8_t *p, uint32_t v) noexcept
    void bp_put64_little(uint8_t *p, uint64_t v) noexcept
    void bp_put_double(uint8_t *p, double v) noexcept
    unsigned bp_width(uint64_t v) noexcept
    bint bp_is_ascii(const uint8_t *p, size_t n) noexcept
    void bp_short_copy(uint8_t *to, const uint8_t *from_, size_t n) noexcept
    bint bp_short_equal(const uint8_t *a, const uint8_t *b, size_t n) noexcept
    uint64_t bp_short_hash(const uint8_t *p, size_t n) noexcept

cdef extern from "codec/term_weigh.h":
    const uint64_t BP_TERM_DENSITY_MAX
    ctypedef struct bp_term_weight_t:
        uint64_t memory
        uint64_t nodes
        size_t offset
        uint64_t count
    int bp_term_weigh(
        const uint8_t *data, size_t size, bp_term_weight_t *weight
    ) noexcept
    uint64_t bp_term_late_memory(uint64_t keys) noexcept

cdef extern from "codec/key_probe.h":
    ctypedef enum bp_probe_kind_t:
        BP_PROBE_DICT
        BP_PROBE_SET
    ctypedef struct bp_key_probe_t:
        pass
    void bp_key_probe_init(bp_key_probe_t *p, bp_probe_kind_t kind) noexcept
    void bp_key_probe_add_secret(bp_key_probe_t *p) noexcept
    bint bp_key_probe_is_late(const bp_key_probe_t *p) noexcept
    int bp_key_probe_add(
        bp_key_probe_t *p, int64_t hash, uint64_t weight, uint64_t steps_max,
        uint64_t *steps
    ) noexcept
    void bp_key_probe_clear(bp_key_probe_t *p) noexcept

cdef enum:
    STACK = 256          # TERM_DEPTH_MAX
    NAME_SLOTS = 1024    # STR_CACHE_SLOTS
    NAME_SHIFT = 54      # a hash of 64 bits to a slot
    ATOM_SLOTS = 256     # ATOM_CACHE_SLOTS
    ATOM_SHIFT = 56
    PROBED_FROM = 17     # fewer keys cannot collide often enough to matter
    NESTED_SHIFT = 5     # comparing sets looks keys up again, level upon level
    PATH_PARTS = 12      # innermost containers that an error text names
    SCRATCH_KEPT = 262144

# What a term has cost so far. A term too short to be weighed has no memory_max.
cdef struct Tally:
    uint64_t steps
    uint64_t memory
    uint64_t memory_max

cdef TermLimits _default_limits
_default_limits.bytes_max = _limits.TERM_BYTES_MAX
_default_limits.memory_max = 0
_default_limits.depth_max = _limits.TERM_DEPTH_MAX

cdef TermLimits _key_limits
_key_limits.bytes_max = _limits.KEY_TERM_BYTES_MAX
_key_limits.memory_max = 0
_key_limits.depth_max = _limits.KEY_TERM_DEPTH_MAX

cdef uint64_t _int_bits_max = _limits.INT_BITS_MAX
cdef uint64_t _nodes_max = _limits.TERM_NODES_MAX
cdef uint64_t _memory_free = _limits.TERM_MEMORY_FREE
cdef uint64_t _memory_per_byte = _limits.TERM_MEMORY_PER_BYTE
cdef uint64_t _key_steps_free = _limits.KEY_STEPS_FREE
cdef uint64_t _key_steps_per_byte = _limits.KEY_STEPS_PER_BYTE

if (_limits.TERM_DEPTH_MAX, _limits.STR_CACHE_SLOTS, _limits.ATOM_CACHE_SLOTS) != (
    STACK, NAME_SLOTS, ATOM_SLOTS
):
    raise ImportError("wire/_terms was built for other limits: run `make setup`")

# Short ASCII names that peers sent, by hash; a later one takes the place of an earlier.
cdef PyObject *_names[NAME_SLOTS]
cdef PyObject *_atoms[ATOM_SLOTS]

# The buffer that encode() works in, kept between calls.
cdef uint8_t *_scratch = NULL
cdef size_t _scratch_room = 0

include "_term_reader.pxi"
include "_term_scalars_in.pxi"
include "_term_writer.pxi"
include "_term_scalars_out.pxi"
include "_term_faults.pxi"


def encode(value):
    """Return ``value`` as a term, version byte included.

    Args:
        value: None, bool, int, float, bytes, str, tuple, list, dict, set, frozenset,
            ``Atom``, ``Pid``, ``Ref``, and any nesting of these. Of subclasses only
            bool is accepted: any other would arrive as its base.

    Raises:
        NotEncodable: Something inside has no form as a term, or a receiver would refuse
            it for a limit of ``barrel_p2p.wire.limits``. The text names the place.

    Guarantee: ``decode(encode(v))`` equals ``v`` in value and type, dicts in order.
    """
    return _encode(<PyObject *>value, &_default_limits, False)


def key_bytes(key):
    """Return the one encoding of a key term: what stands for it in hashes and stores.

    Args:
        key: str, bytes, int, ``Atom``, ``Pid`` or a tuple of key terms, at most
            ``KEY_TERM_DEPTH_MAX`` tuples deep and ``KEY_TERM_BYTES_MAX`` bytes encoded.

    Raises:
        NotEncodable: ``key`` is none. The text names the part that is not.

    Guarantee: ``key_bytes(a) == key_bytes(b)`` if and only if ``a == b``, and
    ``decode(key_bytes(a)) == a``.
    """
    return _encode(<PyObject *>key, &_key_limits, True)


def decode(data, *, bytes_max=None, memory_max=None, depth_max=None):
    """Return the value of one term that fills ``data``, version byte included.

    Bytes are read in place, so that no copy of ``data`` is made; strings and bytes of the
    value are copies, which keep ``data`` alive no longer than the call.

    Args:
        data: Contiguous bytes.
        bytes_max: Longest term to accept, in bytes; ``TERM_BYTES_MAX`` when None.
        memory_max: Most memory that the value may take, in bytes; when None,
            ``TERM_MEMORY_PER_BYTE`` for each byte of ``data``, but at least
            ``TERM_MEMORY_FREE``.
        depth_max: Deepest nesting to accept, 1 to ``TERM_DEPTH_MAX``.

    Raises:
        WireError: ``data`` is no term of the closed subset, or exceeds a limit. The text
            names the offset. Nothing of the value is kept.
        InvalidValue: An argument is not of its type or out of range.
    """
    cdef TermLimits limits = _default_limits
    cdef TermFault fault
    cdef PyObject *value
    cdef Py_buffer view
    if bytes_max is not None:
        limits.bytes_max = _limit("bytes_max", bytes_max, 1 << 31)
    if memory_max is not None:
        limits.memory_max = _limit("memory_max", memory_max, 1 << 40)
    if depth_max is not None:
        limits.depth_max = <int>_limit("depth_max", depth_max, STACK)
    if type(data) is bytes:
        value = _read_term(
            <const uint8_t *>PyBytes_AS_STRING(<PyObject *>data),
            <size_t>PyBytes_GET_SIZE(<PyObject *>data), &limits, &fault
        )
    else:
        _borrow(data, &view)
        value = _read_term(
            <const uint8_t *>view.buf, <size_t>view.len, &limits, &fault
        )
        PyBuffer_Release(&view)
    if value == NULL:
        term_raise(&fault, True, None)
    return _own(value)


cdef TermLimits term_limits() noexcept:
    return _default_limits


cdef int term_write(TermBuffer *out, PyObject *value, TermFault *fault) noexcept:
    return _write_term(out, value, &_default_limits, False, fault)


cdef PyObject *term_read(
    const uint8_t *data, size_t size, const TermLimits *limits, TermFault *fault
) noexcept:
    if limits == NULL:
        limits = &_default_limits
    return _read_term(data, size, limits, fault)


cdef bytes _encode(PyObject *value, const TermLimits *limits, bint key_only):
    global _scratch, _scratch_room
    cdef TermBuffer out
    cdef TermFault fault
    cdef PyObject *made = NULL
    cdef int code
    # Taken, not shared: should anything ever encode meanwhile, it gets its own.
    out.base = _scratch
    out.room = _scratch_room
    out.used = 0
    out.grow = _grow_scratch
    _scratch = NULL
    _scratch_room = 0
    code = _write_term(&out, value, limits, key_only, &fault)
    if code == BP_TERM_OK:
        made = PyBytes_FromStringAndSize(<const char *>out.base, <Py_ssize_t>out.used)
    if out.room > SCRATCH_KEPT or _scratch != NULL:
        free(out.base)
    else:
        _scratch = out.base
        _scratch_room = out.room
    if code != BP_TERM_OK:
        term_raise(&fault, False, None)
    return <bytes>_own(made)


cdef int _grow_scratch(TermBuffer *out, size_t more) noexcept:
    cdef size_t room = max(2 * out.room, out.used + more, <size_t>1024)
    cdef uint8_t *base = <uint8_t *>realloc(out.base, room)
    if base == NULL:
        return -1
    out.base = base
    out.room = room
    return 0


cdef inline object _own(PyObject *value):
    # Turn a new reference into an object; NULL means that an exception is set.
    if value == NULL:
        raise MemoryError
    cdef object made = <object>value
    Py_DECREF(value)
    return made


cdef int _borrow(object data, Py_buffer *view) except -1:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidValue(
            f"cannot decode a {type(data).__name__}",
            hint="pass bytes, a bytearray or a memoryview",
        )
    try:
        return PyObject_GetBuffer(data, view, PyBUF_SIMPLE)
    except BufferError as error:
        raise InvalidValue("cannot decode a memoryview with gaps") from error


cdef uint64_t _limit(str name, object value, uint64_t top) except 0:
    if type(value) is not int or not 1 <= value <= top:
        raise InvalidValue(f"{name}={value!r} is not an integer of 1 to {top}")
    return value


cdef inline bint _is_weighed(size_t size, const TermLimits *limits) noexcept:
    # A shorter term cannot exceed the limit, whatever it holds.
    return size * BP_TERM_DENSITY_MAX > (limits.memory_max or _memory_free)


cdef int _weigh(
    const uint8_t *data, size_t size, const TermLimits *limits, Tally *tally,
    TermFault *fault
) noexcept:
    # What tally holds already is added; afterwards it says how much more may come.
    cdef bp_term_weight_t weight
    tally.memory_max = limits.memory_max
    if tally.memory_max == 0:
        tally.memory_max = max(_memory_free, _memory_per_byte * size)
    fault.code = bp_term_weigh(data + 1, size - 1, &weight)
    fault.offset = weight.offset + 1
    fault.tag = data[fault.offset] if fault.offset < size else -1
    fault.got = weight.count
    fault.limit = size - fault.offset
    fault.where = NULL
    tally.memory += weight.memory
    if fault.code == BP_TERM_OK and weight.nodes > _nodes_max:
        fault.code = BP_E_TERM_NODES
        fault.got = weight.nodes
        fault.limit = _nodes_max
    if fault.code == BP_TERM_OK and tally.memory > tally.memory_max:
        fault.code = BP_E_TERM_MEMORY
        fault.got = tally.memory
        fault.limit = tally.memory_max
    return fault.code


cdef int _count_key(
    bp_key_probe_t *probe, PyObject *key, Py_ssize_t keys, size_t weight,
    size_t offset, Tally *tally
) noexcept:
    # Only these four types have hashes that a peer can compute.
    cdef PyTypeObject *kind = Py_TYPE(key)
    cdef Py_ssize_t hashed
    if not (
        kind == &PyLong_Type or kind == &PyFloat_Type
        or kind == &PyTuple_Type or kind == &PyFrozenSet_Type
    ):
        bp_key_probe_add_secret(probe)
        return BP_TERM_OK
    hashed = PyObject_Hash(key)
    if hashed == -1:
        return BP_E_TERM_ALLOC
    if bp_key_probe_is_late(probe):
        tally.memory += bp_term_late_memory(<uint64_t>keys)
        if tally.memory > tally.memory_max:
            return BP_E_TERM_MEMORY
    return bp_key_probe_add(
        probe, hashed, weight, _key_steps_free + _key_steps_per_byte * offset,
        &tally.steps
    )

# Values to bytes. Included by _terms.pyx.
#
# A value is written by one of two loops, over items or over pairs, that stop at each
# container inside, so nesting costs a frame of our own stack and none of C's.

cdef enum OutKind:
    OUT_LIST
    OUT_TUPLE
    OUT_SET
    OUT_DICT

cdef enum:
    OPEN = 1             # _write met the container w.child
    HEAD = 32            # holds every head, and every value of fixed size whole

cdef struct OutFrame:
    OutKind kind
    bint in_key          # its elements are (parts of) keys
    bint probing
    bint nested          # the container itself is part of a key
    PyObject *box        # borrowed; of a set the list of its members, owned
    PyObject **items     # of all but a dict
    Py_ssize_t at        # next item, or the position PyDict_Next wants
    Py_ssize_t size
    PyObject *key        # the key or member being written, else NULL; borrowed
    PyObject *value      # of that key, to be written next; borrowed
    PyObject *shown      # the key of the value being written, for error texts; borrowed
    size_t key_from      # offset at which key began
    bp_key_probe_t probe

cdef struct Writer:
    TermBuffer *out
    uint8_t *pos         # valid whenever a function has returned NULL
    uint8_t *end
    size_t from_         # offset of the term in out
    size_t bytes_max
    Tally tally
    uint64_t got
    uint64_t limit
    PyObject *child
    PyObject *offender
    int code
    int depth
    int depth_max
    bint key_only        # key terms and nothing else
    OutFrame *stack


cdef int _write_term(
    TermBuffer *out, PyObject *value, const TermLimits *limits, bint key_only,
    TermFault *fault
) noexcept:
    cdef OutFrame stack[STACK]
    cdef Writer w
    cdef uint8_t *pos
    memset(&w, 0, sizeof(w))
    w.out = out
    w.from_ = out.used
    w.bytes_max = limits.bytes_max
    w.depth_max = limits.depth_max
    w.key_only = key_only
    w.tally.memory_max = UINT64_MAX
    w.stack = stack
    # An empty buffer may have no base yet.
    if out.room - out.used < HEAD and out.grow(out, HEAD) != 0:
        w.code = BP_E_TERM_ALLOC
        _fault_out(&w, fault)
        return fault.code
    w.pos = out.base + out.used
    w.end = out.base + out.room
    w.pos[0] = BP_TERM_VERSION
    pos = _write(&w, w.pos + 1, value, key_only)
    if pos == NULL and w.code == OPEN:
        pos = _open_out(&w)
    while pos != NULL and w.depth > 0:
        pos = _resume_out(&w, pos)
    if pos != NULL:
        out.used = pos - out.base
        if _judge_out(&w, limits) == BP_TERM_OK:
            return BP_TERM_OK
    _fault_out(&w, fault)
    out.used = w.from_
    return fault.code


cdef inline uint8_t *_resume_out(Writer *w, uint8_t *pos) noexcept:
    cdef OutFrame *f = &w.stack[w.depth - 1]
    if f.kind == OUT_DICT:
        pos = _write_pairs(w, f, pos)
    elif f.kind == OUT_SET:
        pos = _write_members(w, f, pos)
    else:
        pos = _write_items(w, f, pos)
    if pos == NULL and w.code == OPEN:
        pos = _open_out(w)
    return pos


cdef uint8_t *_write_items(Writer *w, OutFrame *f, uint8_t *pos) noexcept:
    cdef Py_ssize_t i
    for i in range(f.at, f.size):
        pos = _write(w, pos, f.items[i], f.in_key)
        if pos == NULL:
            f.at = i + 1
            return NULL
    w.depth -= 1
    if f.kind == OUT_LIST:
        pos = _room(w, pos, HEAD)
        if pos == NULL:
            return NULL
        pos[0] = BP_TAG_NIL
        pos += 1
    return pos


cdef uint8_t *_write_pairs(Writer *w, OutFrame *f, uint8_t *pos) noexcept:
    cdef PyObject *value = NULL
    while True:
        if f.key == NULL:
            if not PyDict_Next(f.box, &f.at, &f.key, &value):
                break
            f.key_from = pos - w.out.base
            pos = _write(w, pos, f.key, True)
            if pos == NULL:
                f.value = value
                return NULL
        else:
            value = f.value        # The key was a container and has been written.
        if f.probing and _count_out(w, f, pos) != BP_TERM_OK:
            return NULL
        f.shown = f.key
        f.key = NULL
        pos = _write(w, pos, value, False)
        if pos == NULL:
            return NULL
    if f.probing:
        bp_key_probe_clear(&f.probe)
    f.key = NULL
    w.depth -= 1
    return pos


cdef uint8_t *_write_members(Writer *w, OutFrame *f, uint8_t *pos) noexcept:
    while True:
        if f.key == NULL:
            if f.at == f.size:
                break
            f.key = f.items[f.at]
            f.at += 1
            f.key_from = pos - w.out.base
            pos = _write(w, pos, f.key, True)
            if pos == NULL:
                return NULL
        if f.probing and _count_out(w, f, pos) != BP_TERM_OK:
            return NULL
        f.key = NULL
    if f.probing:
        bp_key_probe_clear(&f.probe)
    Py_DECREF(f.box)
    w.depth -= 1
    return pos


cdef uint8_t *_write(Writer *w, uint8_t *pos, PyObject *value, bint in_key) noexcept:
    # The position after the value; or NULL, and w.code is OPEN or an error.
    cdef PyTypeObject *kind = Py_TYPE(value)
    if <size_t>(w.end - pos) < HEAD:
        pos = _grow_out(w, pos, HEAD)
        if pos == NULL:
            return NULL
    if kind == &PyUnicode_Type:
        return _write_str(w, pos, value)
    if kind == &PyLong_Type:
        return _write_int(w, pos, value)
    if kind == &PyBytes_Type:
        return _write_run(
            w, pos, BP_TAG_BINARY, <const uint8_t *>PyBytes_AS_STRING(value),
            <size_t>PyBytes_GET_SIZE(value)
        )
    if kind == &PyDict_Type or kind == &PyTuple_Type or kind == &PyList_Type:
        w.child = value
        return _stop(w, pos, OPEN, value)
    return _write_rare(w, pos, value, kind, in_key)


cdef uint8_t *_write_rare(
    Writer *w, uint8_t *pos, PyObject *value, PyTypeObject *kind, bint in_key
) noexcept:
    if kind == <PyTypeObject *>Atom:
        return _write_atom(w, pos, (<PyObject *>(<Atom>value).name))
    if kind == <PyTypeObject *>Pid:
        return _write_pid(w, pos, <Pid>value)
    if kind == &PyFrozenSet_Type or kind == &PySet_Type:
        w.child = value
        return _stop(w, pos, OPEN, value)
    if w.key_only:
        return _stop(w, pos, BP_E_TERM_KEY, value)
    if kind == &PyFloat_Type:
        if in_key and PyFloat_AS_DOUBLE(value) != PyFloat_AS_DOUBLE(value):
            return _stop(w, pos, BP_E_TERM_NAN, value)
        pos[0] = BP_TAG_NEW_FLOAT
        bp_put_double(pos + 1, PyFloat_AS_DOUBLE(value))
        return pos + 9
    if value == Py_None:
        memcpy(pos, b"w\x09undefined", 11)
        return pos + 11
    if value == Py_True:
        memcpy(pos, b"w\x04true", 6)
        return pos + 6
    if value == Py_False:
        memcpy(pos, b"w\x05false", 7)
        return pos + 7
    if kind == <PyTypeObject *>Ref:
        return _write_ref(w, pos, <Ref>value)
    return _stop(w, pos, BP_E_TERM_TYPE, value)


cdef uint8_t *_open_out(Writer *w) noexcept:
    # Write the head of w.child and push its frame, unless it is empty.
    cdef PyObject *box = w.child
    cdef PyTypeObject *kind = Py_TYPE(box)
    cdef uint8_t *pos = w.pos
    cdef OutFrame *f = &w.stack[w.depth]
    cdef Py_ssize_t size
    if w.key_only and kind != &PyTuple_Type:
        return _stop(w, pos, BP_E_TERM_KEY, box)
    if w.depth == w.depth_max:
        w.limit = <uint64_t>w.depth_max
        return _stop(w, pos, BP_E_TERM_DEPTH, box)
    f.nested = w.depth > 0 and _in_key(&w.stack[w.depth - 1])
    if w.key_only:
        f.nested = True
    w.code = BP_TERM_OK
    if kind == &PyTuple_Type:
        size = PyTuple_GET_SIZE(box)
        if size <= 255:
            pos[0] = BP_TAG_SMALL_TUPLE
            pos[1] = <uint8_t>size
            pos += 2
        else:
            pos = _write_head(pos, BP_TAG_LARGE_TUPLE, size)
        return _push_items(w, pos, f, OUT_TUPLE, box, bp_tuple_items(box), size)
    if kind == &PyList_Type:
        size = PyList_GET_SIZE(box)
        if size == 0:
            pos[0] = BP_TAG_NIL
            return pos + 1
        pos = _write_head(pos, BP_TAG_LIST, size)
        return _push_items(w, pos, f, OUT_LIST, box, bp_list_items(box), size)
    if kind == &PyDict_Type:
        return _push_dict(w, pos, f, box)
    return _push_set(w, pos, f, box, kind == &PyFrozenSet_Type)


cdef inline bint _in_key(const OutFrame *f) noexcept:
    # Whether what f is about to hold is part of a key.
    return f.key != NULL or f.in_key


cdef inline uint8_t *_write_head(uint8_t *pos, int tag, Py_ssize_t size) noexcept:
    # A size beyond 32 bits fails later, when that many bytes exceed the limit.
    pos[0] = <uint8_t>tag
    bp_put32(pos + 1, <uint32_t>size)
    return pos + 5


cdef inline uint8_t *_push_items(
    Writer *w, uint8_t *pos, OutFrame *f, OutKind kind, PyObject *box,
    PyObject **items, Py_ssize_t size
) noexcept:
    f.kind = kind
    f.box = box
    f.items = items
    f.at = 0
    f.size = size
    f.in_key = f.nested
    f.key = NULL
    f.probing = False
    w.depth += 1
    return pos


cdef uint8_t *_push_dict(Writer *w, uint8_t *pos, OutFrame *f, PyObject *box) noexcept:
    cdef Py_ssize_t size = PyDict_Size(box)
    pos = _push_items(w, pos, f, OUT_DICT, box, NULL, size)
    f.in_key = False
    f.probing = size >= PROBED_FROM
    if f.probing:
        bp_key_probe_init(&f.probe, BP_PROBE_DICT)
    return _write_head(pos, BP_TAG_MAP, size)


cdef uint8_t *_push_set(
    Writer *w, uint8_t *pos, OutFrame *f, PyObject *box, bint frozen
) noexcept:
    cdef PyObject *members = PySequence_List(box)
    cdef Py_ssize_t size
    if members == NULL:
        return _stop(w, pos, BP_E_TERM_ALLOC, NULL)
    size = PyList_GET_SIZE(members)
    pos = _push_items(w, pos, f, OUT_SET, members, bp_list_items(members), size)
    f.in_key = True
    f.probing = size >= (2 if f.nested else PROBED_FROM)
    if f.probing:
        bp_key_probe_init(&f.probe, BP_PROBE_SET)
    return _write_head(pos, BP_TAG_FROZENSET if frozen else BP_TAG_SET, size)


cdef int _count_out(Writer *w, OutFrame *f, uint8_t *pos) noexcept:
    cdef size_t at = pos - w.out.base
    cdef size_t weight = (at - f.key_from) << (NESTED_SHIFT if f.nested else 0)
    cdef int code = _count_key(
        &f.probe, f.key, f.size, weight, at - w.from_, &w.tally
    )
    if code != BP_TERM_OK:
        _stop(w, pos, code, NULL)
    return code


cdef inline uint8_t *_room(Writer *w, uint8_t *pos, size_t size) noexcept:
    if <size_t>(w.end - pos) >= size:
        return pos
    return _grow_out(w, pos, size)


cdef uint8_t *_grow_out(Writer *w, uint8_t *pos, size_t size) noexcept:
    cdef TermBuffer *out = w.out
    out.used = pos - out.base
    if out.used - w.from_ > w.bytes_max:
        w.got = out.used - w.from_
        w.limit = w.bytes_max
        return _stop(w, pos, BP_E_TERM_BYTES, NULL)
    if out.grow(out, size) != 0:
        return _stop(w, pos, BP_E_TERM_ALLOC, NULL)
    w.end = out.base + out.room
    return out.base + out.used


cdef uint8_t *_stop(Writer *w, uint8_t *pos, int code, PyObject *offender) noexcept:
    w.code = code
    w.pos = pos
    w.offender = offender
    return NULL


cdef uint8_t *_stop_text(Writer *w, uint8_t *pos, PyObject *text) noexcept:
    # PyUnicode_AsUTF8AndSize failed: a lone surrogate, else no memory.
    if PyErr_ExceptionMatches(<PyObject *>UnicodeEncodeError):
        PyErr_Clear()
        return _stop(w, pos, BP_E_TERM_UTF8, text)
    return _stop(w, pos, BP_E_TERM_ALLOC, NULL)


cdef int _judge_out(Writer *w, const TermLimits *limits) noexcept:
    # A peer with our limits must accept what we send.
    cdef size_t size = w.out.used - w.from_
    cdef TermFault fault
    w.offender = NULL
    w.code = BP_TERM_OK
    if size > w.bytes_max:
        w.code = BP_E_TERM_BYTES
        w.got = size
        w.limit = w.bytes_max
    elif _is_weighed(size, limits):
        w.code = _weigh(w.out.base + w.from_, size, limits, &w.tally, &fault)
        w.got = fault.got
        w.limit = fault.limit
    return w.code


cdef void _fault_out(Writer *w, TermFault *fault) noexcept:
    fault.code = w.code
    fault.tag = -1
    fault.offset = 0
    fault.got = w.got
    fault.limit = w.limit
    fault.where = NULL
    if w.code != BP_E_TERM_ALLOC:
        fault.where = _where(w)
    while w.depth > 0:
        w.depth -= 1
        if w.stack[w.depth].kind == OUT_SET:
            Py_DECREF(w.stack[w.depth].box)
        if w.stack[w.depth].probing:
            bp_key_probe_clear(&w.stack[w.depth].probe)

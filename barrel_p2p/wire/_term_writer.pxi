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
    uint64_t steps
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
    w.pos = out.base + out.used
    w.end = out.base + out.room
    w.from_ = out.used
    w.bytes_max = limits.bytes_max
    w.depth_max = limits.depth_max
    w.key_only = key_only
    w.stack = stack
    pos = _room(&w, w.pos, HEAD)
    if pos != NULL:
        pos[0] = BP_TERM_VERSION
        pos = _write(&w, pos + 1, value, key_only)
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


cdef uint8_t *_write_str(Writer *w, uint8_t *pos, PyObject *value) noexcept:
    cdef Py_ssize_t size
    cdef const char *text
    if PyUnicode_IS_COMPACT_ASCII(value):
        size = PyUnicode_GET_LENGTH(value)
        text = <const char *>PyUnicode_DATA(value)
    else:
        text = PyUnicode_AsUTF8AndSize(value, &size)
        if text == NULL:
            return _stop_text(w, pos, value)
    if size > 255:
        return _write_run(w, pos, BP_TAG_STR, <const uint8_t *>text, <size_t>size)
    pos[0] = BP_TAG_SMALL_STR
    pos[1] = <uint8_t>size
    return _write_short(w, pos + 2, <const uint8_t *>text, <size_t>size)


cdef inline uint8_t *_write_short(
    Writer *w, uint8_t *pos, const uint8_t *data, size_t size
) noexcept:
    # Bytes after a head of two that _write made room for.
    if size <= HEAD - 2:
        bp_short_copy(pos, data, size)
        return pos + size
    pos = _room(w, pos, size)
    if pos != NULL:
        memcpy(pos, data, size)
        pos += size
    return pos


cdef uint8_t *_write_run(
    Writer *w, uint8_t *pos, int tag, const uint8_t *data, size_t size
) noexcept:
    if size > w.bytes_max:
        w.got = size
        w.limit = w.bytes_max
        return _stop(w, pos, BP_E_TERM_BYTES, NULL)
    pos = _room(w, pos, 5 + size)
    if pos == NULL:
        return NULL
    pos[0] = <uint8_t>tag
    bp_put32(pos + 1, <uint32_t>size)
    memcpy(pos + 5, data, size)
    return pos + 5 + size


cdef uint8_t *_write_int(Writer *w, uint8_t *pos, PyObject *value) noexcept:
    cdef long long number
    cdef int overflow = 0
    cdef uint64_t magnitude
    cdef unsigned width
    if bp_long_is_compact(value):
        number = bp_long_compact(value)
    else:
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow:
        return _write_big(w, pos, value, overflow < 0)
    if 0 <= number <= 255:
        pos[0] = BP_TAG_SMALL_INTEGER
        pos[1] = <uint8_t>number
        return pos + 2
    if -2147483648 <= number <= 2147483647:
        pos[0] = BP_TAG_INTEGER
        bp_put32(pos + 1, <uint32_t>number)
        return pos + 5
    magnitude = <uint64_t>number
    if number < 0:
        magnitude = 0 - magnitude
    width = bp_width(magnitude)
    pos[0] = BP_TAG_SMALL_BIG
    pos[1] = <uint8_t>width
    pos[2] = number < 0
    bp_put64_little(pos + 3, magnitude)
    return pos + 3 + width


cdef uint8_t *_write_big(
    Writer *w, uint8_t *pos, PyObject *value, bint negative
) noexcept:
    cdef PyObject *magnitude = PyNumber_Absolute(value)
    cdef uint64_t bits
    cdef size_t size
    if magnitude == NULL:
        return _stop(w, pos, BP_E_TERM_ALLOC, NULL)
    bits = bp_long_bits(magnitude)
    size = <size_t>((bits + 7) // 8)
    if bits == UINT64_MAX:
        pos = _stop(w, pos, BP_E_TERM_ALLOC, NULL)
    elif bits > <uint64_t>_int_bits_max:
        w.got = bits
        w.limit = <uint64_t>_int_bits_max
        pos = _stop(w, pos, BP_E_TERM_INT, NULL)
    else:
        pos = _room(w, pos, 6 + size)
    if pos != NULL:
        pos = _write_big_head(pos, size, negative)
        if bp_long_store(magnitude, pos, size) != 0:
            pos = _stop(w, pos, BP_E_TERM_ALLOC, NULL)
        else:
            pos += size
    Py_DECREF(magnitude)
    return pos


cdef uint8_t *_write_big_head(uint8_t *pos, size_t size, bint negative) noexcept:
    if size <= 255:
        pos[0] = BP_TAG_SMALL_BIG
        pos[1] = <uint8_t>size
        pos[2] = negative
        return pos + 3
    pos[0] = BP_TAG_LARGE_BIG
    bp_put32(pos + 1, <uint32_t>size)
    pos[5] = negative
    return pos + 6


cdef uint8_t *_write_atom(Writer *w, uint8_t *pos, PyObject *name) noexcept:
    cdef Py_ssize_t size
    cdef const char *text
    if PyUnicode_IS_COMPACT_ASCII(name):
        size = PyUnicode_GET_LENGTH(name)
        text = <const char *>PyUnicode_DATA(name)
    else:
        text = PyUnicode_AsUTF8AndSize(name, &size)
        if text == NULL:
            return _stop_text(w, pos, name)
    if size > 255:
        pos = _room(w, pos, 3 + <size_t>size)
        if pos == NULL:
            return NULL
        pos[0] = BP_TAG_ATOM_UTF8
        bp_put16(pos + 1, <uint16_t>size)
        memcpy(pos + 3, text, <size_t>size)
        return pos + 3 + size
    pos[0] = BP_TAG_SMALL_ATOM_UTF8
    pos[1] = <uint8_t>size
    return _write_short(w, pos + 2, <const uint8_t *>text, <size_t>size)


cdef uint8_t *_write_pid(Writer *w, uint8_t *pos, Pid pid) noexcept:
    pos[0] = BP_TAG_NEW_PID
    pos = _room(w, pos + 1, HEAD)
    if pos != NULL:
        pos = _write_atom(w, pos, <PyObject *>pid.node)
    if pos != NULL:
        pos = _room(w, pos, HEAD)
    if pos == NULL:
        return NULL
    bp_put32(pos, <uint32_t>pid.id)
    bp_put32(pos + 4, <uint32_t>(pid.id >> 32))
    bp_put32(pos + 8, pid.creation)
    return pos + 12


cdef uint8_t *_write_ref(Writer *w, uint8_t *pos, Ref ref) noexcept:
    cdef int i
    pos[0] = BP_TAG_NEWER_REFERENCE
    bp_put16(pos + 1, ref.word_count)
    pos = _room(w, pos + 3, HEAD)
    if pos != NULL:
        pos = _write_atom(w, pos, <PyObject *>ref.node)
    if pos != NULL:
        pos = _room(w, pos, HEAD)
    if pos == NULL:
        return NULL
    bp_put32(pos, ref.creation)
    for i in range(ref.word_count):
        bp_put32(pos + 4 + 4 * i, ref.word[i])
    return pos + 4 + 4 * ref.word_count


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
    cdef int code = _count_key(
        &f.probe, f.key, f.nested, at - f.key_from, at - w.from_, &w.steps
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
        w.code = _weigh(w.out.base + w.from_, size, limits, &fault)
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


cdef PyObject *_where(Writer *w) noexcept:
    # Only exact types are shown by value: another's repr could run code that changes
    # the containers we stand in.
    cdef PyObject *text = NULL
    cdef object shown
    try:
        shown = _path_of(w)
        if w.offender != NULL:
            shown += f" is {_article(Py_TYPE(w.offender).tp_name.decode())}"
        text = <PyObject *>shown
        Py_INCREF(text)
    except MemoryError:
        text = NULL
    return text


cdef str _article(str noun):
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


cdef str _path_of(Writer *w):
    cdef list parts = []
    cdef int first = 0 if w.depth <= PATH_PARTS else w.depth - PATH_PARTS
    cdef int i
    cdef OutFrame *f
    for i in range(first, w.depth):
        f = &w.stack[i]
        if f.kind == OUT_SET:
            parts.append(f"{{{_label(f.key)}}}")
        elif f.kind == OUT_DICT:
            if f.key != NULL:
                parts.append(f".key({_label(f.key)})")
            else:
                parts.append(f"[{_label(f.shown)}]")
        else:
            parts.append(f"[{f.at - 1}]")
    return ("value..." if first else "value") + "".join(parts)


cdef str _label(PyObject *key):
    cdef PyTypeObject *kind = NULL
    if key == NULL:
        return ""
    kind = Py_TYPE(key)
    if kind == &PyUnicode_Type or kind == &PyBytes_Type:
        return repr((<object>key)[:32])
    if kind == &PyLong_Type and bp_long_is_compact(key):
        return repr(<object>key)
    if kind == <PyTypeObject *>Atom or kind == &PyFloat_Type:
        return repr(<object>key)
    return f"<{kind.tp_name.decode()}>"

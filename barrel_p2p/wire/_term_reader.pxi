# Bytes to values, the bytes being hostile. Included by _terms.pyx.
#
# The mirror of _term_writer.pxi: two loops, over items and over pairs, that stop at each
# container inside. A count is believed only when all counts read so far, together, could
# be satisfied by the bytes that are left.

cdef enum InKind:
    IN_LIST
    IN_TUPLE
    IN_DICT
    IN_SET

cdef enum:
    NAME = 1             # worth a look into the caches of short names
    KEY = 2              # part of a key

cdef struct InFrame:
    InKind kind
    int flags            # KEY when the items are parts of a key
    bint probing
    bint nested          # the container itself is part of a key
    PyObject *box        # owned
    PyObject **items     # next free slot of a list or tuple
    PyObject *key        # owned; waits for its value
    size_t left          # elements, keys and values counted singly, not yet begun
    size_t count         # items, pairs or members in all
    const uint8_t *head
    const uint8_t *key_from
    bp_key_probe_t probe

cdef struct Reader:
    const uint8_t *start
    const uint8_t *pos
    const uint8_t *end
    const uint8_t *wrong
    Tally tally
    uint64_t got
    uint64_t limit
    size_t owed          # elements that suspended frames wait for
    int code
    int depth
    int depth_max
    InFrame *stack


cdef PyObject *_read_term(
    const uint8_t *data, size_t size, const TermLimits *limits, TermFault *fault
) noexcept:
    cdef InFrame stack[STACK]
    cdef Reader r
    cdef PyObject *value = NULL
    memset(&r, 0, sizeof(r))
    r.start = data
    r.pos = data
    r.end = data + size
    r.depth_max = limits.depth_max
    r.tally.memory_max = UINT64_MAX
    r.stack = stack
    if _judge_in(&r, size, limits, fault) != BP_TERM_OK:
        return NULL
    r.pos += 1
    value = _read(&r, 0)
    while r.depth > 0 and (value != NULL or r.code == OPEN):
        if value != NULL and _take(&r, &stack[r.depth - 1], value) != BP_TERM_OK:
            break
        value = _resume_in(&r, &stack[r.depth - 1])
    if value != NULL and r.depth == 0:
        if r.pos == r.end:
            return value
        _fail(&r, BP_E_TERM_TRAILING, r.pos)
        Py_DECREF(value)
    _fault_in(&r, fault)
    return NULL


cdef int _judge_in(
    Reader *r, size_t size, const TermLimits *limits, TermFault *fault
) noexcept:
    cdef int code = BP_TERM_OK
    if size == 0:
        code = BP_E_TERM_SHORT
    elif r.start[0] != BP_TERM_VERSION:
        code = BP_E_TERM_VERSION
    elif size > limits.bytes_max:
        code = BP_E_TERM_BYTES
        r.got = size
        r.limit = limits.bytes_max
    elif _is_weighed(size, limits):
        return _weigh(r.start, size, limits, &r.tally, fault)
    if code != BP_TERM_OK:
        _fail(r, code, r.start)
        _fault_in(r, fault)
    return code


cdef inline PyObject *_resume_in(Reader *r, InFrame *f) noexcept:
    r.code = BP_TERM_OK
    if f.kind == IN_DICT:
        return _read_pairs(r, f)
    if f.kind == IN_SET:
        return _read_members(r, f)
    return _read_items(r, f)


cdef int _take(Reader *r, InFrame *f, PyObject *value) noexcept:
    # Give f the container it waited for.
    if f.kind == IN_DICT:
        if f.key == NULL:
            return _take_key(r, f, value)
        return _take_value(r, f, value)
    if f.kind == IN_SET:
        return _take_member(r, f, value)
    f.items[0] = value
    f.items += 1
    return BP_TERM_OK


cdef PyObject *_read_items(Reader *r, InFrame *f) noexcept:
    cdef PyObject *value
    cdef int name = NAME if f.kind == IN_TUPLE and f.left == f.count else 0
    while f.left:
        f.left -= 1
        value = _read(r, f.flags | name)
        if value == NULL:
            return NULL
        f.items[0] = value
        f.items += 1
        name = 0
    if f.kind == IN_LIST:
        if r.pos == r.end:
            return _fail(r, BP_E_TERM_SHORT, r.pos)
        if r.pos[0] != BP_TAG_NIL:
            return _fail(r, BP_E_TERM_TAIL, r.pos)
        r.pos += 1
    return _close_in(r, f)


cdef PyObject *_read_pairs(Reader *r, InFrame *f) noexcept:
    cdef PyObject *value
    while f.left:
        f.left -= 1
        if f.key == NULL:
            f.key_from = r.pos
            value = _read(r, NAME | KEY)
            if value == NULL or _take_key(r, f, value) != BP_TERM_OK:
                return NULL
            f.left -= 1
        value = _read(r, 0)
        if value == NULL or _take_value(r, f, value) != BP_TERM_OK:
            return NULL
    if <size_t>PyDict_Size(f.box) != f.count:
        return _fail(r, BP_E_TERM_DUPLICATE, f.head)
    return _close_in(r, f)


cdef PyObject *_read_members(Reader *r, InFrame *f) noexcept:
    cdef PyObject *value
    while f.left:
        f.left -= 1
        f.key_from = r.pos
        value = _read(r, KEY)
        if value == NULL or _take_member(r, f, value) != BP_TERM_OK:
            return NULL
    if <size_t>PySet_GET_SIZE(f.box) != f.count:
        return _fail(r, BP_E_TERM_DUPLICATE, f.head)
    return _close_in(r, f)


cdef inline int _take_key(Reader *r, InFrame *f, PyObject *key) noexcept:
    f.key = key
    if f.probing:
        return _count_in(r, f, key)
    return BP_TERM_OK


cdef inline int _take_value(Reader *r, InFrame *f, PyObject *value) noexcept:
    cdef int code = PyDict_SetItem(f.box, f.key, value)
    Py_DECREF(f.key)
    Py_DECREF(value)
    f.key = NULL
    if code != 0:
        _fail(r, BP_E_TERM_ALLOC, r.pos)
        return BP_E_TERM_ALLOC
    return BP_TERM_OK


cdef inline int _take_member(Reader *r, InFrame *f, PyObject *value) noexcept:
    cdef int code = BP_TERM_OK
    if f.probing:
        code = _count_in(r, f, value)
    if code == BP_TERM_OK and PySet_Add(f.box, value) != 0:
        code = BP_E_TERM_ALLOC
        _fail(r, code, r.pos)
    Py_DECREF(value)
    return code


cdef int _count_in(Reader *r, InFrame *f, PyObject *key) noexcept:
    cdef size_t weight = (r.pos - f.key_from) << (NESTED_SHIFT if f.nested else 0)
    cdef int code = _count_key(
        &f.probe, key, <Py_ssize_t>f.count, weight, r.pos - r.start, &r.tally
    )
    if code != BP_TERM_OK:
        _exceeds(r, code, f.key_from, r.tally.memory, r.tally.memory_max)
    return code


cdef inline PyObject *_close_in(Reader *r, InFrame *f) noexcept:
    cdef PyObject *box = f.box
    if f.probing:
        bp_key_probe_clear(&f.probe)
    r.depth -= 1
    if r.depth > 0:
        r.owed -= r.stack[r.depth - 1].left
    return box


cdef PyObject *_read(Reader *r, int flags) noexcept:
    # A new reference; or NULL, and r.code is OPEN (a frame was pushed) or an error.
    cdef const uint8_t *pos = r.pos
    cdef size_t left = r.end - pos
    cdef int tag
    if left < 2:
        return _read_last(r, flags)
    tag = pos[0]
    if tag == BP_TAG_SMALL_STR:
        if pos[1] > left - 2:
            return _fail(r, BP_E_TERM_SHORT, pos)
        r.pos = pos + 2 + pos[1]
        return _text(r, pos + 2, pos[1], flags)
    if tag == BP_TAG_SMALL_INTEGER:
        r.pos = pos + 2
        return PyLong_FromLong(pos[1])
    if tag == BP_TAG_INTEGER:
        if left < 5:
            return _fail(r, BP_E_TERM_SHORT, pos)
        r.pos = pos + 5
        return PyLong_FromLong(<int32_t>bp_get32(pos + 1))
    if tag == BP_TAG_SMALL_ATOM_UTF8:
        if pos[1] > left - 2:
            return _fail(r, BP_E_TERM_SHORT, pos)
        r.pos = pos + 2 + pos[1]
        return _atom(r, pos, pos + 2, pos[1], False)
    if tag == BP_TAG_SMALL_TUPLE:
        return _open_in(r, pos, 2, IN_TUPLE, pos[1], flags)
    if tag == BP_TAG_NIL:
        return _open_in(r, pos, 1, IN_LIST, 0, flags)
    if tag == BP_TAG_NEW_FLOAT:
        return _float(r, pos, left, flags)
    if tag == BP_TAG_SMALL_BIG:
        return _big(r, pos, 2, pos[1])
    if left < 5:
        return _read_last(r, flags)
    return _read_wide(r, pos, tag, left - 5, bp_get32(pos + 1), flags)


cdef PyObject *_read_wide(
    Reader *r, const uint8_t *pos, int tag, size_t left, size_t count, int flags
) noexcept:
    # Tags with a number of 32 bits, of which ``left`` bytes follow, and some with 16.
    if tag == BP_TAG_BINARY or tag == BP_TAG_STR:
        if count > left:
            return _fail(r, BP_E_TERM_SHORT, pos)
        r.pos = pos + 5 + count
        if tag == BP_TAG_STR:
            return _text(r, pos + 5, count, flags)
        return PyBytes_FromStringAndSize(<const char *>pos + 5, <Py_ssize_t>count)
    if tag == BP_TAG_MAP:
        return _open_in(r, pos, 5, IN_DICT, count, flags)
    if tag == BP_TAG_LIST:
        return _open_in(r, pos, 5, IN_LIST, count, flags)
    if tag == BP_TAG_LARGE_TUPLE:
        return _open_in(r, pos, 5, IN_TUPLE, count, flags)
    if tag == BP_TAG_SET or tag == BP_TAG_FROZENSET:
        return _open_in(r, pos, 5, IN_SET, count, flags)
    if tag == BP_TAG_LARGE_BIG:
        return _big(r, pos, 5, count)
    return _read_short(r, pos, tag, flags)


cdef PyObject *_read_short(
    Reader *r, const uint8_t *pos, int tag, int flags
) noexcept:
    # The rarer tags, of which two bytes or more are there.
    cdef size_t left = r.end - pos
    cdef size_t size
    if tag == BP_TAG_NEW_PID:
        return _pid(r, pos)
    if tag == BP_TAG_SMALL_ATOM:
        if pos[1] > left - 2:
            return _fail(r, BP_E_TERM_SHORT, pos)
        r.pos = pos + 2 + pos[1]
        return _atom(r, pos, pos + 2, pos[1], True)
    if tag not in (
        BP_TAG_ATOM, BP_TAG_ATOM_UTF8, BP_TAG_STRING, BP_TAG_NEWER_REFERENCE
    ):
        return _fail(r, BP_E_TERM_TAG, pos)
    if left < 3:
        return _fail(r, BP_E_TERM_SHORT, pos)
    size = bp_get16(pos + 1)
    if tag == BP_TAG_NEWER_REFERENCE:
        return _ref(r, pos, size)
    if size > left - 3:
        return _fail(r, BP_E_TERM_SHORT, pos)
    if tag == BP_TAG_STRING:
        return _byte_list(r, pos, size, flags)
    r.pos = pos + 3 + size
    return _atom(r, pos, pos + 3, size, tag == BP_TAG_ATOM)


cdef PyObject *_read_last(Reader *r, int flags) noexcept:
    # Fewer than five bytes are left, so only the shortest values can be whole.
    cdef const uint8_t *pos = r.pos
    if pos == r.end:
        return _fail(r, BP_E_TERM_SHORT, pos)
    if pos[0] == BP_TAG_NIL:
        return _open_in(r, pos, 1, IN_LIST, 0, flags)
    if pos[0] in (
        BP_TAG_BINARY, BP_TAG_STR, BP_TAG_MAP, BP_TAG_LIST, BP_TAG_LARGE_TUPLE,
        BP_TAG_SET, BP_TAG_FROZENSET, BP_TAG_LARGE_BIG
    ):
        return _fail(r, BP_E_TERM_SHORT, pos)
    if r.end - pos == 1:
        return _fail(r, BP_E_TERM_SHORT if _is_known(pos[0]) else BP_E_TERM_TAG, pos)
    return _read_short(r, pos, pos[0], flags)


cdef bint _is_known(int tag) noexcept:
    return tag in (
        BP_TAG_NEW_FLOAT, BP_TAG_NEW_PID, BP_TAG_NEWER_REFERENCE, BP_TAG_SMALL_INTEGER,
        BP_TAG_INTEGER, BP_TAG_ATOM, BP_TAG_SMALL_TUPLE, BP_TAG_STRING,
        BP_TAG_SMALL_BIG, BP_TAG_SMALL_ATOM, BP_TAG_ATOM_UTF8, BP_TAG_SMALL_ATOM_UTF8,
        BP_TAG_SMALL_STR
    )


cdef PyObject *_open_in(
    Reader *r, const uint8_t *pos, size_t head, InKind kind, size_t count, int flags
) noexcept:
    # Make the container whose head is read, and push its frame unless it is empty.
    cdef InFrame *f = &r.stack[r.depth]
    cdef size_t elements = 2 * count if kind == IN_DICT else count
    cdef size_t owed = r.owed + (r.stack[r.depth - 1].left if r.depth > 0 else 0)
    if flags & KEY and kind != IN_TUPLE and pos[0] != BP_TAG_FROZENSET:
        return _fail(r, BP_E_TERM_UNHASHABLE, pos)
    if r.depth == r.depth_max:
        return _exceeds(r, BP_E_TERM_DEPTH, pos, 0, <uint64_t>r.depth_max)
    if elements + owed > <size_t>(r.end - pos) - head:
        return _exceeds(r, BP_E_TERM_COUNT, pos, count, <uint64_t>(r.end - pos) - head)
    f.box = _new_box(pos[0], kind, count)
    if f.box == NULL:
        return NULL
    r.pos = pos + head
    if count == 0 and pos[0] != BP_TAG_LIST:
        return f.box
    f.kind = kind
    f.head = pos
    f.key = NULL
    f.left = elements
    f.count = count
    f.nested = flags & KEY
    f.flags = flags & KEY
    f.probing = False
    if kind == IN_TUPLE:
        f.items = bp_tuple_items(f.box)
    elif kind == IN_LIST:
        f.items = bp_list_items(f.box)
    elif count >= (2 if f.nested else PROBED_FROM):
        f.probing = True
        bp_key_probe_init(
            &f.probe, BP_PROBE_DICT if kind == IN_DICT else BP_PROBE_SET
        )
    r.owed = owed
    r.depth += 1
    r.code = OPEN
    return NULL


cdef inline PyObject *_new_box(int tag, InKind kind, size_t count) noexcept:
    if kind == IN_TUPLE:
        return PyTuple_New(<Py_ssize_t>count)
    if kind == IN_LIST:
        return PyList_New(<Py_ssize_t>count)
    if kind == IN_DICT:
        return PyDict_New()
    return PySet_New(NULL) if tag == BP_TAG_SET else PyFrozenSet_New(NULL)


cdef PyObject *_fail(Reader *r, int code, const uint8_t *wrong) noexcept:
    r.code = code
    r.wrong = wrong
    return NULL


cdef PyObject *_exceeds(
    Reader *r, int code, const uint8_t *wrong, uint64_t got, uint64_t limit
) noexcept:
    r.got = got
    r.limit = limit
    return _fail(r, code, wrong)


cdef void _fault_in(Reader *r, TermFault *fault) noexcept:
    # A constructor of CPython that returned NULL set no code of ours: no memory.
    cdef InFrame *f
    if r.code == BP_TERM_OK or r.code == OPEN:
        _fail(r, BP_E_TERM_ALLOC, r.pos)
    fault.code = r.code
    fault.offset = r.wrong - r.start
    fault.tag = r.wrong[0] if r.wrong < r.end else -1
    fault.got = r.got
    fault.limit = r.limit
    fault.where = NULL
    while r.depth > 0:
        r.depth -= 1
        f = &r.stack[r.depth]
        if f.probing:
            bp_key_probe_clear(&f.probe)
        Py_XDECREF(f.key)
        Py_DECREF(f.box)

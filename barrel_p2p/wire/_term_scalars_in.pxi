# Text, names, numbers and addresses from bytes. Included by _terms.pyx.


cdef inline PyObject *_text(
    Reader *r, const uint8_t *text, size_t size, int flags
) noexcept:
    cdef PyObject *made
    if flags & NAME and size <= BP_SHORT_MAX:
        return _name(r, text, size)
    if not bp_is_ascii(text, size):
        return _utf8(r, text, size)
    if size == 1:
        return PyUnicode_FromOrdinal(text[0])
    made = PyUnicode_New(<Py_ssize_t>size, 127)
    if made != NULL:
        if size <= BP_SHORT_MAX:
            bp_short_copy(<uint8_t *>PyUnicode_DATA(made), text, size)
        else:
            memcpy(PyUnicode_DATA(made), text, size)
    return made


cdef PyObject *_utf8(Reader *r, const uint8_t *text, size_t size) noexcept:
    cdef PyObject *made
    made = PyUnicode_DecodeUTF8(<const char *>text, <Py_ssize_t>size, NULL)
    if made == NULL:
        if PyErr_ExceptionMatches(<PyObject *>UnicodeDecodeError):
            PyErr_Clear()
            return _fail(r, BP_E_TERM_UTF8, text)
        return _fail(r, BP_E_TERM_ALLOC, text)
    return made


cdef inline PyObject *_name(Reader *r, const uint8_t *text, size_t size) noexcept:
    # Short strings come again and again as keys, tags and node names.
    cdef PyObject **slot = &_names[bp_short_hash(text, size) >> NAME_SHIFT]
    cdef PyObject *name = slot[0]
    if name != NULL and <size_t>PyUnicode_GET_LENGTH(name) == size:
        if bp_short_equal(<const uint8_t *>PyUnicode_DATA(name), text, size):
            Py_INCREF(name)
            return name
    name = _text(r, text, size, 0)
    if name != NULL and PyUnicode_IS_COMPACT_ASCII(name):
        Py_XDECREF(slot[0])
        Py_INCREF(name)
        slot[0] = name
    return name


cdef PyObject *_atom(
    Reader *r, const uint8_t *head, const uint8_t *text, size_t size, bint latin1
) noexcept:
    cdef PyObject **slot
    cdef PyObject *atom
    if is_reserved(text, size):
        atom = Py_None if size == 9 else Py_True if size == 4 else Py_False
        Py_INCREF(atom)
        return atom
    if size > BP_SHORT_MAX:
        return _new_atom(r, head, text, size, latin1)
    slot = &_atoms[bp_short_hash(text, size) >> ATOM_SHIFT]
    atom = slot[0]
    if atom != NULL and _is_named((<Atom>atom).name, text, size):
        Py_INCREF(atom)
        return atom
    atom = _new_atom(r, head, text, size, latin1)
    if atom != NULL and bp_is_ascii(text, size):
        Py_XDECREF(slot[0])
        Py_INCREF(atom)
        slot[0] = atom
    return atom


cdef inline bint _is_named(str name, const uint8_t *text, size_t size) noexcept:
    # Of cached names only: those are ASCII.
    return <size_t>PyUnicode_GET_LENGTH(<PyObject *>name) == size and bp_short_equal(
        <const uint8_t *>PyUnicode_DATA(<PyObject *>name), text, size
    )


cdef PyObject *_new_atom(
    Reader *r, const uint8_t *head, const uint8_t *text, size_t size, bint latin1
) noexcept:
    cdef PyObject *name
    cdef PyObject *made
    if size > 4 * ATOM_CHARS:
        return _exceeds(r, BP_E_TERM_ATOM, head, size, ATOM_CHARS)
    if latin1:
        name = PyUnicode_DecodeLatin1(<const char *>text, <Py_ssize_t>size, NULL)
    else:
        name = _text(r, text, size, 0)
    if name == NULL:
        return NULL
    if PyUnicode_GET_LENGTH(name) > ATOM_CHARS:
        size = <size_t>PyUnicode_GET_LENGTH(name)
        Py_DECREF(name)
        return _exceeds(r, BP_E_TERM_ATOM, head, size, ATOM_CHARS)
    made = _wrap_atom(name)
    Py_DECREF(name)
    return made


cdef PyObject *_wrap_atom(PyObject *name) noexcept:
    cdef PyObject *made = NULL
    cdef Atom atom
    try:
        atom = new_atom(<str>name)
        made = <PyObject *>atom
        Py_INCREF(made)
    except MemoryError:
        made = NULL
    return made


cdef PyObject *_node(Reader *r, const uint8_t *pos) noexcept:
    # The node of a pid or reference: an atom, wanted as its name.
    cdef size_t left = r.end - pos
    cdef size_t head = 3
    cdef size_t size
    if left < 3:
        return _fail(r, BP_E_TERM_SHORT, pos)
    if pos[0] == BP_TAG_SMALL_ATOM_UTF8 or pos[0] == BP_TAG_SMALL_ATOM:
        head = 2
        size = pos[1]
    elif pos[0] == BP_TAG_ATOM_UTF8 or pos[0] == BP_TAG_ATOM:
        size = bp_get16(pos + 1)
    else:
        return _fail(r, BP_E_TERM_NODE, pos)
    if size > left - head:
        return _fail(r, BP_E_TERM_SHORT, pos)
    if not is_node_name(pos + head, size):
        return _fail(r, BP_E_TERM_NODE, pos)
    r.pos = pos + head + size
    return _text(r, pos + head, size, NAME)


cdef PyObject *_pid(Reader *r, const uint8_t *pos) noexcept:
    cdef PyObject *node = _node(r, pos + 1)
    cdef PyObject *made = NULL
    cdef const uint8_t *p = r.pos
    cdef uint64_t number
    cdef Pid pid
    if node == NULL:
        return NULL
    if r.end - p < 12:
        Py_DECREF(node)
        return _fail(r, BP_E_TERM_SHORT, pos)
    r.pos = p + 12
    number = <uint64_t>bp_get32(p + 4) << 32 | bp_get32(p)
    try:
        pid = new_pid(<str>node, number, bp_get32(p + 8))
        made = <PyObject *>pid
        Py_INCREF(made)
    except MemoryError:
        made = NULL
    Py_DECREF(node)
    return made


cdef PyObject *_ref(Reader *r, const uint8_t *pos, size_t words) noexcept:
    cdef PyObject *node
    cdef PyObject *made = NULL
    cdef const uint8_t *p
    cdef Ref ref
    cdef size_t i
    if words == 0 or words > REF_WORDS:
        return _exceeds(r, BP_E_TERM_WORDS, pos, words, REF_WORDS)
    node = _node(r, pos + 3)
    if node == NULL:
        return NULL
    p = r.pos
    if <size_t>(r.end - p) < 4 + 4 * words:
        Py_DECREF(node)
        return _fail(r, BP_E_TERM_SHORT, pos)
    r.pos = p + 4 + 4 * words
    try:
        ref = new_ref(<str>node, bp_get32(p))
        for i in range(words):
            ref.word[i] = bp_get32(p + 4 + 4 * i)
        ref.word_count = <uint8_t>words
        made = <PyObject *>ref
        Py_INCREF(made)
    except MemoryError:
        made = NULL
    Py_DECREF(node)
    return made


cdef PyObject *_float(
    Reader *r, const uint8_t *pos, size_t left, int flags
) noexcept:
    cdef double number
    if left < 9:
        return _fail(r, BP_E_TERM_SHORT, pos)
    r.pos = pos + 9
    number = bp_get_double(pos + 1)
    if flags & KEY and number != number:
        return _fail(r, BP_E_TERM_NAN, pos)
    return PyFloat_FromDouble(number)


cdef PyObject *_big(
    Reader *r, const uint8_t *pos, size_t head, size_t size
) noexcept:
    cdef size_t left = r.end - pos
    cdef const uint8_t *digits = pos + head + 1
    cdef uint64_t magnitude
    cdef PyObject *made
    cdef PyObject *negated
    if size > <size_t>_int_bits_max // 8:
        return _exceeds(r, BP_E_TERM_INT, pos, 8 * size, <uint64_t>_int_bits_max)
    if left < head + 1 + size:
        return _fail(r, BP_E_TERM_SHORT, pos)
    if pos[head] > 1:
        return _fail(r, BP_E_TERM_SIGN, pos + head)
    r.pos = digits + size
    if size <= 8:
        magnitude = bp_get_little(digits, size)
        if pos[head] == 0:
            return PyLong_FromUnsignedLongLong(magnitude)
        if magnitude <= <uint64_t>1 << 63:
            return PyLong_FromLongLong(<long long>(0 - magnitude))
    made = bp_long_load(digits, size)
    if made != NULL and pos[head] == 1:
        negated = PyNumber_Negative(made)
        Py_DECREF(made)
        made = negated
    return made


cdef PyObject *_byte_list(
    Reader *r, const uint8_t *pos, size_t size, int flags
) noexcept:
    # Erlang writes a list of small integers this way.
    cdef PyObject *box
    cdef size_t i
    if flags & KEY:
        return _fail(r, BP_E_TERM_UNHASHABLE, pos)
    if r.depth == r.depth_max:
        return _exceeds(r, BP_E_TERM_DEPTH, pos, 0, <uint64_t>r.depth_max)
    box = PyList_New(<Py_ssize_t>size)
    if box == NULL:
        return NULL
    for i in range(size):
        bp_list_items(box)[i] = PyLong_FromLong(pos[3 + i])
    r.pos = pos + 3 + size
    return box

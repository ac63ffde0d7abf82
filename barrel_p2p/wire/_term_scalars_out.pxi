# Text, names, numbers and addresses to bytes. Included by _terms.pyx.


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

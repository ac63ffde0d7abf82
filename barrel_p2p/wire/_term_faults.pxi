# Codes to exceptions. Included by _terms.pyx.

_REFUSED_TAGS = {
    68: "distribution header",
    69: "distribution fragment",
    77: "bit string",
    80: "compressed term",
    82: "atom cache reference",
    89: "port",
    99: "float as text",
    101: "old reference",
    102: "port",
    103: "old pid",
    112: "fun",
    113: "export",
    114: "old reference",
    117: "old fun",
    120: "port",
    121: "local term",
    131: "second version byte",
}

_READ_TEXTS = {
    BP_E_TERM_VERSION: "a term starts with byte 131, not {tag}",
    BP_E_TERM_TAG: "tag {tag} ({name}) at offset {offset} is not accepted",
    BP_E_TERM_SHORT: "term ends inside the value at offset {offset}",
    BP_E_TERM_TRAILING: "bytes follow the term, from offset {offset} on",
    BP_E_TERM_COUNT: (
        "container at offset {offset} announces {got} elements with {limit} bytes left"
    ),
    BP_E_TERM_DEPTH: "container at offset {offset} is nested deeper than {limit}",
    BP_E_TERM_BYTES: "term of {got} bytes exceeds the limit of {limit}",
    BP_E_TERM_MEMORY: "term would take {got} bytes of memory, limit {limit}",
    BP_E_TERM_NODES: "term of {got} values exceeds TERM_NODES_MAX={limit}",
    BP_E_TERM_INT: "integer of {got} bits at offset {offset} exceeds INT_BITS_MAX={limit}",
    BP_E_TERM_SIGN: "sign of an integer at offset {offset} is {tag}, not 0 or 1",
    BP_E_TERM_UTF8: "text at offset {offset} is not UTF-8",
    BP_E_TERM_ATOM: "atom of {got} characters at offset {offset} exceeds ATOM_CHARS_MAX={limit}",
    BP_E_TERM_NODE: "no valid node name at offset {offset}",
    BP_E_TERM_WORDS: "reference of {got} words at offset {offset}, not 1 to {limit}",
    BP_E_TERM_TAIL: "list ends with tag {tag} at offset {offset}, so it is improper",
    BP_E_TERM_UNHASHABLE: "list, map or set at offset {offset} is part of a key",
    BP_E_TERM_NAN: "not-a-number at offset {offset} is part of a key",
    BP_E_TERM_DUPLICATE: "map or set at offset {offset} has two keys that Python holds equal",
    BP_E_TERM_COLLISION: "keys up to offset {offset} collide too often in a hash table",
}

_WRITE_TEXTS = {
    BP_E_TERM_DEPTH: ("{where}, nested deeper than {limit}", "does it contain itself?"),
    BP_E_TERM_BYTES: (
        "{where} takes {got} bytes or more, limit {limit}",
        "send large values on a user stream",
    ),
    BP_E_TERM_MEMORY: (
        "{where} would take its receiver {got} bytes of memory, limit {limit}",
        "send it in parts, or pack its numbers into bytes",
    ),
    BP_E_TERM_NODES: ("{where} holds {got} values, more than TERM_NODES_MAX={limit}", None),
    BP_E_TERM_INT: ("{where} is an integer of {got} bits, more than INT_BITS_MAX={limit}", None),
    BP_E_TERM_UTF8: ("{where} with a lone surrogate, which UTF-8 cannot carry", None),
    BP_E_TERM_NAN: ("{where}, not-a-number, cannot be part of a key", None),
    BP_E_TERM_COLLISION: (
        "the keys up to {where} collide too often in the receiver's hash table", None
    ),
    BP_E_TERM_TYPE: (
        "{where}, which no term can hold",
        "terms hold None, bool, int, float, bytes, str, tuple, list, dict, set, "
        "frozenset, Atom, Pid and Ref, but no subclasses of these",
    ),
    BP_E_TERM_KEY: (
        "{where}, which no key term can hold",
        "key terms are str, bytes, int, Atom, Pid and tuples of these",
    ),
}


cdef int term_raise(TermFault *fault, bint reading, object peer) except -1:
    cdef object where = None
    if fault.where != NULL:
        where = _own(fault.where)
        fault.where = NULL
    if fault.code == BP_E_TERM_ALLOC:
        if PyErr_Occurred() == NULL:
            raise MemoryError
        return -1
    facts = {
        "tag": fault.tag,
        "name": _REFUSED_TAGS.get(fault.tag, "unknown"),
        "offset": fault.offset,
        "got": fault.got,
        "limit": fault.limit,
        "where": where or "value",
    }
    if reading:
        raise WireError(_READ_TEXTS[fault.code].format_map(facts), peer=peer)
    text, hint = _WRITE_TEXTS[fault.code]
    raise NotEncodable(text.format_map(facts), hint=hint)


cdef void term_forget(TermFault *fault) noexcept:
    Py_XDECREF(fault.where)
    fault.where = NULL


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

"""Atoms, pids and references for compiled callers, who fill the fields themselves."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    ATOM_CHARS = 255
    NODE_NAME_BYTES = 200
    REF_WORDS = 5


cdef class Atom:
    cdef readonly str name


cdef class Pid:
    cdef readonly str node
    cdef readonly uint64_t id
    cdef readonly uint32_t creation


cdef class Ref:
    cdef readonly str node
    cdef readonly uint32_t creation
    cdef uint8_t word_count
    cdef uint32_t word[REF_WORDS]


# Callers promise what the constructors check.
cdef Atom new_atom(str name)
cdef Pid new_pid(str node, uint64_t id, uint32_t creation)
cdef Ref new_ref(str node, uint32_t creation)    # the caller adds the words

# Whether size bytes at text are a node name.
cdef bint is_node_name(const uint8_t *text, size_t size) noexcept nogil

# Whether a name belongs to None, True or False and so to no Atom.
cdef bint is_reserved(const uint8_t *text, size_t size) noexcept nogil

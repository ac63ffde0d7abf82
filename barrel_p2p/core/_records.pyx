# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""Constructors of small value classes. Types: ``_records.pyi``; model:
``tests/models/records.py``.

A class gets a ``tp_vectorcall`` that takes memory and fills its fields. Whatever is not
plain (a wrong name, too many values) goes the way it would go without, which raises.

An instance that cannot change, of values that refer to nothing, is part of no cycle: as
with tuples, the collector need not know of it. To take one off its list later, when
the neighbours on that list are cold, would cost more than to make it.
"""

from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stddef cimport size_t
cimport cython

import dataclasses

from barrel_p2p.errors import InvalidValue

cdef extern from *:
    """
    #include <structmember.h>

    static Py_ssize_t bp_slot_offset(PyObject *found)
    {
        if (!Py_IS_TYPE(found, &PyMemberDescr_Type)) {
            return -1;
        }
        PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
        return member->type == T_OBJECT_EX ? member->offset : -1;
    }

    static inline PyObject **bp_slot(PyObject *record, Py_ssize_t offset)
    {
        return (PyObject **)((char *)record + offset);
    }

    #define bp_is_plain_type(t) (Py_TYPE(t) == &PyType_Type)
    """
    Py_ssize_t bp_slot_offset(object found)
    PyObject **bp_slot(object record, Py_ssize_t offset) noexcept
    bint bp_is_plain_type(object cls)

cdef extern from "Python.h":
    ctypedef PyObject *(*vectorcallfunc)(PyObject *, PyObject **, size_t, PyObject *)
    ctypedef struct CType "PyTypeObject":
        vectorcallfunc tp_vectorcall
        object (*tp_alloc)(PyTypeObject *, Py_ssize_t)
        object (*tp_call)(object, object, object)
    CType PyType_Type
    PyObject *PyDict_GetItemWithError(object, object) except? NULL
    int PyObject_GC_IsTracked(PyObject *) noexcept
    void PyObject_GC_UnTrack(PyObject *) noexcept
    bint PyDict_Check(PyObject *) noexcept
    bint PyTuple_CheckExact(PyObject *) noexcept
    Py_ssize_t PyVectorcall_NARGS(size_t) noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject *) noexcept
    PyObject *PyTuple_GET_ITEM(PyObject *, Py_ssize_t) noexcept
    void PyTuple_SET_ITEM(object, Py_ssize_t, PyObject *) noexcept

cdef enum:
    FIELDS_LIMIT = 16

FIELDS_MAX = FIELDS_LIMIT

cdef dict _shapes = {}    # class -> _Shape; such classes live as long as the process
cdef object _missing = object()


@cython.final
cdef class _Shape:
    """Where the fields of a class are, and what they are if they are not given."""

    cdef Py_ssize_t _count
    cdef bint _is_tuple
    cdef bint _is_fixed     # nothing can be put into an instance later
    cdef Py_ssize_t _offsets[FIELDS_LIMIT]
    cdef tuple _names
    cdef tuple _defaults    # `_missing` where there is none

    cdef object made(self, PyTypeObject *cls, PyObject **values):
        """A new one with these values, one for each field."""
        cdef Py_ssize_t size = self._count if self._is_tuple else 0
        cdef object new = (<CType *>cls).tp_alloc(cls, size)
        cdef Py_ssize_t i
        cdef bint refers = not self._is_fixed
        for i in range(self._count):
            Py_INCREF(<object>values[i])
            if self._is_tuple:
                PyTuple_SET_ITEM(new, i, values[i])
            else:
                bp_slot(new, self._offsets[i])[0] = values[i]
            refers = refers or _may_refer(values[i])
        if not refers:
            PyObject_GC_UnTrack(<PyObject *>new)
        return new

    cdef bint arrange(
        self, PyObject **args, Py_ssize_t given, PyObject *kwnames, PyObject **values
    ) except -1:
        """Put what was given in the order of the fields; false if it does not fit."""
        cdef Py_ssize_t named = 0 if kwnames is NULL else PyTuple_GET_SIZE(kwnames)
        cdef Py_ssize_t i, at
        if given + named > self._count:
            return False
        for i in range(self._count):
            values[i] = args[i] if i < given else NULL
        for i in range(named):
            at = self.index_of(<object>PyTuple_GET_ITEM(kwnames, i))
            if at < 0 or values[at] is not NULL:
                return False
            values[at] = args[given + i]
        for i in range(self._count):
            if values[i] is NULL:
                if self._defaults[i] is _missing:
                    return False
                values[i] = <PyObject *>self._defaults[i]
        return True

    cdef Py_ssize_t index_of(self, object name) except -2:
        cdef Py_ssize_t i
        for i in range(self._count):
            if self._names[i] is name:
                return i
        for i in range(self._count):
            if self._names[i] == name:
                return i
        return -1


cdef bint _may_refer(PyObject *value) noexcept:
    """Whether the collector has to know of ``value``, now or later."""
    cdef Py_ssize_t i
    if not PyObject_GC_IsTracked(value):
        return PyDict_Check(value)    # it is tracked once it holds what is
    if not PyTuple_CheckExact(value):
        return True
    for i in range(PyTuple_GET_SIZE(value)):
        if PyObject_GC_IsTracked(PyTuple_GET_ITEM(value, i)):
            return True
        if PyDict_Check(PyTuple_GET_ITEM(value, i)):
            return True
    # What the collector does with such a tuple when it comes by.
    PyObject_GC_UnTrack(value)
    return False


cdef object _construct(
    PyObject *cls, PyObject **args, size_t flags, PyObject *kwnames
):
    cdef _Shape shape = <_Shape>PyDict_GetItemWithError(_shapes, <object>cls)
    cdef Py_ssize_t given = PyVectorcall_NARGS(flags)
    cdef PyObject *values[FIELDS_LIMIT]
    if kwnames is NULL and given == shape._count:
        return shape.made(<PyTypeObject *>cls, args)
    if shape.arrange(args, given, kwnames, values):
        return shape.made(<PyTypeObject *>cls, values)
    return _as_usual(<object>cls, args, given, kwnames)


cdef object _as_usual(
    object cls, PyObject **args, Py_ssize_t given, PyObject *kwnames
):
    """What a call of ``cls`` does without us."""
    cdef Py_ssize_t named = 0 if kwnames is NULL else PyTuple_GET_SIZE(kwnames)
    cdef Py_ssize_t i
    cdef tuple positional = tuple([<object>args[i] for i in range(given)])
    cdef dict keywords = {
        <object>PyTuple_GET_ITEM(kwnames, i): <object>args[given + i]
        for i in range(named)
    }
    return PyType_Type.tp_call(cls, positional, keywords)


def quickly_made(cls):
    """Let ``cls(...)`` make an instance without running Python.

    Args:
        cls: A dataclass with slots, or a NamedTuple; up to ``FIELDS_MAX`` fields, none
            of them keyword-only or made by a factory, and nothing to do afterwards.
            Subclasses are made as before.

    Returns:
        ``cls``.

    Raises:
        InvalidValue: It is none of these.
    """
    cdef _Shape shape
    if not bp_is_plain_type(cls):
        raise _unfit(cls, "it has a metaclass")
    shape = _tuple_shape(cls) if issubclass(cls, tuple) else _slots_shape(cls)
    _shapes[cls] = shape
    (<CType *>cls).tp_vectorcall = <vectorcallfunc>_construct
    return cls


cdef _Shape _tuple_shape(cls):
    cdef tuple names = getattr(cls, "_fields", None)
    if names is None or cls.__bases__ != (tuple,):
        raise _unfit(cls, "it is a tuple, but no NamedTuple")
    defaults = [cls._field_defaults.get(name, _missing) for name in names]
    return _shape(cls, names, defaults, [], True, not cls.__dictoffset__)


cdef _Shape _slots_shape(cls):
    if "__dataclass_fields__" not in vars(cls):
        raise _unfit(cls, "it is neither a dataclass nor a NamedTuple")
    if hasattr(cls, "__post_init__") or cls.__new__ is not object.__new__:
        raise _unfit(cls, "making one takes more than its fields")
    fields = dataclasses.fields(cls)
    for field in fields:
        if field.kw_only or not field.init or field.default_factory is not dataclasses.MISSING:
            raise _unfit(cls, f"{field.name} is no plain field")
    names = tuple([field.name for field in fields])
    offsets = [bp_slot_offset(getattr(cls, name, None)) for name in names]
    if -1 in offsets:
        raise _unfit(cls, f"{names[offsets.index(-1)]} has no slot")
    defaults = [
        _missing if field.default is dataclasses.MISSING else field.default
        for field in fields
    ]
    is_fixed = cls.__dataclass_params__.frozen and not cls.__dictoffset__
    return _shape(cls, names, defaults, offsets, False, is_fixed)


cdef _Shape _shape(
    cls, tuple names, list defaults, list offsets, bint is_tuple, bint is_fixed
):
    cdef _Shape shape = _Shape()
    if len(names) > FIELDS_LIMIT:
        raise _unfit(cls, f"{len(names)} fields exceed FIELDS_MAX={FIELDS_MAX}")
    shape._count = len(names)
    shape._is_tuple = is_tuple
    shape._is_fixed = is_fixed
    shape._names = names
    shape._defaults = tuple(defaults)
    for i, offset in enumerate(offsets):
        shape._offsets[i] = offset
    return shape


cdef _unfit(cls, str why):
    return InvalidValue(f"{cls.__qualname__} cannot be quickly made: {why}")

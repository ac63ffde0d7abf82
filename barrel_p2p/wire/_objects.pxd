"""CPython's C API with bare pointers, as codecs need it: nothing here touches a
reference count unless its name says so, and none of it runs Python code.

All names are public in CPython 3.12 to 3.14, but for the conversion of integers longer
than 64 bits, which 3.12 offers under private names only.
"""

from cpython.object cimport PyObject, PyTypeObject
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t


cdef extern from "Python.h":
    PyTypeObject *Py_TYPE(PyObject *)
    void Py_INCREF(PyObject *)
    void Py_DECREF(PyObject *)
    void Py_XDECREF(PyObject *)
    PyObject *PyErr_Occurred()
    void PyErr_Clear()
    bint PyErr_ExceptionMatches(PyObject *)
    Py_ssize_t PyObject_Hash(PyObject *)

    PyObject *Py_None
    PyObject *Py_True
    PyObject *Py_False
    PyTypeObject PyBytes_Type
    PyTypeObject PyDict_Type
    PyTypeObject PyFloat_Type
    PyTypeObject PyFrozenSet_Type
    PyTypeObject PyList_Type
    PyTypeObject PyLong_Type
    PyTypeObject PySet_Type
    PyTypeObject PyTuple_Type
    PyTypeObject PyUnicode_Type

    Py_ssize_t PyBytes_GET_SIZE(PyObject *)
    char *PyBytes_AS_STRING(PyObject *)
    PyObject *PyBytes_FromStringAndSize(const char *, Py_ssize_t)

    bint PyUnicode_IS_COMPACT_ASCII(PyObject *)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *)
    void *PyUnicode_DATA(PyObject *)
    PyObject *PyUnicode_New(Py_ssize_t, unsigned int)
    PyObject *PyUnicode_FromOrdinal(int)
    PyObject *PyUnicode_DecodeUTF8(const char *, Py_ssize_t, const char *)
    PyObject *PyUnicode_DecodeLatin1(const char *, Py_ssize_t, const char *)
    const char *PyUnicode_AsUTF8AndSize(PyObject *, Py_ssize_t *)

    double PyFloat_AS_DOUBLE(PyObject *)
    PyObject *PyFloat_FromDouble(double)

    long long PyLong_AsLongLongAndOverflow(PyObject *, int *)
    PyObject *PyLong_FromLong(long)
    PyObject *PyLong_FromLongLong(long long)
    PyObject *PyLong_FromUnsignedLongLong(unsigned long long)
    PyObject *PyNumber_Absolute(PyObject *)
    PyObject *PyNumber_Negative(PyObject *)

    PyObject *PyTuple_New(Py_ssize_t)
    Py_ssize_t PyTuple_GET_SIZE(PyObject *)
    PyObject *PyList_New(Py_ssize_t)
    Py_ssize_t PyList_GET_SIZE(PyObject *)
    PyObject *PySequence_List(PyObject *)
    PyObject *PyDict_New()
    int PyDict_SetItem(PyObject *, PyObject *, PyObject *)
    bint PyDict_Next(PyObject *, Py_ssize_t *, PyObject **, PyObject **)
    Py_ssize_t PyDict_Size(PyObject *)
    PyObject *PySet_New(PyObject *)
    PyObject *PyFrozenSet_New(PyObject *)
    int PySet_Add(PyObject *, PyObject *)
    Py_ssize_t PySet_GET_SIZE(PyObject *)


cdef extern from *:
    """
    static inline PyObject **
    bp_list_items(PyObject *list)
    {
        return ((PyListObject *)list)->ob_item;
    }

    static inline PyObject **
    bp_tuple_items(PyObject *tuple)
    {
        return ((PyTupleObject *)tuple)->ob_item;
    }

    /* Whether an int is one digit, and its value then. */
    static inline int
    bp_long_is_compact(PyObject *number)
    {
        return PyUnstable_Long_IsCompact((PyLongObject *)number);
    }

    static inline Py_ssize_t
    bp_long_compact(PyObject *number)
    {
        return PyUnstable_Long_CompactValue((PyLongObject *)number);
    }

    /* Bits of a magnitude; UINT64_MAX when there is no memory to tell. */
    static inline uint64_t
    bp_long_bits(PyObject *magnitude)
    {
        PyObject *bits = PyObject_CallMethod(magnitude, "bit_length", NULL);
        unsigned long long count = bits == NULL ? ULLONG_MAX : PyLong_AsUnsignedLongLong(bits);
        Py_XDECREF(bits);
        return count;
    }

    #if PY_VERSION_HEX >= 0x030D0000
    static inline int
    bp_long_store(PyObject *magnitude, uint8_t *to, size_t size)
    {
        int how = Py_ASNATIVEBYTES_LITTLE_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER;
        return PyLong_AsNativeBytes(magnitude, to, (Py_ssize_t)size, how) < 0 ? -1 : 0;
    }

    static inline PyObject *
    bp_long_load(const uint8_t *from, size_t size)
    {
        return PyLong_FromUnsignedNativeBytes(from, size, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
    }
    #else
    static inline int
    bp_long_store(PyObject *magnitude, uint8_t *to, size_t size)
    {
        return _PyLong_AsByteArray((PyLongObject *)magnitude, to, size, 1, 0);
    }

    static inline PyObject *
    bp_long_load(const uint8_t *from, size_t size)
    {
        return _PyLong_FromByteArray(from, size, 1, 0);
    }
    #endif
    """
    PyObject **bp_list_items(PyObject *) noexcept
    PyObject **bp_tuple_items(PyObject *) noexcept
    bint bp_long_is_compact(PyObject *) noexcept
    Py_ssize_t bp_long_compact(PyObject *) noexcept
    uint64_t bp_long_bits(PyObject *) noexcept
    int bp_long_store(PyObject *, uint8_t *, size_t) noexcept
    PyObject *bp_long_load(const uint8_t *, size_t) noexcept

/*
 * The term decoder and encoder, compiled into one program with libFuzzer and an
 * interpreter, under any bytes. Built and run by fuzz_terms.py.
 *
 * What decodes must encode again, to bytes that decode to a value of the same encoded
 * length; what is refused must be refused with WireError.
 */
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define VERSION_BYTE 131

PyObject *PyInit_core_terms(void);
PyObject *PyInit_wire_terms(void);

static PyObject *decode;
static PyObject *encode;
static PyObject *key_bytes;
static PyObject *wire_error;
static PyObject *not_encodable;

static void
require(int condition)
{
    if (!condition) {
        if (PyErr_Occurred()) {
            PyErr_Print();
        }
        abort();
    }
}

static PyObject *
imported(const char *module, const char *name)
{
    PyObject *loaded = PyImport_ImportModule(module);
    require(loaded != NULL);
    PyObject *found = PyObject_GetAttrString(loaded, name);
    require(found != NULL);
    Py_DECREF(loaded);
    return found;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    require(PyImport_AppendInittab("barrel_p2p.core._terms", PyInit_core_terms) == 0);
    require(PyImport_AppendInittab("barrel_p2p.wire._terms", PyInit_wire_terms) == 0);
    Py_InitializeEx(0);
    decode = imported("barrel_p2p.wire.terms", "decode");
    encode = imported("barrel_p2p.wire.terms", "encode");
    key_bytes = imported("barrel_p2p.wire.terms", "key_bytes");
    wire_error = imported("barrel_p2p.errors", "WireError");
    not_encodable = imported("barrel_p2p.errors", "NotEncodable");
    return 0;
}

/* Decode a heap block of exactly the term's size, so that a read beside it is seen. */
static PyObject *
decode_exactly(const uint8_t *data, size_t size)
{
    char *exact = malloc(size + 1);
    require(exact != NULL);
    exact[0] = (char)VERSION_BYTE;
    memcpy(exact + 1, data, size);
    PyObject *view = PyMemoryView_FromMemory(exact, (Py_ssize_t)size + 1, PyBUF_READ);
    require(view != NULL);
    PyObject *value = PyObject_CallOneArg(decode, view);
    Py_DECREF(view);
    free(exact);
    return value;
}

static void
check_key(PyObject *value, PyObject *encoded)
{
    PyObject *key = PyObject_CallOneArg(key_bytes, value);
    if (key == NULL) {
        require(PyErr_ExceptionMatches(not_encodable));
        PyErr_Clear();
        return;
    }
    require(PyObject_RichCompareBool(key, encoded, Py_EQ) == 1);
    Py_DECREF(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PyObject *value = decode_exactly(data, size);
    if (value == NULL) {
        require(PyErr_ExceptionMatches(wire_error));
        PyErr_Clear();
        return 0;
    }
    PyObject *once = PyObject_CallOneArg(encode, value);
    require(once != NULL);
    check_key(value, once);
    PyObject *again = PyObject_CallOneArg(decode, once);
    require(again != NULL);
    PyObject *twice = PyObject_CallOneArg(encode, again);
    require(twice != NULL);
    /* The members of a set may have changed places. */
    require(PyBytes_GET_SIZE(once) == PyBytes_GET_SIZE(twice));
    Py_DECREF(twice);
    Py_DECREF(again);
    Py_DECREF(once);
    Py_DECREF(value);
    return 0;
}

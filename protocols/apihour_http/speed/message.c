/* The header fields of a head as applications have them: aiohttp's as texts, ASGI's as bytes. */

#include "speed.h"

/* The length of a value without the white space behind it (RFC 9110 5.5). */
static Py_ssize_t length_of(PyObject *value)
{
    const char *bytes = PyBytes_AS_STRING(value);
    Py_ssize_t size = PyBytes_GET_SIZE(value);
    while (size && (bytes[size - 1] == ' ' || bytes[size - 1] == '\t'))
        size--;
    return size;
}

static PyObject *text_of(PyObject *value)
{
    return PyUnicode_DecodeUTF8(PyBytes_AS_STRING(value), length_of(value), "surrogateescape");
}

int is_field(PyObject *field)
{
    return PyTuple_CheckExact(field) && PyTuple_GET_SIZE(field) == 2
        && PyBytes_CheckExact(PyTuple_GET_ITEM(field, 0))
        && PyBytes_CheckExact(PyTuple_GET_ITEM(field, 1));
}

/* The key of a name: `names` makes one that it has not (``__missing__``). */
static PyObject *key_of(PyObject *names, PyObject *name)
{
    PyObject *key = PyDict_GetItemWithError(names, name);
    if (key)
        return Py_NewRef(key);
    return PyErr_Occurred() ? NULL : PyObject_GetItem(names, name);
}

static PyObject *pair_of(PyObject *names, PyObject *field)
{
    if (!is_field(field)) {
        PyErr_SetString(PyExc_TypeError, "texts(): expected pairs of bytes");
        return NULL;
    }
    PyObject *key = key_of(names, PyTuple_GET_ITEM(field, 0));
    PyObject *text = key ? text_of(PyTuple_GET_ITEM(field, 1)) : NULL;
    PyObject *pair = text ? PyTuple_Pack(2, key, text) : NULL;
    Py_XDECREF(key);
    Py_XDECREF(text);
    return pair;
}

/* texts(fields, names): the fields as pairs of texts, without white space behind a value. */
PyObject *texts(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 2 || !PyList_CheckExact(args[0]) || !PyDict_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "texts(): expected a list of fields and a dict of names");
        return NULL;
    }
    /* A key is made by Python, which could do anything to the list meanwhile. */
    PyObject *fields = PyList_AsTuple(args[0]);
    PyObject *found = fields ? PyList_New(PyTuple_GET_SIZE(fields)) : NULL;
    for (Py_ssize_t at = 0; found && at < PyTuple_GET_SIZE(fields); at++) {
        PyObject *pair = pair_of(args[1], PyTuple_GET_ITEM(fields, at));
        if (!pair)
            Py_CLEAR(found);
        else
            PyList_SET_ITEM(found, at, pair);
    }
    Py_XDECREF(fields);
    return found;
}

/* `name` in lower case; itself where it is that. */
static PyObject *lower_of(PyObject *name)
{
    const char *bytes = PyBytes_AS_STRING(name);
    Py_ssize_t size = PyBytes_GET_SIZE(name), at = 0;
    while (at < size && !Py_ISUPPER(bytes[at]))
        at++;
    if (at == size)
        return Py_NewRef(name);
    /* Without the text: bytes of one character made of it are everybody's. */
    PyObject *lower = PyBytes_FromStringAndSize(NULL, size);
    for (at = 0; lower && at < size; at++)
        PyBytes_AS_STRING(lower)[at] = (char)Py_TOLOWER(bytes[at]);
    return lower;
}

static PyObject *lowered_pair(PyObject *field)
{
    PyObject *value = PyTuple_GET_ITEM(field, 1);
    Py_ssize_t length = length_of(value);
    PyObject *name = lower_of(PyTuple_GET_ITEM(field, 0));
    PyObject *text = length == PyBytes_GET_SIZE(value) ? Py_NewRef(value)
        : PyBytes_FromStringAndSize(PyBytes_AS_STRING(value), length);
    PyObject *pair = name && text ? PyTuple_Pack(2, name, text) : NULL;
    Py_XDECREF(name);
    Py_XDECREF(text);
    return pair;
}

/* lowered(fields): the fields with names in lower case, without white space behind a value. */
PyObject *lowered(PyObject *module, PyObject *given)
{
    (void)module;
    /* A tuple: the collector may run in between, and whatever it runs. */
    PyObject *fields = PyList_CheckExact(given) ? PyList_AsTuple(given) : NULL;
    PyObject *found = fields ? PyList_New(PyTuple_GET_SIZE(fields)) : NULL;
    for (Py_ssize_t at = 0; found && at < PyTuple_GET_SIZE(fields); at++) {
        PyObject *field = PyTuple_GET_ITEM(fields, at);
        PyObject *pair = is_field(field) ? lowered_pair(field) : NULL;
        if (!pair)
            Py_CLEAR(found);
        else
            PyList_SET_ITEM(found, at, pair);
    }
    Py_XDECREF(fields);
    if (!found && !PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "lowered(): expected a list of pairs of bytes");
    return found;
}

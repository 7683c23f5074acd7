/* The header fields of a head as an application of aiohttp has them: texts. */

#include "speed.h"

static PyObject *text_of(PyObject *value)
{
    const char *bytes = PyBytes_AS_STRING(value);
    Py_ssize_t size = PyBytes_GET_SIZE(value);
    while (size && (bytes[size - 1] == ' ' || bytes[size - 1] == '\t'))
        size--;
    return PyUnicode_DecodeUTF8(bytes, size, "surrogateescape");
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
    if (!PyTuple_CheckExact(field) || PyTuple_GET_SIZE(field) != 2
        || !PyBytes_CheckExact(PyTuple_GET_ITEM(field, 0))
        || !PyBytes_CheckExact(PyTuple_GET_ITEM(field, 1))) {
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

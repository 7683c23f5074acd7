/* A request as its connection makes it; its header fields are decoded when somebody asks. */

#include "speed.h"

PyObject *fields_of(const char *data, size_t at, size_t end)
{
    PyObject *found = PyList_New(0);
    if (!found)
        return NULL;
    while (at < end) {
        Field field = next_field(data, &at);
        PyObject *pair = Py_BuildValue(
            "(y#y#)", data + field.name, (Py_ssize_t)field.name_len,
            data + field.value, (Py_ssize_t)field.value_len);
        if (!pair || PyList_Append(found, pair)) {
            Py_XDECREF(pair);
            Py_DECREF(found);
            return NULL;
        }
        Py_DECREF(pair);
    }
    return found;
}

static PyObject *get_raw_headers(Received *self, void *closure)
{
    (void)closure;
    if (!self->raw_headers) {
        if (!self->read) {
            PyErr_SetString(PyExc_AttributeError, "raw_headers");
            return NULL;
        }
        self->raw_headers = fields_of(
            PyBytes_AS_STRING(self->read), self->fields, self->fields_end);
        if (!self->raw_headers)
            return NULL;
        Py_CLEAR(self->read);
    }
    return Py_NewRef(self->raw_headers);
}

static int set_raw_headers(Received *self, PyObject *value, void *closure)
{
    (void)closure;
    Py_XSETREF(self->raw_headers, Py_XNewRef(value));
    return 0;
}

static PyObject *get_match_info(Received *self, void *closure)
{
    (void)closure;
    if (!self->match_info && !(self->match_info = PyDict_New()))
        return NULL;
    return Py_NewRef(self->match_info);
}

static int set_match_info(Received *self, PyObject *value, void *closure)
{
    (void)closure;
    Py_XSETREF(self->match_info, Py_XNewRef(value));
    return 0;
}

#define ALL(do_it) \
    do_it(lane); do_it(endpoint); do_it(verb); do_it(target); do_it(body); \
    do_it(match_info); do_it(raw_headers); do_it(read)
COLLECTED(Received)

#define OBJECT(name) {#name, T_OBJECT_EX, offsetof(Received, name), 0, NULL}
static PyMemberDef members[] = {
    OBJECT(lane), OBJECT(endpoint), OBJECT(verb), OBJECT(target), OBJECT(body),
    {"arrived", T_DOUBLE, offsetof(Received, arrived), 0, NULL},
    {"keep", T_BOOL, offsetof(Received, keep), 0, NULL},
    {"modern", T_BOOL, offsetof(Received, modern), 0, NULL},
    {"plain", T_BOOL, offsetof(Received, plain), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* The first value of the field `name`, lower case; the others stay undecoded. */
static PyObject *field(Received *self, PyObject *name)
{
    if (!PyBytes_Check(name)) {
        PyErr_SetString(PyExc_TypeError, "field(): expected the name as bytes, lower case");
        return NULL;
    }
    const char *wanted = PyBytes_AS_STRING(name);
    size_t length = (size_t)PyBytes_GET_SIZE(name);
    if (!self->raw_headers && self->read) {
        const char *data = PyBytes_AS_STRING(self->read);
        for (size_t at = self->fields; at < self->fields_end;) {
            Field each = next_field(data, &at);
            if (each.name_len == length && same(data + each.name, wanted, length))
                return PyBytes_FromStringAndSize(
                    data + each.value, (Py_ssize_t)each.value_len);
        }
        Py_RETURN_NONE;
    }
    PyObject *fields = get_raw_headers(self, NULL);
    PyObject *found = NULL, *iterator = fields ? PyObject_GetIter(fields) : NULL, *pair;
    Py_XDECREF(fields);
    while (iterator && !found && (pair = PyIter_Next(iterator))) {
        if (PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2) {
            PyObject *each = PyTuple_GET_ITEM(pair, 0);
            if (PyBytes_Check(each) && (size_t)PyBytes_GET_SIZE(each) == length
                && same(PyBytes_AS_STRING(each), wanted, length))
                found = Py_NewRef(PyTuple_GET_ITEM(pair, 1));
        }
        Py_DECREF(pair);
    }
    Py_XDECREF(iterator);
    if (!found && !PyErr_Occurred())
        Py_RETURN_NONE;
    return found;
}

/* The end of a part of a query: up to the next '&'. */
static const char *end_of_part(const char *at, const char *end)
{
    const char *found = memchr(at, '&', (size_t)(end - at));
    return found ? found : end;
}

/* Whether what is between has nothing that must be decoded, and no more parts than are looked at
 * one by one here. */
static int is_plain_query(const char *at, const char *end)
{
    int parts = 0;
    for (; at < end; at++) {
        if (*at == '%' || *at == '+' || (unsigned char)*at > 127)
            return 0;
        parts += *at == '&';
    }
    return parts < 64;
}

int find_parameter(const Received *self, PyObject *name, const char **value, Py_ssize_t *size)
{
    if (!self->target || !PyBytes_Check(self->target))
        return -1;
    const char *at = PyBytes_AS_STRING(self->target), *end = at + PyBytes_GET_SIZE(self->target);
    Py_ssize_t length = PyBytes_GET_SIZE(name);
    const char *next;
    *value = NULL;
    if (!(at = memchr(at, '?', (size_t)(end - at))))
        return 0;
    if (!is_plain_query(++at, end))
        return -1;
    for (; at < end; at = next + 1) {
        next = end_of_part(at, end);
        Py_ssize_t part = next - at; /* name=value, or a name alone */
        if (!part || part < length || memcmp(at, PyBytes_AS_STRING(name), (size_t)length)
            || (part > length && at[length] != '='))
            continue;
        *value = part > length ? at + length + 1 : next;
        *size = next - *value;
    }
    return *value != NULL;
}

/* The last value of the query's parameter `name`; False where it must be decoded first. */
static PyObject *parameter(Received *self, PyObject *name)
{
    const char *value;
    Py_ssize_t size;
    if (!PyBytes_Check(name)) {
        PyErr_SetString(PyExc_TypeError, "parameter(): expected the name as bytes");
        return NULL;
    }
    int found = find_parameter(self, name, &value, &size);
    if (found < 0)
        Py_RETURN_FALSE;
    if (!found)
        Py_RETURN_NONE;
    return PyUnicode_DecodeASCII(value, size, NULL);
}

static PyMethodDef methods[] = {
    {"field", (PyCFunction)field, METH_O,
     "The first value of a field by its name in lower case, or None."},
    {"parameter", (PyCFunction)parameter, METH_O,
     "The last value of a parameter of the query, or None; False where it must be decoded."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"raw_headers", (getter)get_raw_headers, (setter)set_raw_headers, NULL, NULL},
    {"match_info", (getter)get_match_info, (setter)set_match_info, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject ReceivedType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "apihour_http.speed._speed.Received",
    .tp_doc = "What of a request its connection sets.",
    .tp_basicsize = sizeof(Received),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    COLLECTOR_SLOTS,
    .tp_members = members,
    .tp_getset = properties,
    .tp_methods = methods,
};

/* QueryNumber: what reads a parameter of the query that is a whole number, as most of them are.
 *
 * It is called with a request, and takes digits as they are usually written. All else (a sign, a
 * leading zero, a number that is too long, what must be decoded, none at all) it leaves to what it
 * was made with, which says what that is (apihour_http.routing.validation).
 */

#include "speed.h"

#define LONGEST 18 /* digits that fit a long long, whatever they are */

typedef struct {
    PyObject_HEAD
    PyObject *name, *otherwise;
} QueryNumber;

#define ALL(do_it) do_it(name); do_it(otherwise)
COLLECTED(QueryNumber)

/* The number that these bytes are, -1 where they are to be looked at otherwise. */
static long long number_of(const char *text, Py_ssize_t size)
{
    long long number = 0;
    if (size < 1 || size > LONGEST || (*text == '0' && size > 1))
        return -1;
    for (const char *end = text + size; text < end; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        number = 10 * number + (*text - '0');
    }
    return number;
}

static PyObject *call(QueryNumber *self, PyObject *args, PyObject *names)
{
    PyObject *request;
    const char *text;
    Py_ssize_t size;
    if ((names && PyDict_GET_SIZE(names)) || PyTuple_GET_SIZE(args) != 1) {
        PyErr_SetString(PyExc_TypeError, "expected a request, and nothing else");
        return NULL;
    }
    request = PyTuple_GET_ITEM(args, 0);
    if (PyObject_TypeCheck(request, &ReceivedType)
        && find_parameter((Received *)request, self->name, &text, &size) > 0) {
        long long number = number_of(text, size);
        if (number >= 0)
            return PyLong_FromLongLong(number);
    }
    return PyObject_CallOneArg(self->otherwise, request);
}

static PyObject *make(PyTypeObject *type, PyObject *args, PyObject *names)
{
    PyObject *name, *otherwise;
    QueryNumber *self;
    (void)names;
    if (!PyArg_ParseTuple(args, "SO", &name, &otherwise)
        || !(self = (QueryNumber *)type->tp_alloc(type, 0)))
        return NULL;
    self->name = Py_NewRef(name);
    self->otherwise = Py_NewRef(otherwise);
    return (PyObject *)self;
}

PyTypeObject QueryNumberType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "apihour_http.speed._speed.QueryNumber",
    .tp_doc = "QueryNumber(name, otherwise): reads that parameter, or has it read.",
    .tp_basicsize = sizeof(QueryNumber),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = make,
    .tp_call = (ternaryfunc)call,
    COLLECTOR_SLOTS,
};

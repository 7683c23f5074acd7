/* What a server's start decided, and the counters that every request touches. */

#include "speed.h"

static PyMemberDef tally_members[] = {
    {"seconds", T_DOUBLE, offsetof(Tally, seconds), 0, NULL},
    {"fast", T_PYSSIZET, offsetof(Tally, fast), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject TallyType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "apihour_http.speed._speed.Tally",
    .tp_doc = "Seconds of all answers, and how many of them were fast.",
    .tp_basicsize = sizeof(Tally),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_members = tally_members,
};

#define ALL(do_it) \
    do_it(plain); do_it(known); do_it(resolve); do_it(now); do_it(counters); do_it(dumps); \
    do_it(log); do_it(parsing); do_it(request); do_it(encoded)
COLLECTED(Plan)

static int init(Plan *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        "plain", "known", "resolve", "now", "counters", "dumps", "log", "parsing",
        "request", "encoded", "max_head", "max_line", "max_fields", "max_body", "slow", "has_app",
        "budget", NULL,
    };
    PyObject *plain, *known, *resolve, *now, *counters, *dumps, *log, *parsing, *request,
        *encoded;
    Py_ssize_t head, line, fields, body;
    int has_app, budget;
    double slow;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "$O!O!OOO!OOOO!O!nnnndpi", names, &PyDict_Type, &plain, &PyDict_Type,
            &known, &resolve, &now, &TallyType, &counters, &dumps, &log, &parsing,
            &PyType_Type, &request, &PyType_Type, &encoded, &head, &line, &fields, &body, &slow,
            &has_app, &budget))
        return -1;
    if (!PyType_IsSubtype((PyTypeObject *)request, &ReceivedType)) {
        PyErr_SetString(PyExc_TypeError, "request: expected a subclass of Received");
        return -1;
    }
    if (head < 0 || line < 0 || fields < 0 || body < 0) {
        PyErr_SetString(PyExc_ValueError, "a limit is below 0");
        return -1;
    }
#define SET(name) Py_XSETREF(self->name, Py_NewRef(name))
    SET(plain); SET(known); SET(resolve); SET(now); SET(counters); SET(dumps); SET(log);
    SET(parsing);
    Py_XSETREF(self->request, (PyTypeObject *)Py_NewRef(request));
    Py_XSETREF(self->encoded, (PyTypeObject *)Py_NewRef(encoded));
    self->limits = (Limits){(size_t)head, (size_t)line, (size_t)fields, (size_t)body};
    self->slow = slow;
    self->has_app = (char)has_app;
    self->budget = budget;
    return 0;
}

PyTypeObject PlanType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "apihour_http.speed._speed.Plan",
    .tp_doc = "What a server's start decided.",
    .tp_basicsize = sizeof(Plan),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)init,
    COLLECTOR_SLOTS,
};

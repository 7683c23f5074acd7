/* Lane, the base of a connection: what it has, and which of its reads go the fast way. */

#include "speed.h"

static PyObject *lane_answer(Lane *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyObject_TypeCheck(args[0], &ReceivedType)) {
        PyErr_SetString(PyExc_TypeError, "answer(): expected a request and a result");
        return NULL;
    }
    if (!self->plan || Py_TYPE(self->plan) != &PlanType || !self->conn) {
        PyErr_SetString(PyExc_AttributeError, "answer(): a connection without a plan");
        return NULL;
    }
    return answer(self, (Received *)args[0], args[1]);
}

/* What was raised on the way is refused as it is where the parser calls. */
static PyObject *went_wrong(Lane *self)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return NULL;
    PyObject *error = raised();
    PyObject *done = PyObject_CallMethodOneArg(self->intake, s_went_wrong, error);
    Py_DECREF(error);
    return done;
}

/* Hand on what follows an upgrade. */
static PyObject *hand_on(Lane *self, PyObject *data)
{
    PyObject *sink = Py_NewRef(self->sink);
    PyObject *done = PyObject_CallOneArg(sink, data);
    Py_DECREF(sink);
    if (!done)
        return NULL;
    Py_DECREF(done);
    Py_RETURN_NONE;
}

#define PIPELINED 32 /* requests that are looked for in one read */

/* Whether a request may begin the moment it is read. */
static int is_ready(Lane *self)
{
    return self->ready && self->plan && Py_TYPE(self->plan) == &PlanType && self->between
        && PyList_CheckExact(self->between) && PyList_GET_SIZE(self->between) && self->conn
        && self->answers && self->queue && self->intake && self->service;
}

/* Whether the transport still sends; -1 with an exception. */
static int is_open(Lane *self)
{
    if (!self->transport || self->transport == Py_None)
        return 0;
    PyObject *closing = PyObject_CallMethodNoArgs(self->transport, s_is_closing);
    int found = closing ? PyObject_Not(closing) : -1;
    Py_XDECREF(closing);
    return found;
}

/* Begin the request that `size` bytes of `data` from `at` are, as begin() does. */
static int begin_part(Lane *self, PyObject *data, Py_ssize_t at, Py_ssize_t size, const Head *head)
{
    PyObject *plan = Py_NewRef(self->plan);
    PyObject *part = size == PyBytes_GET_SIZE(data) ? Py_NewRef(data)
        : PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + at, size);
    int done = part ? begin(self, (Plan *)plan, part, head) : -1;
    Py_XDECREF(part);
    Py_DECREF(plan);
    return done;
}

/* Describe the requests that a read is made of; their number, 0 where it has anything else, more
 * of them than are answered in a turn, or one behind the last. */
static int requests_of(PyObject *data, const Plan *plan, Head *heads)
{
    const char *at = PyBytes_AS_STRING(data), *end = at + PyBytes_GET_SIZE(data);
    int count = 0, most = plan->budget < PIPELINED ? plan->budget : PIPELINED;
    do {
        if (count == most || (count && heads[count - 1].closes)
            || !scan_first(at, (size_t)(end - at), &plan->limits, &heads[count]))
            return 0;
        at += heads[count++].end;
    } while (at < end);
    return count;
}

/* Begin the requests that a read is, one after the other is answered; how many bytes of it are
 * done with, -1 with an exception. On a connection that an endpoint has closed none is begun. */
static Py_ssize_t begin_each(Lane *self, PyObject *data, const Head *heads, int count)
{
    Py_ssize_t taken = 0;
    for (int each = 0; each < count; each++) {
        int open = each ? is_open(self) : 1;
        if (open <= 0)
            return open < 0 ? -1 : PyBytes_GET_SIZE(data);
        if (each && !is_ready(self))
            break;
        int done = begin_part(self, data, taken, (Py_ssize_t)heads[each].end, &heads[each]);
        if (done < 0)
            return -1;
        if (!done)
            break;
        taken += (Py_ssize_t)heads[each].end;
    }
    return taken;
}

/* Have answers leave together from now on: 1, or 0 where they do already; -1 with an exception. */
static int hold(Lane *self)
{
    PyObject *outbox = PyObject_GetAttr((PyObject *)self, s_outbox);
    Py_XDECREF(outbox);
    if (outbox != Py_None)
        return outbox ? 0 : -1;
    PyObject *done = PyObject_CallMethodNoArgs((PyObject *)self, s_hold_answers);
    Py_XDECREF(done);
    return done ? 1 : -1;
}

/* The same for one request, or for several whose answers leave in one write. What one of them
 * raised is told by a refusal, which sends what is held first. */
static Py_ssize_t begin_all(Lane *self, PyObject *data)
{
    Head heads[PIPELINED];
    int count = is_ready(self) ? requests_of(data, (Plan *)self->plan, heads) : 0;
    int held = count > 1 ? hold(self) : 0;
    Py_ssize_t taken = held < 0 ? -1 : begin_each(self, data, heads, count);
    if (held > 0 && taken >= 0) {
        PyObject *done = PyObject_CallMethodNoArgs((PyObject *)self, s_flush);
        Py_XDECREF(done);
        return done ? taken : -1;
    }
    return taken;
}

static PyObject *data_received(Lane *self, PyObject *data)
{
    PyObject *done;
    if (self->sink && self->sink != Py_None && PyBytes_CheckExact(data)
        && PyBytes_GET_SIZE(data) <= SLICE)
        return hand_on(self, data);
    Py_INCREF(self);
    Py_ssize_t taken = PyBytes_CheckExact(data) ? begin_all(self, data) : 0;
    if (taken < 0) {
        done = went_wrong(self);
    } else if (!taken) {
        done = PyObject_CallMethodOneArg((PyObject *)self, s_take, data);
    } else if (taken == PyBytes_GET_SIZE(data)) {
        done = Py_NewRef(Py_None);
    } else {
        PyObject *rest = PyBytes_FromStringAndSize(
            PyBytes_AS_STRING(data) + taken, PyBytes_GET_SIZE(data) - taken);
        done = rest ? PyObject_CallMethodOneArg((PyObject *)self, s_take, rest) : NULL;
        Py_XDECREF(rest);
    }
    Py_DECREF(self);
    return done;
}

#define ALL(do_it) \
    do_it(service); do_it(conn); do_it(transport); do_it(write); do_it(state); do_it(answers); \
    do_it(queue); do_it(intake); do_it(between); do_it(plan); do_it(read); do_it(fields); \
    do_it(sink)
COLLECTED(Lane)

#define OBJECT(name) {#name, T_OBJECT_EX, offsetof(Lane, name), 0, NULL}
static PyMemberDef members[] = {
    OBJECT(service), OBJECT(conn), OBJECT(transport), OBJECT(write), OBJECT(state),
    OBJECT(answers), OBJECT(queue), OBJECT(intake), OBJECT(between), OBJECT(plan),
    OBJECT(sink),
    {"idle_since", T_DOUBLE, offsetof(Lane, idle_since), 0, NULL},
    {"ready", T_BOOL, offsetof(Lane, ready), 0, NULL},
    {"write_paused", T_BOOL, offsetof(Lane, write_paused), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef methods_of_lane[] = {
    {"data_received", (PyCFunction)data_received, METH_O, "Take a read."},
    {"answer", (PyCFunction)(void (*)(void))lane_answer, METH_FASTCALL,
     "Answer a request; what sends the rest of it is returned, None if there is no rest."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject LaneType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "apihour_http.speed._speed.Lane",
    .tp_doc = "The fast way of a connection.",
    .tp_basicsize = sizeof(Lane),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    COLLECTOR_SLOTS,
    .tp_members = members,
    .tp_methods = methods_of_lane,
};

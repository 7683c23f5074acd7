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

static PyObject *data_received(Lane *self, PyObject *data)
{
    Head head;
    if (self->sink && self->sink != Py_None && PyBytes_CheckExact(data)
        && PyBytes_GET_SIZE(data) <= SLICE)
        return hand_on(self, data);
    if (self->ready && PyBytes_CheckExact(data) && self->plan && self->between
        && Py_TYPE(self->plan) == &PlanType && PyList_CheckExact(self->between)
        && PyList_GET_SIZE(self->between) && self->conn && self->answers && self->queue
        && self->intake && self->service
        && scan(PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data),
                &((Plan *)self->plan)->limits, &head)) {
        PyObject *plan = Py_NewRef(self->plan);
        Py_INCREF(self);
        int done = begin(self, (Plan *)plan, data, &head);
        Py_DECREF(plan);
        PyObject *failed = done < 0 ? went_wrong(self) : NULL;
        Py_DECREF(self);
        if (done < 0)
            return failed;
        if (done)
            Py_RETURN_NONE;
    }
    return PyObject_CallMethodOneArg((PyObject *)self, s_take, data);
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

/* The fast way of a connection: from a read to the endpoint's call, and from its result to the
 * transport.
 *
 * Rules:
 *
 * - It begins a request only where the slow way (HTTPConnection.take) would begin the same one at
 *   once: the connection is ready, its parser stands before a message, and the read is one whole
 *   plain request (scan.c) to an endpoint. All else is left to the slow way, untouched.
 * - Every decision is Python's: which endpoint, what a failure becomes, any answer that is not
 *   a dictionary. Here is only what is the same for every usual request.
 */

#include "speed.h"

#include <time.h>

typedef struct {
    PyObject_HEAD
    PyObject *service, *conn, *transport, *write, *state, *answers, *queue, *intake, *between,
        *plan;
    PyObject *read, *fields; /* the last head of a hosted request, and what was made of it */
    size_t read_at, read_len;
    double idle_since;
    char ready, write_paused;
} Lane;

static PyObject *s_advance, *s_answer_any, *s_call, *s_check_slow, *s_close, *s_count, *s_current,
    *s_failed, *s_idle, *s_inline, *s_json_head, *s_log_request, *s_quick, *s_request, *s_requests, *s_run,
    *s_send, *s_state, *s_streams_body, *s_take, *s_take_hosted, *s_went_wrong;
static PyObject *one, *empty, *nothing;

static double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec * 1000000000LL + now.tv_nsec) / 1e9;
}

/* -- from a result to the transport */

/* The answer of 200 with `text` behind `head`: two texts of ASCII; `last` says that it is that. */
static PyObject *joined(PyObject *head, PyObject *text, int last)
{
    char number[64];
    Py_ssize_t head_size = PyUnicode_GET_LENGTH(head), size = PyUnicode_GET_LENGTH(text);
    int digits = snprintf(number, sizeof number, "%zd\r\n%s\r\n", size,
                          last ? "Connection: close\r\n" : "");
    PyObject *found = PyBytes_FromStringAndSize(NULL, head_size + digits + size);
    if (found) {
        char *at = PyBytes_AS_STRING(found);
        memcpy(at, PyUnicode_DATA(head), (size_t)head_size);
        memcpy(at + head_size, number, (size_t)digits);
        memcpy(at + head_size + digits, PyUnicode_DATA(text), (size_t)size);
    }
    return found;
}

static int is_ascii(PyObject *text)
{
    return PyUnicode_CheckExact(text) && PyUnicode_IS_COMPACT_ASCII(text);
}

/* Count an answer, and tell what was slow, and the log. */
static int note(Lane *self, Plan *plan, Received *request, Py_ssize_t size)
{
    double now = self->idle_since = monotonic(), seconds = now - request->arrived;
    ((Tally *)plan->counters)->seconds += seconds;
    PyObject *when = NULL, *done;
    int failed = -1;
    if (seconds < FAST) {
        ((Tally *)plan->counters)->fast++;
    } else {
        PyObject *count = PyFloat_FromDouble(seconds);
        done = count ? PyObject_CallMethodOneArg(plan->counters, s_count, count) : NULL;
        Py_XDECREF(count);
        if (!done)
            return -1;
        Py_DECREF(done);
    }
    if (PyObject_SetAttr(self->conn, s_state, s_idle))
        return -1;
    if (seconds <= plan->slow && plan->log == Py_None)
        return 0;
    if (!(when = PyFloat_FromDouble(now)))
        return -1;
    if (seconds > plan->slow) {
        done = PyObject_CallMethodObjArgs(
            (PyObject *)self, s_check_slow, request, when, NULL);
        if (!done)
            goto end;
        Py_DECREF(done);
    }
    if (plan->log != Py_None) {
        PyObject *status = PyLong_FromLong(200), *length = PyLong_FromSsize_t(size);
        done = status && length ? PyObject_CallMethodObjArgs(
            (PyObject *)self, s_log_request, request, status, length, when, NULL) : NULL;
        Py_XDECREF(status);
        Py_XDECREF(length);
        if (!done)
            goto end;
        Py_DECREF(done);
    }
    failed = 0;
end:
    Py_DECREF(when);
    return failed;
}

/* Whether nothing but the end of its connection keeps a request from being plain. */
static int is_last(Received *request)
{
    PyObject *verb = request->verb; /* ours, or the parser's */
    return !request->keep && request->modern && verb && PyBytes_CheckExact(verb)
        && (PyBytes_GET_SIZE(verb) != 4 || memcmp(PyBytes_AS_STRING(verb), "HEAD", 4));
}

/* The bytes of the usual answer. NULL without an exception where it is none of the usual. */
static PyObject *usual(Plan *plan, Received *request, PyObject *result, Py_ssize_t *size)
{
    PyObject *quick, *text, *head, *data = NULL;
    if (!PyDict_CheckExact(result) || !(request->plain || is_last(request)))
        return NULL;
    if (!(quick = PyObject_GetAttr(plan->now, s_quick)))
        return NULL;
    Py_DECREF(quick);
    if (quick != Py_True)
        return NULL;
    if (!(text = PyObject_CallOneArg(plan->dumps, result))) {
        /* The general way tries harder, and says what is wrong. */
        if (PyErr_ExceptionMatches(PyExc_Exception))
            PyErr_Clear();
        return NULL;
    }
    if ((head = PyObject_GetAttr(plan->now, s_json_head)) && is_ascii(text) && is_ascii(head)) {
        *size = PyUnicode_GET_LENGTH(text);
        data = joined(head, text, !request->keep);
    }
    Py_XDECREF(head);
    Py_DECREF(text);
    return data;
}

/* Answer with `result`; what sends the rest of it is returned, None if there is no rest. */
static PyObject *answer(Lane *self, Received *request, PyObject *result)
{
    Plan *plan = (Plan *)self->plan;
    Py_ssize_t size = 0;
    PyObject *data = usual(plan, request, result, &size);
    if (!data) {
        if (PyErr_Occurred())
            return NULL;
        return PyObject_CallMethodObjArgs(
            (PyObject *)self, s_answer_any, request, result, NULL);
    }
    int failed = 0;
    if (self->transport && self->transport != Py_None && self->write) {
        PyObject *write = Py_NewRef(self->write);
        PyObject *done = PyObject_CallOneArg(write, data);
        Py_DECREF(write);
        failed = !done || note(self, plan, request, size);
        Py_XDECREF(done);
        if (!failed && !request->keep) {
            done = PyObject_CallMethodNoArgs((PyObject *)self, s_close);
            failed = !done;
            Py_XDECREF(done);
        }
    }
    Py_DECREF(data);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

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

/* -- from a read to the endpoint */

/* conn.requests += 1, conn.state = "request" */
static int begun(PyObject *conn)
{
    PyObject *requests = PyObject_GetAttr(conn, s_requests);
    PyObject *more = requests ? PyNumber_Add(requests, one) : NULL;
    int failed = !more || PyObject_SetAttr(conn, s_requests, more)
        || PyObject_SetAttr(conn, s_state, s_request);
    Py_XDECREF(requests);
    Py_XDECREF(more);
    return failed ? -1 : 0;
}

/* The exception that was raised, which is handled from now on. */
static PyObject *raised(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace)
        PyException_SetTraceback(error, trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return error;
#endif
}

/* The result of a plain function's call, or what its exception becomes. */
static PyObject *result_of(Lane *self, Received *request)
{
    PyObject *call = PyObject_GetAttr(request->endpoint, s_call);
    if (!call || PyObject_SetAttr(self->answers, s_inline, (PyObject *)request)) {
        Py_XDECREF(call);
        return NULL;
    }
    PyObject *result = PyObject_CallOneArg(call, (PyObject *)request);
    Py_DECREF(call);
    if (!result && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyObject *error = raised();
        result = error ? PyObject_CallMethodObjArgs(
            self->service, s_failed, request, error, NULL) : NULL;
        Py_XDECREF(error);
    }
    if (result && PyObject_SetAttr(self->answers, s_inline, Py_None))
        Py_CLEAR(result);
    return result;
}

/* Run the endpoint of a request, as Answers.start() does. */
static int start(Lane *self, Received *request)
{
    PyObject *done, *inlined = PyObject_GetAttr(request->endpoint, s_inline);
    if (!inlined)
        return -1;
    Py_DECREF(inlined);
    if (begun(self->conn))
        return -1;
    if (inlined != Py_True) {
        done = PyObject_CallMethodOneArg(self->answers, s_run, (PyObject *)request);
        Py_XDECREF(done);
        return done ? 0 : -1;
    }
    PyObject *result = result_of(self, request);
    if (!result)
        return -1;
    PyObject *more = answer(self, request, result);
    Py_DECREF(result);
    if (!more)
        return -1;
    if (more != Py_None) {
        done = PyObject_CallMethodObjArgs(self->answers, s_send, request, more, NULL);
        Py_DECREF(more);
        Py_XDECREF(done);
        return done ? 0 : -1;
    }
    Py_DECREF(more);
    return 0;
}

/* Go on as HTTPConnection.take() does when what it read has been parsed. */
static int settle(Lane *self, Plan *plan)
{
    Py_ssize_t waiting = PyObject_Size(self->queue);
    if (waiting < 0)
        return -1;
    if (waiting) {
        PyObject *done = PyObject_CallMethodNoArgs(self->answers, s_advance);
        Py_XDECREF(done);
        return done ? 0 : -1;
    }
    PyObject *current = PyObject_GetAttr(self->answers, s_current);
    if (!current)
        return -1;
    Py_DECREF(current);
    if (current == Py_None)
        self->ready = self->state == plan->parsing && !self->write_paused;
    return 0;
}

/* What is declared at a target: methods and values, both borrowed from *held. 1 when there is
 * something, 0 when the slow way shall say what there is. */
static int resolve(Plan *plan, PyObject *target, const Head *head,
                   PyObject **held, PyObject **methods, PyObject **values)
{
    *methods = *values = *held = NULL;
    PyObject *path = head->path_len == head->target_len ? Py_NewRef(target)
        : PyBytes_FromStringAndSize(PyBytes_AS_STRING(target), (Py_ssize_t)head->path_len);
    if (!path)
        return -1;
    *methods = PyDict_GetItemWithError(plan->plain, path);
    if (!*methods && !PyErr_Occurred())
        *held = Py_XNewRef(PyDict_GetItemWithError(plan->known, path));
    if (!*methods && !*held && !PyErr_Occurred()) {
        if (plan->resolve == Py_None)
            *methods = nothing; /* there are no routes */
        else
            *held = PyObject_CallOneArg(plan->resolve, path);
    }
    Py_DECREF(path);
    if (*methods)
        return 1;
    if (!*held)
        return -1;
    if (!PyTuple_Check(*held) || PyTuple_GET_SIZE(*held) != 2)
        return 0;
    *methods = PyTuple_GET_ITEM(*held, 0);
    *values = PyTuple_GET_ITEM(*held, 1);
    return PyDict_Check(*methods) && PyDict_Check(*values);
}

static Received *make(Lane *self, Plan *plan, PyObject *data, const Head *head,
                      PyObject *endpoint, PyObject *target, PyObject *values)
{
    Received *made = (Received *)plan->request->tp_alloc(plan->request, 0);
    if (!made)
        return NULL;
    made->lane = Py_NewRef((PyObject *)self);
    made->endpoint = Py_NewRef(endpoint);
    made->verb = Py_NewRef(verbs[head->method]);
    made->target = Py_NewRef(target);
    made->read = Py_NewRef(data);
    made->fields = head->fields;
    made->fields_end = head->fields_end;
    made->keep = !head->closes;
    made->modern = 1;
    made->plain = made->keep && head->method != HEAD;
    made->arrived = monotonic();
    Py_ssize_t length = PyBytes_GET_SIZE(data) - (Py_ssize_t)head->body;
    made->body = length ? PyBytes_FromStringAndSize(
        PyBytes_AS_STRING(data) + head->body, length) : Py_NewRef(empty);
    if (values && PyDict_GET_SIZE(values))
        made->match_info = PyDict_Copy(values);
    if (!made->body || (values && PyDict_GET_SIZE(values) && !made->match_info)) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}

/* Hand a request without a body to the application's side. The list of its fields is the one
 * of the request before where the client sent the same: whoever decodes them does it once. */
static int hand_over(Lane *self, PyObject *data, const Head *head, PyObject *target)
{
    size_t length = head->fields_end - head->fields;
    const char *bytes = PyBytes_AS_STRING(data);
    if (!self->read || length != self->read_len
        || memcmp(bytes + head->fields, PyBytes_AS_STRING(self->read) + self->read_at, length)) {
        PyObject *fields = fields_of(bytes, head->fields, head->fields_end);
        if (!fields)
            return -1;
        Py_XSETREF(self->fields, fields);
        Py_XSETREF(self->read, Py_NewRef(data));
        self->read_at = head->fields;
        self->read_len = length;
    }
    PyObject *done = PyObject_CallMethodObjArgs(
        self->intake, s_take_hosted, verbs[head->method], target, self->fields,
        head->forwarded ? Py_True : Py_False, NULL);
    Py_XDECREF(done);
    return done ? 1 : -1;
}

static int streams_body(PyObject *endpoint)
{
    PyObject *streams = PyObject_GetAttr(endpoint, s_streams_body);
    if (!streams)
        return -1;
    Py_DECREF(streams);
    return streams == Py_True;
}

/* Whether the endpoint is done, or has begun its answer, when its call returns. What follows a
 * last request is the parser's to refuse: those that wait are begun where it has seen them. */
static int is_plain_function(PyObject *endpoint)
{
    PyObject *inlined = PyObject_GetAttr(endpoint, s_inline);
    if (!inlined)
        return -1;
    Py_DECREF(inlined);
    return inlined == Py_True;
}

/* Begin the request that `data` is. 1 when that is done, 0 when it is for the slow way. */
static int begin(Lane *self, Plan *plan, PyObject *data, const Head *head)
{
    PyObject *methods, *values, *held;
    PyObject *target = PyBytes_FromStringAndSize(
        PyBytes_AS_STRING(data) + head->target, (Py_ssize_t)head->target_len);
    if (!target)
        return -1;
    int done = resolve(plan, target, head, &held, &methods, &values);
    if (done <= 0)
        goto end;
    PyObject *endpoint = PyDict_GetItemWithError(methods, verbs[head->method]);
    int runs = endpoint && head->closes ? is_plain_function(endpoint) : 1;
    if (runs <= 0) {
        done = runs;
        goto end;
    }
    int streams = endpoint && head->has_length ? streams_body(endpoint) : 0;
    if (streams) {
        done = streams < 0 ? -1 : 0;
    } else if (endpoint) {
        Received *request = make(self, plan, data, head, endpoint, target, values);
        done = -1;
        if (request) {
            self->ready = 0;
            done = start(self, request) ? -1 : 1;
            Py_DECREF(request);
        }
    } else if (PyErr_Occurred()) {
        done = -1;
    } else {
        done = 0;
        if (plan->has_app && !PyDict_GET_SIZE(methods)
            && !head->closes && (size_t)PyBytes_GET_SIZE(data) == head->body) {
            done = hand_over(self, data, head, target);
        }
    }
    if (done > 0 && settle(self, plan))
        done = -1;
end:
    Py_XDECREF(held);
    Py_DECREF(target);
    return done;
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

static PyObject *data_received(Lane *self, PyObject *data)
{
    Head head;
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

/* -- the type */

#define ALL(do_it) \
    do_it(service); do_it(conn); do_it(transport); do_it(write); do_it(state); do_it(answers); \
    do_it(queue); do_it(intake); do_it(between); do_it(plan); do_it(read); do_it(fields)

static int traverse(Lane *self, visitproc visit, void *arg)
{
    ALL(VISIT);
    return 0;
}

static int clear(Lane *self)
{
    ALL(CLEAR);
    return 0;
}

static void dealloc(Lane *self)
{
    PyObject_GC_UnTrack(self);
    clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

#define OBJECT(name) {#name, T_OBJECT_EX, offsetof(Lane, name), 0, NULL}
static PyMemberDef members[] = {
    OBJECT(service), OBJECT(conn), OBJECT(transport), OBJECT(write), OBJECT(state),
    OBJECT(answers), OBJECT(queue), OBJECT(intake), OBJECT(between), OBJECT(plan),
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
    .tp_traverse = (traverseproc)traverse,
    .tp_clear = (inquiry)clear,
    .tp_dealloc = (destructor)dealloc,
    .tp_members = members,
    .tp_methods = methods_of_lane,
};

int lane_names(void)
{
#define NAME(name) if (!(s_##name = PyUnicode_InternFromString(#name))) return -1
    NAME(advance); NAME(answer_any); NAME(call); NAME(check_slow); NAME(close); NAME(count); NAME(current);
    NAME(failed);
    NAME(take_hosted); NAME(idle); NAME(inline); NAME(json_head); NAME(log_request); NAME(quick);
    NAME(request); NAME(requests); NAME(run); NAME(send); NAME(state); NAME(take);
    NAME(went_wrong); NAME(streams_body);
    return (one = PyLong_FromLong(1)) && (empty = PyBytes_FromString(""))
        && (nothing = PyDict_New()) ? 0 : -1;
}

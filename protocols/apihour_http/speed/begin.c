/* From a plain request to the endpoint's call.
 *
 * Rules:
 *
 * - It begins a request only where the slow way (HTTPConnection.take) would begin the same one at
 *   once: the connection is ready, its parser stands before a message, and the read is whole
 *   plain requests (scan.c, lane.c) and nothing else. All else is left to the slow way, untouched.
 * - Every decision is Python's: which endpoint, what a failure becomes, what is answered. Here is
 *   only what is the same for every usual request.
 */

#include "speed.h"

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
PyObject *raised(void)
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
        int known = answer_file(self, request);
        if (known)
            return known < 0 ? -1 : 0;
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

static PyObject *body_of(PyObject *data, const Head *head)
{
    Py_ssize_t length = PyBytes_GET_SIZE(data) - (Py_ssize_t)head->body;
    return length ? PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + head->body, length)
                  : Py_NewRef(empty);
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
    made->body = body_of(data, head);
    if (values && PyDict_GET_SIZE(values))
        made->match_info = PyDict_Copy(values);
    if (!made->body || (values && PyDict_GET_SIZE(values) && !made->match_info)) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}

/* What follows a last request is refused: the parser, which has not seen it, cannot know. */
static int closes(Lane *self)
{
    PyObject *done = PyObject_CallMethodNoArgs(self->intake, s_expect_nothing);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* Hand a request to the application's side. The list of its fields is the one of the request
 * before where the client sent the same: whoever decodes them does it once. */
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
    PyObject *body = body_of(data, head);
    if (!body || (head->closes && closes(self))) {
        Py_XDECREF(body);
        return -1;
    }
    PyObject *done = PyObject_CallMethodObjArgs(
        self->intake, s_take_hosted, verbs[head->method], target, self->fields,
        head->closes ? Py_False : Py_True, head->forwarded ? Py_True : Py_False, body, NULL);
    Py_DECREF(body);
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

/* Begin the request that `data` is. 1 when that is done, 0 when it is for the slow way. */
int begin(Lane *self, Plan *plan, PyObject *data, const Head *head)
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
    int streams = endpoint && head->has_length ? streams_body(endpoint) : 0;
    if (streams) {
        done = streams < 0 ? -1 : 0;
    } else if (endpoint) {
        Received *request = make(self, plan, data, head, endpoint, target, values);
        done = -1;
        if (request) {
            self->ready = 0;
            done = (head->closes && closes(self)) || start(self, request) ? -1 : 1;
            Py_DECREF(request);
        }
    } else if (PyErr_Occurred()) {
        done = -1;
    } else {
        done = 0;
        if (plan->has_app && !PyDict_GET_SIZE(methods))
            done = hand_over(self, data, head, target);
    }
    if (done > 0 && settle(self, plan))
        done = -1;
end:
    Py_XDECREF(held);
    Py_DECREF(target);
    return done;
}

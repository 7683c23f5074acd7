/* From a result to the transport: the usual answer, 200 with a dictionary or rows as JSON, with JSON
 * that is encoded already (apihour_http.response.Encoded), or with a text.
 *
 * What is none of the usual is Python's (answer_any).
 */

#include "speed.h"

#include <time.h>

double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec * 1000000000LL + now.tv_nsec) / 1e9;
}

/* What an encoder made: bytes, or a text of ASCII. */
typedef struct {
    const char *at;
    Py_ssize_t size;
} Body;

static char *put(char *at, const void *data, Py_ssize_t size)
{
    return (char *)memcpy(at, data, (size_t)size) + size;
}

/* The answer of 200 with `body` behind `head` and `lines`, texts of ASCII; `lines` may be NULL,
 * `last` says that it is that. */
static PyObject *joined(PyObject *head, PyObject *lines, Body body, int last)
{
    char number[32];
    const char *end = last ? "Connection: close\r\n\r\n" : "\r\n";
    Py_ssize_t head_size = PyUnicode_GET_LENGTH(head), end_size = (Py_ssize_t)strlen(end);
    Py_ssize_t lines_size = lines ? PyUnicode_GET_LENGTH(lines) : 0;
    int digits = snprintf(number, sizeof number, "%zd\r\n", body.size);
    PyObject *found = PyBytes_FromStringAndSize(
        NULL, head_size + digits + lines_size + end_size + body.size);
    if (found) {
        char *at = put(PyBytes_AS_STRING(found), PyUnicode_DATA(head), head_size);
        at = put(at, number, digits);
        if (lines)
            at = put(at, PyUnicode_DATA(lines), lines_size);
        put(put(at, end, end_size), body.at, body.size);
    }
    return found;
}

int is_ascii(PyObject *text)
{
    return PyUnicode_CheckExact(text) && PyUnicode_IS_COMPACT_ASCII(text);
}

/* Whether `made` can be sent as it is, which `body` is then. */
static int is_body(PyObject *made, Body *body)
{
    if (PyBytes_CheckExact(made)) {
        *body = (Body){PyBytes_AS_STRING(made), PyBytes_GET_SIZE(made)};
        return 1;
    }
    if (!is_ascii(made))
        return 0;
    *body = (Body){PyUnicode_DATA(made), PyUnicode_GET_LENGTH(made)};
    return 1;
}

/* A dictionary, or a list that begins with one: rows. What begins with a model is encoded
 * otherwise (apihour_http.response). */
static int is_plain_data(PyObject *result)
{
    if (PyList_CheckExact(result) && PyList_GET_SIZE(result))
        result = PyList_GET_ITEM(result, 0);
    return PyDict_CheckExact(result);
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

/* The answer of `made`, a text or what an encoder gave, behind the head of that name, with `lines`
 * in it; NULL where it cannot be. */
static PyObject *with_head(Plan *plan, Received *request, PyObject *made, PyObject *name,
                           PyObject *lines, Py_ssize_t *size)
{
    PyObject *head = PyObject_GetAttr(plan->now, name), *data = NULL;
    Body body;
    if (head && is_body(made, &body) && is_ascii(head)) {
        *size = body.size;
        data = joined(head, lines, body, !request->keep);
    }
    Py_XDECREF(head);
    return data;
}

/* The same of an Encoded. */
static PyObject *encoded(Plan *plan, Received *request, PyObject *result, Py_ssize_t *size)
{
    PyObject *data = NULL, *made = PyObject_GetAttr(result, s_body);
    PyObject *lines = made ? PyObject_GetAttr(result, s_lines) : NULL;
    if (lines && is_ascii(lines))
        data = with_head(plan, request, made, s_json_head, lines, size);
    Py_XDECREF(made);
    Py_XDECREF(lines);
    return data;
}

int is_quick(Plan *plan)
{
    PyObject *quick = PyObject_GetAttr(plan->now, s_quick);
    Py_XDECREF(quick);
    return quick ? quick == Py_True : -1;
}

/* The bytes of the usual answer. NULL without an exception where it is none of the usual. */
static PyObject *usual(Plan *plan, Received *request, PyObject *result, Py_ssize_t *size)
{
    PyObject *text, *data;
    int is_encoded = Py_TYPE(result) == plan->encoded, is_text = is_ascii(result);
    if (!(is_encoded || is_text || is_plain_data(result)) || !(request->plain || is_last(request)))
        return NULL;
    if (is_quick(plan) <= 0)
        return NULL;
    if (is_encoded)
        return encoded(plan, request, result, size);
    if (is_text)
        return with_head(plan, request, result, s_text_head, NULL, size);
    if (!(text = PyObject_CallOneArg(plan->dumps, result))) {
        /* The general way tries harder, and says what is wrong. */
        if (PyErr_ExceptionMatches(PyExc_Exception))
            PyErr_Clear();
        return NULL;
    }
    data = with_head(plan, request, text, s_json_head, NULL, size);
    Py_DECREF(text);
    return data;
}

int sent(Lane *self, Received *request, PyObject *data, Py_ssize_t size)
{
    if (!self->transport || self->transport == Py_None || !self->write)
        return 0;
    PyObject *write = Py_NewRef(self->write);
    PyObject *done = PyObject_CallOneArg(write, data);
    Py_DECREF(write);
    int failed = !done || note(self, (Plan *)self->plan, request, size);
    Py_XDECREF(done);
    if (failed || request->keep)
        return failed ? -1 : 0;
    done = PyObject_CallMethodNoArgs((PyObject *)self, s_close);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* Answer with `result`; what sends the rest of it is returned, None if there is no rest. */
PyObject *answer(Lane *self, Received *request, PyObject *result)
{
    Py_ssize_t size = 0;
    PyObject *data = usual((Plan *)self->plan, request, result, &size);
    if (!data) {
        if (PyErr_Occurred())
            return NULL;
        return PyObject_CallMethodObjArgs(
            (PyObject *)self, s_answer_any, request, result, NULL);
    }
    int failed = sent(self, request, data, size);
    Py_DECREF(data);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

/* KnownFiles: what asks first for the files of a directory, and answers by itself what is usual: a
 * whole file that is known at once (cached.c), to a GET without conditions.
 *
 * Rules:
 *
 * - Each answer has what the file has now: what is remembered is what its name, size and time make
 *   of its header lines, by who has made them (`lines`).
 * - What is not usual is Python's (`otherwise`), and what is not known then is asked for in a
 *   thread.
 */

#include "speed.h"

#include <unistd.h>

typedef struct {
    PyObject_HEAD
    PyObject *root, *accepted, *lines, *otherwise;
    Py_ssize_t most;
} KnownFiles;

/* Whether a request asks for all of a file, whether it has it or not; what codings it accepts is
 * in `accepted`, empty where it does not say. */
static int wants_whole(const Received *request, Field *accepted)
{
    static const char *const conditions[] = {
        "range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
        "if-range"};
    static const char coding[] = "accept-encoding";
    const char *data = PyBytes_AS_STRING(request->read);
    int seen = 0;
    accepted->value = accepted->value_len = 0;
    for (size_t at = request->fields; at < request->fields_end;) {
        Field each = next_field(data, &at);
        for (size_t one = 0; one < sizeof conditions / sizeof *conditions; one++)
            if (each.name_len == strlen(conditions[one])
                && same(data + each.name, conditions[one], each.name_len))
                return 0;
        if (!seen && each.name_len == sizeof coding - 1
            && same(data + each.name, coding, each.name_len)) {
            *accepted = each;
            seen = 1;
        }
    }
    return 1;
}

/* The codings that are accepted and the ends of their files' names; NULL for none, or with an
 * exception. */
static PyObject *ends_of(KnownFiles *self, const Received *request, const Field *accepted)
{
    if (!accepted->value_len)
        return NULL;
    PyObject *text = PyUnicode_DecodeLatin1(
        PyBytes_AS_STRING(request->read) + accepted->value, (Py_ssize_t)accepted->value_len, NULL);
    PyObject *ends = text ? PyObject_CallOneArg(self->accepted, text) : NULL;
    Py_XDECREF(text);
    if (ends && !PyTuple_CheckExact(ends)) {
        PyErr_SetString(PyExc_TypeError, "accepted(): expected a tuple");
        Py_CLEAR(ends);
    }
    return ends;
}

/* The header lines of a file, with the empty one behind them. */
static PyObject *lines_of(KnownFiles *self, PyObject *path, const KnownFile *file)
{
    PyObject *size = PyLong_FromLongLong(file->size);
    PyObject *modified = PyLong_FromLongLong(file->modified);
    PyObject *lines = size && modified ? PyObject_CallFunctionObjArgs(
        self->lines, path, file->coding ? file->coding : no_text, size, modified, NULL) : NULL;
    Py_XDECREF(size);
    Py_XDECREF(modified);
    return lines;
}

/* The whole answer, whose body is read to where it is sent from; NULL without an exception where
 * that is not known at once. */
static PyObject *whole(PyObject *head, PyObject *lines, const KnownFile *file)
{
    if (!is_ascii(head) || !is_ascii(lines))
        return NULL;
    Py_ssize_t first = PyUnicode_GET_LENGTH(head), second = PyUnicode_GET_LENGTH(lines);
    PyObject *data = PyBytes_FromStringAndSize(NULL, first + second + (Py_ssize_t)file->size);
    if (!data)
        return NULL;
    char *at = PyBytes_AS_STRING(data);
    memcpy(at, PyUnicode_DATA(head), (size_t)first);
    memcpy(at + first, PyUnicode_DATA(lines), (size_t)second);
    if (!read_known(file, at + first + second))
        Py_CLEAR(data);
    return data;
}

static int answer_found(KnownFiles *self, Lane *lane, Received *request, PyObject *path,
                        const KnownFile *file)
{
    PyObject *head = PyObject_GetAttr(((Plan *)lane->plan)->now, s_ok_head);
    PyObject *lines = head ? lines_of(self, path, file) : NULL;
    PyObject *data = lines ? whole(head, lines, file) : NULL;
    Py_XDECREF(head);
    Py_XDECREF(lines);
    if (!data)
        return 0;
    int failed = sent(lane, request, data, (Py_ssize_t)file->size);
    Py_DECREF(data);
    return failed ? -1 : 1;
}

static int answer_known(KnownFiles *self, Lane *lane, Received *request)
{
    Field accepted;
    KnownFile file;
    if (!request->plain || request->verb != verbs[GET] || !request->read || !request->match_info
        || is_quick((Plan *)lane->plan) <= 0 || !wants_whole(request, &accepted))
        return 0;
    PyObject *path = PyDict_GetItemWithError(request->match_info, s_path);
    if (!path || !is_ascii(path))
        return 0;
    PyObject *ends = ends_of(self, request, &accepted);
    if (!ends && PyErr_Occurred())
        return 0;
    int done = find_known(PyBytes_AS_STRING(self->root), PyUnicode_DATA(path),
                          (size_t)PyUnicode_GET_LENGTH(path), ends, &file);
    if (done > 0) {
        done = file.size > self->most ? 0 : answer_found(self, lane, request, path, &file);
        close(file.fd);
    }
    Py_XDECREF(ends);
    return done;
}

int answer_file(Lane *self, Received *request)
{
    PyObject *first = PyObject_GetAttr(request->endpoint, s_first);
    int done = !first ? -1 : Py_TYPE(first) != &KnownFilesType ? 0
        : answer_known((KnownFiles *)first, self, request);
    Py_XDECREF(first);
    if (done == 0 && PyErr_Occurred()) {
        /* The general way meets it as well, and says what is wrong. */
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return -1;
        PyErr_Clear();
    }
    return done;
}

static PyObject *call(KnownFiles *self, PyObject *args, PyObject *kwargs)
{
    return PyObject_Call(self->otherwise, args, kwargs);
}

#define ALL(do_it) \
    do_it(root); do_it(accepted); do_it(lines); do_it(otherwise)
COLLECTED(KnownFiles)

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"root", "most", "accepted", "lines", "otherwise", NULL};
    PyObject *root, *accepted, *lines, *otherwise;
    Py_ssize_t most;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "SnOOO", names, &root, &most, &accepted,
                                     &lines, &otherwise))
        return NULL;
    KnownFiles *self = (KnownFiles *)type->tp_alloc(type, 0);
    if (self) {
        self->root = Py_NewRef(root);
        self->accepted = Py_NewRef(accepted);
        self->lines = Py_NewRef(lines);
        self->otherwise = Py_NewRef(otherwise);
        self->most = most;
    }
    return (PyObject *)self;
}

PyTypeObject KnownFilesType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "apihour_http.speed._speed.KnownFiles",
    .tp_doc = "What asks first for the files of a directory.",
    .tp_basicsize = sizeof(KnownFiles),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = new,
    .tp_call = (ternaryfunc)call,
    COLLECTOR_SLOTS,
};

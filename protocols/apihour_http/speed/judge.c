/* Judge: what the fields of a head say that are those of the last one, but for the path.
 *
 * It is the base of apihour_http.http2.request_head.HeadJudge, which judges all others.
 */

#include "speed.h"
#include "hpack.h"

enum {METHOD, SCHEME, AUTHORITY, PATH, PSEUDOS};

typedef struct {
    PyObject_HEAD
    PyObject *tail, *authority; /* what came behind the pseudo-headers, and one of these */
    PyObject *fields;           /* what was made of them */
    Py_ssize_t size;            /* theirs, in bytes */
} Judge;

static int is_named(PyObject *name, const char *wanted)
{
    size_t size = strlen(wanted);
    return (size_t)PyBytes_GET_SIZE(name) == size
        && !memcmp(PyBytes_AS_STRING(name), wanted, size);
}

static int place_of(PyObject *name)
{
    static const char *const names[PSEUDOS] = {":method", ":scheme", ":authority", ":path"};
    int place = 0;
    while (place < PSEUDOS && !is_named(name, names[place]))
        place++;
    return place;
}

/* Whether all of a text is between two characters. */
static int is_between(PyObject *text, char least, char most)
{
    const char *data = PyBytes_AS_STRING(text), *end = data + PyBytes_GET_SIZE(text);
    while (data < end && *data >= least && *data <= most)
        data++;
    return data == end;
}

/* The pseudo-headers that a head begins with, borrowed; how many, below 0 for what is odd. */
static Py_ssize_t pseudos_of(PyObject *decoded, PyObject *found[PSEUDOS])
{
    Py_ssize_t at = 0;
    for (; at < PyList_GET_SIZE(decoded); at++) {
        PyObject *field = PyList_GET_ITEM(decoded, at);
        if (!is_field(field))
            return -1;
        int place = place_of(PyTuple_GET_ITEM(field, 0));
        if (place == PSEUDOS)
            break;
        if (found[place])
            return -1;
        found[place] = PyTuple_GET_ITEM(field, 1);
    }
    return at;
}

/* Whether the pseudo-headers are those of a usual request. */
static int are_plain(PyObject *found[PSEUDOS])
{
    PyObject *method = found[METHOD], *path = found[PATH];
    return method && PyBytes_GET_SIZE(method) && is_between(method, 'A', 'Z')
        && !is_named(method, "CONNECT") && found[SCHEME] && PyBytes_GET_SIZE(found[SCHEME])
        && path && PyBytes_GET_SIZE(path) && PyBytes_AS_STRING(path)[0] == '/'
        && is_between(path, '!', '~');
}

/* Whether two texts are the same. */
static int is_same(PyObject *one, PyObject *other)
{
    return one == other || (PyBytes_GET_SIZE(one) == PyBytes_GET_SIZE(other)
        && !memcmp(PyBytes_AS_STRING(one), PyBytes_AS_STRING(other),
                   (size_t)PyBytes_GET_SIZE(one)));
}

static int is_same_field(PyObject *one, PyObject *other)
{
    return one == other || (is_field(one) && is_field(other)
        && is_same(PyTuple_GET_ITEM(one, 0), PyTuple_GET_ITEM(other, 0))
        && is_same(PyTuple_GET_ITEM(one, 1), PyTuple_GET_ITEM(other, 1)));
}

/* Whether the rest of a head is what it was. */
static int is_known(const Judge *self, PyObject *decoded, Py_ssize_t from, PyObject *authority)
{
    if (!self->tail || !PyList_CheckExact(self->tail) || !self->fields || !authority
        || !self->authority || !PyBytes_CheckExact(self->authority)
        || PyList_GET_SIZE(self->tail) != PyList_GET_SIZE(decoded) - from
        || !is_same(self->authority, authority))
        return 0;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(self->tail); at++)
        if (!is_same_field(PyList_GET_ITEM(self->tail, at), PyList_GET_ITEM(decoded, from + at)))
            return 0;
    return 1;
}

static PyObject *judge(Judge *self, PyObject *decoded)
{
    PyObject *found[PSEUDOS] = {NULL, NULL, NULL, NULL};
    Py_ssize_t count = PyList_CheckExact(decoded) ? pseudos_of(decoded, found) : -1;
    if (count < 0 || !are_plain(found) || !is_known(self, decoded, count, found[AUTHORITY]))
        return PyObject_CallMethodOneArg((PyObject *)self, s_judge_any, decoded);
    /* Held: the collector may run in between, and whatever it runs. */
    PyObject *method = Py_NewRef(found[METHOD]), *path = Py_NewRef(found[PATH]);
    return Py_BuildValue("(NNNn)", method, path, Py_NewRef(self->fields),
                         self->size + PyBytes_GET_SIZE(path));
}

#define ALL(do_it) do_it(tail); do_it(authority); do_it(fields)
COLLECTED(Judge)

#define OBJECT(name) {"_" #name, T_OBJECT, offsetof(Judge, name), 0, NULL}
static PyMemberDef members[] = {
    OBJECT(tail), OBJECT(authority), OBJECT(fields),
    {"_size", T_PYSSIZET, offsetof(Judge, size), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef methods[] = {
    {"judge", (PyCFunction)judge, METH_O, "Judge the fields of a block."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject JudgeType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "apihour_http.speed._speed.Judge",
    .tp_doc = "The fast way of the judge of heads.",
    .tp_basicsize = sizeof(Judge),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    COLLECTOR_SLOTS,
    .tp_members = members,
    .tp_methods = methods,
};

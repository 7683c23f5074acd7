/* apihour_http.speed._speed: the hot path of a connection, compiled.
 *
 * It is optional: without it the same is done in Python (apihour_http.connection.lane,
 * apihour_http.received), and every test runs with and without it.
 *
 *   scan.c       which reads are one plain request; no Python in it
 *   received.c   Received, the base of a request
 *   number.c     QueryNumber, what reads a whole number from a query
 *   plan.c       Plan, what a server's start decided, and Tally, the counters of all requests
 *   message.c    the fields of a head as applications have them
 *   lane.c       Lane, the base of a connection
 *   begin.c      from a read to the endpoint's call
 *   answer.c     from its result to the transport
 *   huffman.c    Codes, the numbers of HPACK, and texts in its code
 *   blocks.c     Blocks, the decoder of a connection of HTTP/2
 *   judge.c      Judge, the base of the judge of its heads
 *   cached.c     small files, read from the kernel's memory or not at all
 *   files.c      KnownFiles, from a request to such a file's answer
 *   frames.c     messages of WebSocket that are one frame each
 */

#include "speed.h"
#include "hpack.h"

extern PyObject *texts(PyObject *module, PyObject *const *args, Py_ssize_t count);
extern PyObject *lowered(PyObject *module, PyObject *fields);
extern PyObject *read_cached(PyObject *module, PyObject *args);
extern PyObject *messages(PyObject *module, PyObject *const *args, Py_ssize_t count);
extern PyObject *framed(PyObject *module, PyObject *message);

PyObject *verbs[METHODS];
PyObject *one, *empty, *nothing, *no_text;
#define DEFINED(name) PyObject *s_##name;
NAMES(DEFINED)

static PyObject *scanned(PyObject *module, PyObject *data)
{
    (void)module;
    const Limits limits = {4094, 4094, 100, 16384};
    Head head;
    if (!PyBytes_Check(data)) {
        PyErr_SetString(PyExc_TypeError, "scan(): expected bytes");
        return NULL;
    }
    if (!scan(PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data), &limits, &head))
        Py_RETURN_NONE;
    return Py_BuildValue(
        "(sy#nN)", method_names[head.method], PyBytes_AS_STRING(data) + head.target,
        (Py_ssize_t)head.target_len, (Py_ssize_t)head.body,
        fields_of(PyBytes_AS_STRING(data), head.fields, head.fields_end));
}

static PyMethodDef functions[] = {
    {"scan", scanned, METH_O,
     "Method, target, length of the head and fields of a read that is one plain request, or None."},
    {"texts", (PyCFunction)(void (*)(void))texts, METH_FASTCALL,
     "The fields of a head as pairs of texts, the names by their keys in a dict."},
    {"lowered", lowered, METH_O,
     "The fields of a head with names in lower case, without white space behind values."},
    {"read_cached", read_cached, METH_VARARGS,
     "Coding, size, time in nanoseconds and bytes of a file; None: it is not known at once."},
    {"messages", (PyCFunction)(void (*)(void))messages, METH_FASTCALL,
     "The whole messages that bytes begin with, and where what is none begins."},
    {"framed", framed, METH_O, "The frame of a text or binary message, as a server sends it."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "apihour_http.speed._speed",
    .m_doc = "The hot path of a connection.",
    .m_size = -1,
    .m_methods = functions,
};

/* Make what all calls use. */
static int make_constants(void)
{
#define MADE(name) && (s_##name = PyUnicode_InternFromString(#name))
    int done = 1 NAMES(MADE);
    for (int each = 0; each < METHODS; each++)
        done = done && (verbs[each] = PyBytes_FromString(method_names[each]));
    return done && (one = PyLong_FromLong(1)) && (empty = PyBytes_FromString(""))
        && (nothing = PyDict_New()) && (no_text = PyUnicode_FromString("")) ? 0 : -1;
}

PyMODINIT_FUNC PyInit__speed(void)
{
    PyObject *module = PyModule_Create(&module_def);
    if (!module || make_constants())
        return NULL;
    PyTypeObject *types[] = {&ReceivedType, &TallyType, &PlanType, &LaneType, &CodesType,
                             &BlocksType, &JudgeType, &KnownFilesType, &QueryNumberType};
    for (size_t each = 0; each < sizeof types / sizeof *types; each++)
        if (PyModule_AddType(module, types[each]))
            return NULL;
    return module;
}

/* What the parts of the extension share: see module.c. */

#ifndef APIHOUR_SPEED_H
#define APIHOUR_SPEED_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "scan.h"

/* What of a request a connection sets: the base of apihour_http.request.Request. */
typedef struct {
    PyObject_HEAD
    PyObject *lane, *endpoint, *verb, *target, *body;
    PyObject *match_info;  /* NULL: empty, and nobody has asked */
    PyObject *raw_headers; /* NULL: in `read`, and nobody has asked */
    PyObject *read;        /* the bytes it came with, NULL once nobody needs them */
    size_t fields, fields_end;
    double arrived;
    char keep, modern, plain;
} Received;

/* The counters that every request touches: the base of apihour_http.statistics.Statistics. */
typedef struct {
    PyObject_HEAD
    double seconds;
    Py_ssize_t fast;
} Tally;

/* What a server's start decided, as the fast way of its connections needs it. */
typedef struct {
    PyObject_HEAD
    PyObject *plain, *known, *resolve, *now, *counters, *dumps, *log, *parsing;
    PyTypeObject *request, *encoded;
    Limits limits;
    double slow;
    int budget; /* of requests that are answered in a turn of the loop */
    char has_app;
} Plan;

/* A connection, as far as its requests touch it: the base of apihour_http's HTTPConnection. */
typedef struct {
    PyObject_HEAD
    PyObject *service, *conn, *transport, *write, *state, *answers, *queue, *intake, *between,
        *plan;
    PyObject *read, *fields; /* the last head of a hosted request, and what was made of it */
    PyObject *sink; /* who takes what follows an upgrade, while nothing is left over */
    size_t read_at, read_len;
    double idle_since;
    char ready, write_paused;
} Lane;

/* A regular file that is open: see cached.c. */
typedef struct {
    int fd;
    long long size, modified; /* bytes, nanoseconds */
    PyObject *coding;         /* borrowed of who was asked for; NULL: the plain file */
} KnownFile;

extern PyTypeObject ReceivedType, TallyType, PlanType, LaneType, KnownFilesType,
    QueryNumberType;
extern PyObject *verbs[METHODS];
extern PyObject *one, *empty, *nothing, *no_text; /* 1, b"", {} and "" */

/* What is asked of objects of Python, by name. */
#define NAMES(do_it) \
    do_it(advance) do_it(answer_any) do_it(body) do_it(call) do_it(check_slow) do_it(close) \
    do_it(count) \
    do_it(current) do_it(expect_nothing) do_it(failed) do_it(first) do_it(flush) \
    do_it(hold_answers) do_it(idle) do_it(inline) \
    do_it(is_closing) do_it(json_head) \
    do_it(judge_any) do_it(lines) do_it(log_request) do_it(ok_head) do_it(outbox) do_it(path) \
    do_it(quick) do_it(request) do_it(requests) do_it(run) do_it(send) do_it(state) \
    do_it(streams_body) do_it(take) do_it(take_hosted) do_it(text_head) do_it(went_wrong)
#define DECLARED(name) extern PyObject *s_##name;
NAMES(DECLARED)

/* Seconds of time.monotonic(). */
double monotonic(void);

/* The exception that was raised, which is handled from now on. */
PyObject *raised(void);

/* Begin the request that `data` is. 1 when that is done, 0 when it is for the slow way. */
int begin(Lane *self, Plan *plan, PyObject *data, const Head *head);

/* Answer with `result`; what sends the rest of it is returned, None if there is no rest. */
PyObject *answer(Lane *self, Received *request, PyObject *result);

/* Whether the usual answers go the short way now; -1 with an exception. */
int is_quick(Plan *plan);

/* Whether an object is a text that is its own bytes. */
int is_ascii(PyObject *text);

/* Send a whole answer with a body of `size`, and do what is due after it; -1 with an exception. */
int sent(Lane *self, Received *request, PyObject *data, Py_ssize_t size);

/* Answer with a file, where it is one, and known at once: 1; 0 where it is not, -1 with an
 * exception. */
int answer_file(Lane *self, Received *request);

/* Open what is sent of `path` beneath `directory` to those who accept `ends`, NULL or pairs of
 * texts, a coding and the end of its files' names: 1, the caller closes it; 0 where there is none
 * or it is not known at once; -1 with an exception. */
int find_known(const char *directory, const char *path, size_t length, PyObject *ends,
               KnownFile *file);

/* Read it whole; 0 where that is not known at once, or it became shorter. */
int read_known(const KnownFile *file, char *into);

/* Whether an object is a pair of bytes. */
int is_field(PyObject *field);

/* The last value of the query's parameter `name` (bytes): 1, 0 where there is none, -1 where it must
 * be decoded first. */
int find_parameter(const Received *self, PyObject *name, const char **value, Py_ssize_t *size);

/* The fields of a head, as pairs of bytes. */
PyObject *fields_of(const char *data, size_t at, size_t end);

/* The first second of an answer's latency that is not counted as fast. */
#define FAST 0.0001

/* Bytes after an upgrade that are handed on at a stretch: those of connection.frames. */
#define SLICE 4096

/* What the collector asks of a type, whose objects ALL(do_it) names, and the end of one of it. */
#define VISIT(name) Py_VISIT(self->name)
#define CLEAR(name) Py_CLEAR(self->name)
#define COLLECTED(Type) \
    static int traverse(Type *self, visitproc visit, void *arg) \
    { \
        ALL(VISIT); \
        return 0; \
    } \
    static int clear(Type *self) \
    { \
        ALL(CLEAR); \
        return 0; \
    } \
    static void dealloc(Type *self) \
    { \
        PyObject_GC_UnTrack(self); \
        clear(self); \
        Py_TYPE(self)->tp_free((PyObject *)self); \
    }
#define COLLECTOR_SLOTS \
    .tp_traverse = (traverseproc)traverse, .tp_clear = (inquiry)clear, \
    .tp_dealloc = (destructor)dealloc

#endif

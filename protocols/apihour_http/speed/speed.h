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
    PyTypeObject *request;
    Limits limits;
    double slow;
    char has_app;
} Plan;

extern PyTypeObject ReceivedType, TallyType, PlanType, LaneType;
extern PyObject *verbs[METHODS];

/* The fields of a head, as pairs of bytes. */
PyObject *fields_of(const char *data, size_t at, size_t end);

/* The first second of an answer's latency that is not counted as fast. */
#define FAST 0.0001

#define VISIT(name) Py_VISIT(self->name)
#define CLEAR(name) Py_CLEAR(self->name)

#endif

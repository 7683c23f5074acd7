/* The heads that are plain: see scan.c. */

#ifndef APIHOUR_SCAN_H
#define APIHOUR_SCAN_H

#include <stddef.h>

typedef struct {
    size_t head;      /* bytes of a head at most */
    size_t line;      /* bytes of a target at most */
    size_t fields;    /* fields of a head at most */
    size_t body;      /* bytes of a body at most */
} Limits;

typedef struct {
    int method;       /* its place in method_names */
    size_t target;    /* where the target begins */
    size_t path_len;
    size_t target_len;
    int closes;       /* whether it is the last request of its connection */
    size_t fields;    /* where the first field begins; the empty line is at fields_end */
    size_t fields_end;
    size_t body;      /* where the body begins, and ends */
    size_t end;
    int forwarded;    /* whether a proxy says whom it asks for */
    int has_length;   /* whether there is a Content-Length */
} Head;

#define METHODS 7
#define GET 0
#define HEAD 5
extern const char *const method_names[METHODS];

/* Whether a read begins with one whole plain request; then it is described in out. */
int scan_first(const char *data, size_t size, const Limits *limits, Head *out);

/* Whether the read is one whole plain request and nothing else; then it is described in out. */
int scan(const char *data, size_t size, const Limits *limits, Head *out);

/* The field that begins at *at, which is behind it then: name and value as llhttp tells them. */
typedef struct {
    size_t name, name_len, value, value_len;
} Field;
Field next_field(const char *data, size_t *at);

/* Whether two names are the same, the second of which is lower case. */
int same(const char *name, const char *lower, size_t length);

#endif

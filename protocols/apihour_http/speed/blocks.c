/* Blocks: the decoding half of one connection's HPACK (RFC 7541), and its dynamic table.
 *
 * It is apihour_http.http2.block_decoder over again, whose rules and bounds are these: a test
 * compares the two. ValueError says that a block is none; OverflowError that it unpacks to more
 * than a head may have.
 */

#include "speed.h"
#include "hpack.h"

#define TABLE_SIZE 4096     /* RFC 9113 6.5.2: what we have not said otherwise */
#define ENTRY 32            /* RFC 7541 4.1 */
#define ENTRIES (TABLE_SIZE / ENTRY)
#define LONGEST_STATIC 60   /* an entry of the static table, at most */
#define MOST_INTEGER (1 << 28)

typedef struct {
    PyObject_HEAD
    Codes *codes;
    Py_ssize_t most, size, limit;
    unsigned oldest, count;   /* of the ring that is the table */
    PyObject *entries[ENTRIES];
} Blocks;

/* Where in a block its decoder is. */
typedef struct {
    const uint8_t *at, *end;
} Cursor;

static Py_ssize_t size_of(PyObject *pair)
{
    return PyBytes_GET_SIZE(PyTuple_GET_ITEM(pair, 0))
        + PyBytes_GET_SIZE(PyTuple_GET_ITEM(pair, 1)) + ENTRY;
}

static int broken(const char *said)
{
    PyErr_SetString(PyExc_ValueError, said);
    return -1;
}

/* An integer whose prefix has the bits of `mask` (5.1); below 0 with an exception. */
static Py_ssize_t integer(Cursor *cursor, uint8_t first, uint8_t mask)
{
    Py_ssize_t value = first & mask;
    if (value < mask)
        return value;
    for (int shift = 0;; shift += 7) {
        if (cursor->at == cursor->end)
            return broken("an integer that is cut off");
        uint8_t byte = *cursor->at++;
        if (shift > 28)
            return broken("an integer that is too long");
        value += (Py_ssize_t)(byte & 0x7F) << shift;
        if (value > MOST_INTEGER)
            return broken("an integer that is too long");
        if (!(byte & 0x80))
            return value;
    }
}

/* The field that an index stands for, borrowed; NULL with an exception. */
static PyObject *field_at(Blocks *self, Py_ssize_t index)
{
    if (index > STATIC && index - STATIC <= (Py_ssize_t)self->count)
        return self->entries[(self->oldest + self->count - (unsigned)(index - STATIC)) % ENTRIES];
    if (index > 0 && index <= STATIC)
        return PyTuple_GET_ITEM(self->codes->table, index - 1);
    broken("an index that there is not");
    return NULL;
}

static PyObject *text(Blocks *self, Cursor *cursor)
{
    if (cursor->at == cursor->end) {
        broken("a text that is cut off");
        return NULL;
    }
    uint8_t first = *cursor->at++;
    Py_ssize_t size = integer(cursor, first, 0x7F);
    if (size < 0)
        return NULL;
    if (size > cursor->end - cursor->at) {
        broken("a text that is cut off");
        return NULL;
    }
    const uint8_t *data = cursor->at;
    cursor->at += size;
    return first & 0x80 ? huffman_text(self->codes, data, (size_t)size)
        : PyBytes_FromStringAndSize((const char *)data, size);
}

/* Put old entries out of the table until it is of `limit` bytes (4.3, 4.4). */
static void evict(Blocks *self, Py_ssize_t limit)
{
    while (self->count && self->size > limit) {
        PyObject *pair = self->entries[self->oldest];
        self->entries[self->oldest] = NULL;
        self->oldest = (self->oldest + 1) % ENTRIES;
        self->count--;
        self->size -= size_of(pair);
        Py_DECREF(pair);
    }
}

static void add(Blocks *self, PyObject *pair)
{
    Py_ssize_t size = size_of(pair);
    evict(self, self->limit - size);
    if (size <= self->limit) {
        self->entries[(self->oldest + self->count) % ENTRIES] = Py_NewRef(pair);
        self->count++;
        self->size += size;
    }
}

/* A field that says its value, and maybe its name (6.2). */
static PyObject *literal(Blocks *self, Cursor *cursor, uint8_t first)
{
    Py_ssize_t index = integer(cursor, first, first & 0x40 ? 0x3F : 0x0F);
    if (index < 0)
        return NULL;
    PyObject *name;
    if (index) {
        PyObject *known = field_at(self, index);
        name = known ? Py_NewRef(PyTuple_GET_ITEM(known, 0)) : NULL;
    } else {
        name = text(self, cursor);
    }
    PyObject *value = name ? text(self, cursor) : NULL;
    PyObject *pair = value ? PyTuple_Pack(2, name, value) : NULL;
    Py_XDECREF(name);
    Py_XDECREF(value);
    if (pair && first & 0x40)
        add(self, pair);
    return pair;
}

/* The next field of the block; *cost is what it takes of the head. */
static PyObject *next(Blocks *self, Cursor *cursor, uint8_t first, Py_ssize_t *cost)
{
    if (!(first & 0x80)) {
        PyObject *pair = literal(self, cursor, first);
        *cost = pair ? size_of(pair) : 0;
        return pair;
    }
    Py_ssize_t index = integer(cursor, first, 0x7F); /* 6.1 */
    PyObject *pair = index < 0 ? NULL : field_at(self, index);
    if (!pair)
        return NULL;
    *cost = index <= STATIC ? LONGEST_STATIC : size_of(pair);
    return Py_NewRef(pair);
}

/* The size of the table changes (6.3). */
static int resize(Blocks *self, Cursor *cursor, uint8_t first, int is_late)
{
    if (is_late)
        return broken("a size of the table behind a field");
    Py_ssize_t size = integer(cursor, first, 0x1F);
    if (size < 0)
        return -1;
    if (size > TABLE_SIZE)
        return broken("a table that is larger than allowed");
    self->limit = size;
    evict(self, size);
    return 0;
}

static int unpack(Blocks *self, Cursor *cursor, PyObject *fields)
{
    Py_ssize_t left = self->most, cost = 0;
    while (cursor->at < cursor->end) {
        uint8_t first = *cursor->at++;
        if ((first & 0xE0) == 0x20) {
            if (resize(self, cursor, first, PyList_GET_SIZE(fields) > 0))
                return -1;
            continue;
        }
        PyObject *pair = next(self, cursor, first, &cost);
        int failed = !pair || PyList_Append(fields, pair);
        Py_XDECREF(pair);
        if (failed)
            return -1;
        left -= cost;
        if (left < 0) {
            PyErr_SetString(PyExc_OverflowError, "the request head is too long");
            return -1;
        }
    }
    return 0;
}

static PyObject *decode(Blocks *self, PyObject *block)
{
    if (!PyBytes_CheckExact(block) || !self->codes) {
        PyErr_SetString(PyExc_TypeError, "decode(): expected bytes");
        return NULL;
    }
    const uint8_t *data = (const uint8_t *)PyBytes_AS_STRING(block);
    Cursor cursor = {data, data + PyBytes_GET_SIZE(block)};
    PyObject *fields = PyList_New(0);
    if (fields && unpack(self, &cursor, fields))
        Py_CLEAR(fields);
    return fields;
}

static PyObject *make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t most;
    PyObject *codes;
    if (kwargs && PyDict_GET_SIZE(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "Blocks(): expected the longest head and the codes");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "nO!", &most, &CodesType, &codes))
        return NULL;
    if (!((Codes *)codes)->table) {
        PyErr_SetString(PyExc_ValueError, "codes: expected some");
        return NULL;
    }
    Blocks *self = (Blocks *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->codes = (Codes *)Py_NewRef(codes);
    self->most = most;
    self->limit = TABLE_SIZE;
    return (PyObject *)self;
}

static void dealloc(Blocks *self)
{
    self->limit = -1;
    evict(self, -1);
    Py_XDECREF(self->codes);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef methods[] = {
    {"decode", (PyCFunction)decode, METH_O, "The fields of a block."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject BlocksType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "apihour_http.speed._speed.Blocks",
    .tp_doc = "The decoding half of HPACK of one connection.",
    .tp_basicsize = sizeof(Blocks),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = make,
    .tp_dealloc = (destructor)dealloc,
    .tp_methods = methods,
};

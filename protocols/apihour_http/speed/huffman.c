/* Codes: Huffman's code of HPACK (RFC 7541 appendix B), and its static table (appendix A).
 *
 * The library hpack has the numbers: they are given once, and not written down again here. The
 * code is canonical: the codes of one length are consecutive, in the order of their symbols, and
 * a longer one, read as a number of 32 bits from the left, is above all shorter ones. So the
 * lengths say all of it.
 */

#include "speed.h"
#include "hpack.h"

/* What is decoded without an object's memory, bytes. */
#define SHORT 512

int huffman(const Codes *codes, const uint8_t *data, size_t size, uint8_t *out, size_t *written)
{
    uint64_t bits = 0;  /* those that are not decoded yet stand at its left */
    unsigned have = 0;
    size_t at = 0, count = 0;
    for (;;) {
        while (have <= 56 && at < size) {
            bits |= (uint64_t)data[at++] << (56 - have);
            have += 8;
        }
        uint32_t next = (uint32_t)(bits >> 32);
        unsigned length = codes->quick_length[next >> 24];
        unsigned symbol = codes->quick_symbol[next >> 24];
        if (!length) {
            for (length = 9; length < LONGEST_CODE && next >= codes->limit[length]; length++)
                ;
            symbol = codes->sorted[codes->offset[length]
                                   + ((next - codes->first[length]) >> (32 - length))];
        }
        if (length > have)
            break;
        if (symbol == END_OF_STRING)
            return -1;
        out[count++] = (uint8_t)symbol;
        bits <<= length;
        have -= length;
    }
    *written = count;
    /* 5.2: what is left over is the beginning of the end's code, and less than a byte. */
    return have < 8 && bits == (have ? ~(uint64_t)0 << (64 - have) : 0) ? 0 : -1;
}

PyObject *huffman_text(const Codes *codes, const uint8_t *data, size_t size)
{
    uint8_t here[SHORT];
    size_t most = size * 8 / 5 + 1, written; /* no code is shorter than 5 bits */
    uint8_t *out = most <= SHORT ? here : PyMem_Malloc(most);
    if (!out)
        return PyErr_NoMemory();
    PyObject *text = NULL;
    if (huffman(codes, data, size, out, &written))
        PyErr_SetString(PyExc_ValueError, "a text that is not in Huffman's code");
    else
        text = PyBytes_FromStringAndSize((char *)out, (Py_ssize_t)written);
    if (out != here)
        PyMem_Free(out);
    return text;
}

/* The codes of one length, from *code on: they are in the order of their symbols. */
static void take_length(Codes *self, const uint8_t *lengths, unsigned length, uint64_t *code,
                        unsigned *count)
{
    self->offset[length] = (uint16_t)*count;
    self->first[length] = (uint32_t)(*code << (32 - length));
    for (unsigned symbol = 0; symbol < SYMBOLS; symbol++) {
        if (lengths[symbol] != length)
            continue;
        if (length <= 8 && *code < 1u << length) {
            size_t from = *code << (8 - length), places = (size_t)1 << (8 - length);
            memset(self->quick_symbol + from, (int)symbol, places);
            memset(self->quick_length + from, (int)length, places);
        }
        self->sorted[(*count)++] = (uint16_t)symbol;
        ++*code;
    }
    self->limit[length] = (uint32_t)(*code << (32 - length));
}

static int take_lengths(Codes *self, const uint8_t *lengths)
{
    uint64_t code = 0;
    unsigned count = 0;
    memset(self->quick_length, 0, sizeof self->quick_length);
    for (unsigned length = 1; length <= LONGEST_CODE; length++, code <<= 1)
        take_length(self, lengths, length, &code, &count);
    /* No code is left over: whatever bits come, they are one. */
    if (count == SYMBOLS && code == (uint64_t)2 << LONGEST_CODE
        && self->sorted[SYMBOLS - 1] == END_OF_STRING)
        return 0;
    PyErr_SetString(PyExc_ValueError, "lengths: expected those of RFC 7541 appendix B");
    return -1;
}

static int init(Codes *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"lengths", "table", NULL};
    PyObject *lengths, *table;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!", names, &PyBytes_Type, &lengths,
                                     &PyTuple_Type, &table))
        return -1;
    if (PyBytes_GET_SIZE(lengths) != SYMBOLS || PyTuple_GET_SIZE(table) != STATIC) {
        PyErr_SetString(PyExc_ValueError, "expected 257 lengths and 61 fields");
        return -1;
    }
    for (Py_ssize_t at = 0; at < STATIC; at++)
        if (!is_field(PyTuple_GET_ITEM(table, at))) {
            PyErr_SetString(PyExc_TypeError, "table: expected pairs of bytes");
            return -1;
        }
    if (take_lengths(self, (const uint8_t *)PyBytes_AS_STRING(lengths)))
        return -1;
    Py_XSETREF(self->table, Py_NewRef(table));
    return 0;
}

static void dealloc(Codes *self)
{
    Py_XDECREF(self->table);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

PyTypeObject CodesType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "apihour_http.speed._speed.Codes",
    .tp_doc = "Huffman's code and the static table of HPACK.",
    .tp_basicsize = sizeof(Codes),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)init,
    .tp_dealloc = (destructor)dealloc,
};

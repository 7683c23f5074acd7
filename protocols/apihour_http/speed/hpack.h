/* Header blocks of HTTP/2 (HPACK, RFC 7541): see huffman.c and blocks.c. */

#ifndef APIHOUR_HPACK_H
#define APIHOUR_HPACK_H

#include <stdint.h>

#define SYMBOLS 257
#define END_OF_STRING 256
#define LONGEST_CODE 30
#define STATIC 61 /* entries of the static table */

typedef struct {
    PyObject_HEAD
    PyObject *table;           /* the static table, a tuple of fields; its first is number 1 */
    uint8_t quick_length[256]; /* of the code that a byte begins with; 0: it is longer than that */
    uint8_t quick_symbol[256];
    uint16_t sorted[SYMBOLS];  /* the symbols by their codes */
    /* By length: where in them its codes begin, its first code, and what is above its last. */
    uint16_t offset[LONGEST_CODE + 1];
    uint32_t first[LONGEST_CODE + 1], limit[LONGEST_CODE + 1];
} Codes;

extern PyTypeObject CodesType, BlocksType, JudgeType;

/* Decode: 0, or -1 for what is no text; `out` has room for size * 8 / 5. */
int huffman(const Codes *codes, const uint8_t *data, size_t size, uint8_t *out, size_t *written);

/* The same as bytes; raises ValueError. */
PyObject *huffman_text(const Codes *codes, const uint8_t *data, size_t size);

#endif

/* Messages of WebSocket that are one frame each (RFC 6455 5.2): read, and written. */

#include "speed.h"

#define FINAL_TEXT 0x81
#define FINAL_BINARY 0x82
#define MASKED 0x80
#define LONGEST_HEAD 10

/* The payload `from`, unmasked into `to`. What is returned has its high bit if a byte has it. */
static unsigned char unmask(
    unsigned char *to, const unsigned char *from, size_t size, const unsigned char *mask)
{
    uint64_t key, word, seen = 0;
    unsigned char high = 0;
    size_t at = 0;
    memcpy(&key, mask, 4);
    memcpy((unsigned char *)&key + 4, mask, 4);
    for (; at + sizeof word <= size; at += sizeof word) {
        memcpy(&word, from + at, sizeof word);
        word ^= key;
        seen |= word;
        memcpy(to + at, &word, sizeof word);
    }
    for (; at < size; at++)
        high |= to[at] = from[at] ^ mask[at & 3];
    return seen & 0x8080808080808080 ? 0x80 : high;
}

/* The text of a payload; NULL without an exception when it is none. */
static PyObject *text_of(const unsigned char *from, size_t size, const unsigned char *mask)
{
    PyObject *text = PyUnicode_New((Py_ssize_t)size, 127);
    if (!text || !size)
        return text;
    unsigned char *to = PyUnicode_1BYTE_DATA(text);
    if (!(unmask(to, from, size, mask) & 0x80))
        return text;
    PyObject *decoded = PyUnicode_DecodeUTF8((char *)to, (Py_ssize_t)size, NULL);
    Py_DECREF(text);
    if (!decoded && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
        PyErr_Clear();
    return decoded;
}

static PyObject *bytes_of(const unsigned char *from, size_t size, const unsigned char *mask)
{
    PyObject *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (data && size)
        unmask((unsigned char *)PyBytes_AS_STRING(data), from, size, mask);
    return data;
}

/* The bytes of the frame at the beginning of `data` before its payload, and the `length` of that.
 * 0 when it is not all there, or not one of a client's whole messages. */
static size_t head_of(const unsigned char *data, size_t size, uint64_t *length)
{
    if (size < 6 || (data[0] != FINAL_TEXT && data[0] != FINAL_BINARY) || !(data[1] & MASKED))
        return 0;
    size_t wide = (data[1] & 127) == 127 ? 8 : (data[1] & 127) == 126 ? 2 : 0;
    if (size < 6 + wide)
        return 0;
    *length = wide ? 0 : data[1] & 127;
    for (size_t each = 0; each < wide; each++)
        *length = *length << 8 | data[2 + each];
    return 6 + wide;
}

/* The messages that bytes begin with, and how many bytes they are. */
static PyObject *found_in(const unsigned char *data, size_t size, uint64_t limit)
{
    size_t at = 0, head;
    uint64_t length;
    PyObject *found = PyList_New(0);
    while (found && (head = head_of(data + at, size - at, &length))
           && length <= limit && length <= size - at - head) {
        const unsigned char *payload = data + at + head;
        PyObject *message = data[at] == FINAL_TEXT
            ? text_of(payload, (size_t)length, payload - 4)
            : bytes_of(payload, (size_t)length, payload - 4);
        if (!message && !PyErr_Occurred())
            break;
        if (!message || PyList_Append(found, message))
            Py_CLEAR(found);
        Py_XDECREF(message);
        at += head + (size_t)length;
    }
    return found ? Py_BuildValue("(Nn)", found, (Py_ssize_t)at) : NULL;
}

PyObject *messages(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    Py_ssize_t limit = count == 2 ? PyLong_AsSsize_t(args[1]) : -1;
    if (limit < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "messages(): expected bytes, and a limit from 0 on");
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE))
        return NULL;
    PyObject *found = found_in(view.buf, (size_t)view.len, (uint64_t)limit);
    PyBuffer_Release(&view);
    return found;
}

/* A frame of the server: its head, then `size` bytes. */
static PyObject *frame_of(unsigned char first, const char *payload, size_t size)
{
    unsigned char head[LONGEST_HEAD] = {first};
    size_t wide = size < 126 ? 0 : size < 65536 ? 2 : 8;
    head[1] = wide == 0 ? (unsigned char)size : wide == 2 ? 126 : 127;
    for (size_t each = 0; each < wide; each++)
        head[2 + each] = (unsigned char)((uint64_t)size >> 8 * (wide - 1 - each));
    if (size > (size_t)PY_SSIZE_T_MAX - LONGEST_HEAD)
        return PyErr_NoMemory();
    PyObject *frame = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(2 + wide + size));
    if (frame) {
        memcpy(PyBytes_AS_STRING(frame), head, 2 + wide);
        if (size)
            memcpy(PyBytes_AS_STRING(frame) + 2 + wide, payload, size);
    }
    return frame;
}

PyObject *framed(PyObject *module, PyObject *message)
{
    (void)module;
    if (PyUnicode_Check(message)) {
        if (PyUnicode_IS_COMPACT_ASCII(message))
            return frame_of(FINAL_TEXT, (char *)PyUnicode_1BYTE_DATA(message),
                            (size_t)PyUnicode_GET_LENGTH(message));
        PyObject *encoded = PyUnicode_AsUTF8String(message);
        if (!encoded)
            return NULL;
        PyObject *frame = frame_of(FINAL_TEXT, PyBytes_AS_STRING(encoded),
                                   (size_t)PyBytes_GET_SIZE(encoded));
        Py_DECREF(encoded);
        return frame;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(message, &view, PyBUF_SIMPLE))
        return NULL;
    PyObject *frame = frame_of(FINAL_BINARY, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return frame;
}

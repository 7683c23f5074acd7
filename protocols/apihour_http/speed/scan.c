/* Which reads are one plain request, whole and beyond doubt.
 *
 * Rules:
 *
 * - What is accepted here is accepted by the parser and by the checks of apihour_http.head too,
 *   and means the same there; whatever is not certain is left to them. So this decides nothing
 *   but how fast a usual request is read.
 * - Plain is: one of seven methods, a target in origin form without a fragment (RFC 9112 3.2.1),
 *   HTTP/1.1, one valid Host (RFC 9110 7.2), no field that changes how the message or the
 *   connection goes on (Transfer-Encoding, Upgrade, Expect, any Connection but keep-alive
 *   and close),
 *   sizes within the limits, and the read ends where the message does.
 * - No byte is read at or behind `size`.
 */

#include "scan.h"

#include <stdint.h>
#include <string.h>

enum { TOKEN = 1, TARGET = 2, HOST = 4 };

const char *const method_names[METHODS] = {
    "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS",
};

/* RFC 9110 5.6.2 token; RFC 3986 3.3 and 3.4, as lax as llhttp; RFC 3986 3.2.2 reg-name. */
#define LETTER (TOKEN | TARGET | HOST)
static const unsigned char kinds[256] = {
    ['!'] = LETTER, ['"'] = TARGET, ['#'] = TOKEN, ['$'] = LETTER, ['%'] = LETTER,
    ['&'] = LETTER, ['\''] = LETTER, ['('] = TARGET | HOST, [')'] = TARGET | HOST,
    ['*'] = LETTER, ['+'] = LETTER, [','] = TARGET, ['-'] = LETTER, ['.'] = LETTER,
    ['/'] = TARGET, ['0' ... '9'] = LETTER, [':'] = TARGET, [';'] = TARGET | HOST,
    ['<'] = TARGET, ['='] = TARGET | HOST, ['>'] = TARGET, ['?'] = TARGET, ['@'] = TARGET,
    ['A' ... 'Z'] = LETTER, ['['] = TARGET, ['\\'] = TARGET, [']'] = TARGET,
    ['^'] = TOKEN | TARGET, ['_'] = LETTER, ['`'] = TOKEN | TARGET, ['a' ... 'z'] = LETTER,
    ['{'] = TARGET, ['|'] = TOKEN | TARGET, ['}'] = TARGET, ['~'] = LETTER,
};

static inline int is(char byte, int kind) { return kinds[(unsigned char)byte] & kind; }

/* The fields that are looked at, by length and without regard to case. */
enum { PLAIN, REFUSED, IS_HOST, IS_LENGTH, IS_CONNECTION, IS_TYPE, IS_AGENT, IS_FORWARDED };

int same(const char *name, const char *lower, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((name[i] | 0x20) != lower[i]) /* both are tokens: '-' has that bit set */
            return 0;
    return 1;
}

static int kind_of(const char *name, size_t length)
{
    switch (length) {
    case 2: /* what it says is for the application's side */
        return same(name, "te", 2) ? REFUSED : PLAIN;
    case 4:
        return same(name, "host", 4) ? IS_HOST : PLAIN;
    case 6:
        return same(name, "expect", 6) ? REFUSED : PLAIN;
    case 7:
        return same(name, "upgrade", 7) ? REFUSED : PLAIN;
    case 9:
        return same(name, "forwarded", 9) ? IS_FORWARDED : PLAIN;
    case 10:
        if (same(name, "connection", 10))
            return IS_CONNECTION;
        return same(name, "user-agent", 10) ? IS_AGENT : PLAIN;
    case 12:
        return same(name, "content-type", 12) ? IS_TYPE : PLAIN;
    case 14:
        return same(name, "content-length", 14) ? IS_LENGTH : PLAIN;
    case 15:
        return same(name, "x-forwarded-for", 15) ? IS_FORWARDED : PLAIN;
    case 16: /* llhttp takes the third for a Connection */
        if (same(name, "x-forwarded-host", 16) || same(name, "x-forwarded-port", 16))
            return IS_FORWARDED;
        return same(name, "proxy-connection", 16) || same(name, "content-encoding", 16)
            ? REFUSED : PLAIN;
    case 17:
        if (same(name, "x-forwarded-proto", 17))
            return IS_FORWARDED;
        return same(name, "transfer-encoding", 17) ? REFUSED : PLAIN;
    case 18:
        return same(name, "sec-websocket-key1", 18) ? REFUSED : PLAIN;
    default:
        return PLAIN;
    }
}

/* The first byte from `at` on that no value has: a control character other than a tab. */
static size_t value_end(const char *data, size_t at, size_t size)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    while (at + 8 <= size) {
        uint64_t eight;
        memcpy(&eight, data + at, 8);
        uint64_t low = (eight - ones * 0x20) & ~eight & high; /* maybe a byte below 0x20 */
        uint64_t delete = eight ^ (ones * 0x7f);
        if (low | ((delete - ones) & ~delete & high))
            break;
        at += 8;
    }
    for (; at < size; at++) {
        unsigned char byte = (unsigned char)data[at];
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f)
            break;
    }
    return at;
}

static int is_host(const char *value, size_t length)
{
    size_t at = 0;
    while (at < length && is(value[at], HOST))
        at++;
    if (!at)
        return 0;
    if (at == length)
        return 1;
    if (value[at++] != ':' || length - at > 5)
        return 0;
    for (; at < length; at++)
        if (value[at] < '0' || value[at] > '9')
            return 0;
    return 1;
}

/* Up to nine digits and nothing else; -1 for what is not that. */
static long number(const char *value, size_t length)
{
    long found = 0;
    if (!length || length > 9)
        return -1;
    for (size_t at = 0; at < length; at++) {
        if (value[at] < '0' || value[at] > '9')
            return -1;
        found = found * 10 + (value[at] - '0');
    }
    return found;
}

static int request_line(const char *data, size_t size, Head *out)
{
    size_t length = 0;
    for (out->method = 0; out->method < METHODS; out->method++) {
        length = strlen(method_names[out->method]);
        if (length < size && !memcmp(data, method_names[out->method], length)
            && data[length] == ' ')
            break;
    }
    size_t at = out->target = length + 1;
    if (out->method == METHODS || at >= size || data[at] != '/')
        return 0;
    out->path_len = 0;
    for (; at < size && is(data[at], TARGET); at++)
        if (data[at] == '?' && !out->path_len)
            out->path_len = at - out->target;
    out->target_len = at - out->target;
    if (!out->path_len)
        out->path_len = out->target_len;
    if (size - at < 11 || memcmp(data + at, " HTTP/1.1\r\n", 11))
        return 0;
    out->fields = at + 11;
    return 1;
}

Field next_field(const char *data, size_t *at)
{
    Field field = {.name = *at};
    const char *colon = strchr(data + *at, ':');
    field.name_len = (size_t)(colon - data) - field.name;
    field.value = field.name + field.name_len + 1;
    while (data[field.value] == ' ' || data[field.value] == '\t')
        field.value++;
    const char *end = strchr(data + field.value, '\r');
    field.value_len = (size_t)(end - data) - field.value;
    *at = field.value + field.value_len + 2;
    return field;
}

int scan_first(const char *data, size_t size, const Limits *limits, Head *out)
{
    size_t head = size < limits->head ? size : limits->head, count = 0;
    unsigned seen = 0;
    out->closes = 0;
    out->forwarded = 0;
    long length = 0;
    if (!request_line(data, head, out) || out->target_len > limits->line)
        return 0;
    size_t at = out->fields;
    while (1) {
        size_t name = at;
        while (at < head && is(data[at], TOKEN))
            at++;
        if (at == name)
            break; /* the empty line, or what is no field */
        size_t name_len = at - name;
        if (at >= head || data[at] != ':' || ++count > limits->fields)
            return 0;
        at++;
        while (at < head && (data[at] == ' ' || data[at] == '\t'))
            at++;
        size_t value = at;
        at = value_end(data, at, head);
        if (at + 1 >= head || data[at] != '\r' || data[at + 1] != '\n')
            return 0;
        size_t value_len = at - value;
        at += 2;
        int kind = kind_of(data + name, name_len);
        if (kind == PLAIN)
            continue;
        if (kind == IS_FORWARDED) {
            out->forwarded = 1;
            continue;
        }
        if (kind == REFUSED || seen & 1u << kind)
            return 0;
        seen |= 1u << kind;
        if (kind == IS_HOST && !is_host(data + value, value_len))
            return 0;
        if (kind == IS_LENGTH && (length = number(data + value, value_len)) < 0)
            return 0;
        if (kind == IS_CONNECTION && value_len == 5 && same(data + value, "close", 5))
            out->closes = 1;
        else if (kind == IS_CONNECTION
                 && (value_len != 10 || !same(data + value, "keep-alive", 10)))
            return 0;
    }
    if (!(seen & 1u << IS_HOST) || at + 1 >= head || data[at] != '\r' || data[at + 1] != '\n')
        return 0;
    out->fields_end = at;
    out->body = at + 2;
    out->has_length = (seen & 1u << IS_LENGTH) != 0;
    out->end = out->body + (size_t)length;
    return (size_t)length <= limits->body && out->end <= size;
}

int scan(const char *data, size_t size, const Limits *limits, Head *out)
{
    return scan_first(data, size, limits, out) && out->end == size;
}

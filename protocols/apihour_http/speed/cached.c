/* A small file read at once, from what the kernel has in its memory; never from the disk.
 *
 * Rules:
 *
 * - Of a path every name is shown: not one that is hidden, nor an empty one.
 * - The walk stays beneath the directory and follows no link, as the one by descriptors does
 *   (apihour_http.static.open_files): openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS.
 * - Nothing here waits: RESOLVE_CACHED refuses a walk, and RWF_NOWAIT a read, that would. What is
 *   refused, for whatever reason (a kernel or file system that cannot, a sandbox), is not known at
 *   once, and asked for in a thread.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "speed.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__linux__) && defined(__has_include)
#if __has_include(<linux/openat2.h>)
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#endif
#endif

#define LONGEST 4096 /* bytes of a path, as the kernel has it */
#define LATEST 9000000000LL /* seconds, the year 2255: in nanoseconds, what 64 bits hold */

#if defined(SYS_openat2) && defined(RWF_NOWAIT)
#ifndef RESOLVE_CACHED
#define RESOLVE_CACHED 0x20
#endif

static int walk(int at, const char *path, int flags, unsigned long long resolve)
{
    struct open_how how = {.flags = (unsigned long long)(flags | O_CLOEXEC),
                           .resolve = resolve | RESOLVE_CACHED};
    return (int)syscall(SYS_openat2, at, path, &how, sizeof how);
}

/* Open the regular file at `path`: 1; 0 where there is none, -1 where it is not known at once. */
static int open_known(int root, const char *path, KnownFile *file)
{
    struct stat told;
    file->fd = walk(root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK,
                    RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    if (file->fd < 0)
        return errno == ENOENT ? 0 : -1;
    if (fstat(file->fd, &told) || !S_ISREG(told.st_mode) || told.st_mtim.tv_sec > LATEST
        || told.st_mtim.tv_sec < -LATEST) {
        close(file->fd);
        return -1;
    }
    file->size = told.st_size;
    file->modified = told.st_mtim.tv_sec * 1000000000LL + told.st_mtim.tv_nsec;
    return 1;
}

static int open_root(const char *directory)
{
    return walk(AT_FDCWD, directory, O_PATH | O_DIRECTORY, 0);
}

int read_known(const KnownFile *file, char *into)
{
    struct iovec where = {into, (size_t)file->size};
    return !file->size || preadv2(file->fd, &where, 1, 0, RWF_NOWAIT) == file->size;
}
#else
static int open_known(int root, const char *path, KnownFile *file)
{
    (void)root, (void)path, (void)file;
    return -1;
}

static int open_root(const char *directory)
{
    (void)directory;
    return -1;
}

int read_known(const KnownFile *file, char *into)
{
    (void)file, (void)into;
    return 0;
}
#endif

static int is_shown(const char *path, size_t size)
{
    static const char known[] = ".well-known";
    if (memchr(path, 0, size))
        return 0;
    for (const char *end = path + size, *next;; path = next + 1) {
        next = memchr(path, '/', (size_t)(end - path));
        size_t length = (size_t)((next ? next : end) - path);
        if (!length || (*path == '.' && (length != sizeof known - 1
                                         || memcmp(path, known, length))))
            return 0;
        if (!next)
            return 1;
    }
}

/* Coding and end of a name in `pair`, whose bytes are in `text` and end with a zero; -1 with an
 * exception where it is none. */
static Py_ssize_t end_of(PyObject *pair, PyObject **coding, const char **text)
{
    Py_ssize_t size = -1;
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2
        || !PyUnicode_Check(*coding = PyTuple_GET_ITEM(pair, 0))
        || !PyUnicode_Check(PyTuple_GET_ITEM(pair, 1)))
        PyErr_SetString(PyExc_TypeError, "expected pairs of a coding and the end of a name");
    else if (!(*text = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(pair, 1), &size)))
        return -1;
    return size;
}

/* Open what stands beside a file with that end, where it is no older: 1; 0 where it is not there,
 * or older; -1 where that is not known at once, or with an exception. */
static int open_beside(int root, char *path, size_t length, PyObject *pair, const KnownFile *file,
                       KnownFile *other)
{
    const char *end = NULL;
    Py_ssize_t size = end_of(pair, &other->coding, &end);
    if (size < 0 || (size_t)size >= LONGEST - length)
        return -1;
    memcpy(path + length, end, (size_t)size + 1);
    int found = open_known(root, path, other);
    if (found <= 0 || other->modified >= file->modified)
        return found;
    close(other->fd);
    return 0;
}

/* Open the plain file, or in its place the first of those beside it: as find_known() tells. */
static int choose(int root, char *path, size_t length, PyObject *ends, KnownFile *file)
{
    KnownFile other;
    int found = 0;
    file->coding = NULL;
    if (open_known(root, path, file) <= 0)
        return 0;
    for (Py_ssize_t each = 0; ends && !found && each < PyTuple_GET_SIZE(ends); each++)
        found = open_beside(root, path, length, PyTuple_GET_ITEM(ends, each), file, &other);
    if (!found)
        return 1;
    close(file->fd);
    if (found > 0)
        *file = other;
    return found > 0 ? 1 : PyErr_Occurred() ? -1 : 0;
}

int find_known(const char *directory, const char *path, size_t length, PyObject *ends,
               KnownFile *file)
{
    char name[LONGEST];
    if (length >= LONGEST || !is_shown(path, length))
        return 0;
    memcpy(name, path, length);
    name[length] = 0;
    int root = open_root(directory);
    if (root < 0)
        return 0;
    int found = choose(root, name, length, ends, file);
    close(root);
    return found;
}

/* read_cached(directory, path, ends, most): coding, size, modification time in nanoseconds and
 * bytes of what is sent of a path to those who accept `ends`, pairs of a coding and the end of its
 * files' names; None where there is none, it has more than `most`, or is not known at once. */
PyObject *read_cached(PyObject *module, PyObject *args)
{
    const char *directory, *path;
    Py_ssize_t length, most;
    PyObject *ends, *data = NULL;
    KnownFile file;
    (void)module;
    if (!PyArg_ParseTuple(args, "yy#O!n", &directory, &path, &length, &PyTuple_Type, &ends, &most))
        return NULL;
    int found = find_known(directory, path, (size_t)length, ends, &file);
    if (found < 0)
        return NULL;
    if (!found)
        Py_RETURN_NONE;
    if (file.size <= most && (data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)file.size))
        && !read_known(&file, PyBytes_AS_STRING(data)))
        Py_CLEAR(data);
    close(file.fd);
    if (data)
        return Py_BuildValue("OLLN", file.coding ? file.coding : no_text, file.size,
                             file.modified, data);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

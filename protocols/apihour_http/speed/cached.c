/* A small file read at once, from what the kernel has in its memory; never from the disk.
 *
 * Rules:
 *
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

#if defined(SYS_openat2) && defined(RWF_NOWAIT)
#ifndef RESOLVE_CACHED
#define RESOLVE_CACHED 0x20
#endif

enum { LARGEST = 1 << 20 };

static int walk(int at, const char *path, int flags, unsigned long long resolve)
{
    struct open_how how = {.flags = (unsigned long long)(flags | O_CLOEXEC),
                           .resolve = resolve | RESOLVE_CACHED};
    return (int)syscall(SYS_openat2, at, path, &how, sizeof how);
}

/* Its bytes; None where it has more than `most`, NULL without an exception where it would wait. */
static PyObject *bytes_of(int fd, off_t size, Py_ssize_t most)
{
    if (size > most)
        return Py_NewRef(Py_None);
    PyObject *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!data)
        return NULL;
    struct iovec where = {PyBytes_AS_STRING(data), (size_t)size};
    if (size && preadv2(fd, &where, 1, 0, RWF_NOWAIT) != size)
        Py_CLEAR(data);
    return data;
}

static PyObject *found(int fd, Py_ssize_t most)
{
    struct stat told;
    if (fstat(fd, &told) || !S_ISREG(told.st_mode))
        Py_RETURN_NONE;
    PyObject *data = bytes_of(fd, told.st_size, most);
    if (!data) {
        if (PyErr_Occurred())
            return NULL;
        Py_RETURN_NONE;
    }
    return Py_BuildValue(
        "LLN", (long long)told.st_size,
        (long long)told.st_mtim.tv_sec * 1000000000LL + told.st_mtim.tv_nsec, data);
}

static PyObject *look(const char *directory, const char *path, Py_ssize_t most)
{
    int root = walk(AT_FDCWD, directory, O_PATH | O_DIRECTORY, 0);
    if (root < 0)
        Py_RETURN_NONE;
    int fd = walk(root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK,
                  RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    int error = errno;
    close(root);
    if (fd < 0) {
        if (error == ENOENT)
            Py_RETURN_FALSE;
        Py_RETURN_NONE;
    }
    PyObject *made = found(fd, most < LARGEST ? most : LARGEST);
    close(fd);
    return made;
}
#else
static PyObject *look(const char *directory, const char *path, Py_ssize_t most)
{
    (void)directory, (void)path, (void)most;
    Py_RETURN_NONE;
}
#endif

/* read_cached(directory, path, most): size, modification time in nanoseconds and bytes (None beyond
 * `most`) of a regular file; False where there is none, None where that is not known at once. */
PyObject *read_cached(PyObject *module, PyObject *args)
{
    const char *directory, *path;
    Py_ssize_t most;
    (void)module;
    if (!PyArg_ParseTuple(args, "yyn", &directory, &path, &most))
        return NULL;
    return look(directory, path, most);
}

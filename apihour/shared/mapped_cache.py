"""A cache that every worker of one daemon has in its memory: a table in a mapped file.

Rules:

- It is a table of sets of four entries. A key is in one set only, by its hash; a new one takes the
  place of the entry of its set that ends first. So it has a fixed size, and nothing to sweep.
- No lock, and nobody waits: writers may write over one another, or be stopped half-way.
- A word an entry, written last and at once, has the key's hash and the checksum of what was put:
  the entry's key, end and value. So what is torn, or another's, is a miss; and a writer who was
  stopped before his word brings back nothing but his own, whatever was deleted meanwhile.
- Whoever deletes clears the words of all that have the key's hash, for all workers.
- Who opens it first says how large it is. Another size takes effect when the daemon starts again:
  two generations of a reload have one table, or the one would not see what the other deletes.
- The file is there before its memory, which whoever opens it makes sure of: workers that start
  together take it once.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import shutil
import struct
import time
from collections.abc import Callable
from zlib import crc32

from apihour.errors import SharedError
from apihour.ipc.state_files import reserve
from apihour.shared.backend import check_cache, check_cached, check_key
from apihour.shared.file_store import FileStore
from apihour.shared.key_names import name_of
from apihour.shared.store_errors import StoreErrors

__all__ = ["MappedCache"]

_WAYS = 4  # entries of a set
_START = 4096  # where the words begin; in front is what the file is
_FILE = struct.Struct("<16sII")
_MAGIC = b"apihour cache 1\n"
_ROW = struct.Struct(f"={_WAYS}Q")  # of each entry: hash << 32 | checksum; 0 where there is none
_CHECKSUM = (1 << 32) - 1
_HEAD = struct.Struct("=dHI")  # of an entry: its end, bytes of its key and its value, which follow
_END = struct.Struct("=d")
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_LOOK = 1.0  # seconds between two looks whether the file is still the one that was opened


class MappedCache:
    """About `entries` of at most `size` bytes, key and value; one process's way to them.

    `store` is asked each second where its files are; what it raises then comes from any method.
    Raises SharedFullError when there is no memory for it, SharedError when the file is another
    version's.
    """

    def __init__(
        self, store: Callable[[], FileStore], name: str, entries: int, size: int
    ) -> None:
        self._longest = check_cache(name, entries, size)
        self.name = name
        self._store = store
        self._asked = -(-entries // _WAYS), size
        self._open(store())

    async def get(self, key: str) -> bytes | None:
        """See :meth:`SharedCache.get`."""
        name, tag, first = self._place(key)
        for way, word in enumerate(_ROW.unpack_from(self._map, _START + 8 * first), first):
            if word >> 32 == tag and (value := self._value(way, word, name)) is not None:
                return value
        return None

    async def put(self, key: str, value: bytes, ttl: float) -> bool:
        """See :meth:`SharedCache.put`."""
        check_cached(key, value, ttl)
        name, tag, first = self._place(key)
        if len(name) + len(value) > self.size:
            self._clear(tag, first)
            return False
        entry = _HEAD.pack(time.monotonic() + ttl, len(name), len(value)) + name + value
        way = self._way(tag, first)
        start = self._entries + way * self._pitch
        self._map[start:start + len(entry)] = entry
        self._words[way] = tag << 32 | crc32(entry)
        return True

    async def delete(self, key: str) -> None:
        """See :meth:`SharedCache.delete`."""
        _, tag, first = self._place(key)
        self._clear(tag, first)

    def close(self) -> None:
        """Let go of it, when its store is closed; what is cached stays."""
        self._next_look = 0.0  # where the store says that it is closed
        self._words.release()
        self._map.close()

    # Below: entries of a set

    def _place(self, key: str) -> tuple[bytes, int, int]:
        """A key's name and hash, and the first entry of its set."""
        if (now := time.monotonic()) >= self._next_look:
            self._look(now)
        name = check_key(key, limit=self._longest)
        tag = crc32(name) or 1  # 0 is no entry's
        return name, tag, tag % self._sets * _WAYS

    def _value(self, way: int, word: int, name: bytes) -> bytes | None:
        """What an entry has, if it is that word's, and that key's, and not over."""
        start = self._entries + way * self._pitch
        until, key_size, value_size = _HEAD.unpack_from(self._map, start)
        if key_size + value_size > self.size or until <= time.monotonic():
            return None
        entry = self._map[start:start + _HEAD.size + key_size + value_size]
        value = _HEAD.size + key_size
        if crc32(entry) != word & _CHECKSUM or entry[_HEAD.size:value] != name:
            return None
        return entry[value:]

    def _way(self, tag: int, first: int) -> int:
        """The entry to write: the key's own, or else that which ends first."""
        words = _ROW.unpack_from(self._map, _START + 8 * first)
        own = [way for way, word in enumerate(words, first) if word >> 32 == tag]
        if not own:
            ends = [self._end(way) if word else 0.0 for way, word in enumerate(words, first)]
            return first + ends.index(min(ends))
        for way in own[1:]:  # two wrote it at the same moment
            self._words[way] = 0
        return own[0]

    def _end(self, way: int) -> float:
        end: float = _END.unpack_from(self._map, self._entries + way * self._pitch)[0]
        return end

    def _clear(self, tag: int, first: int) -> None:
        for way, word in enumerate(_ROW.unpack_from(self._map, _START + 8 * first), first):
            if word >> 32 == tag:
                self._words[way] = 0

    # Below: the file

    def _look(self, now: float) -> None:
        """Go on in a new table where the store has vanished and was made again."""
        store = self._store()
        self._next_look = now + _LOOK
        if not self._is_in_place() and os.path.isdir(store.root):
            words, table = self._words, self._map
            self._open(store)
            words.release()
            table.close()

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), self._identity)
        except OSError:
            return False

    def _open(self, store: FileStore) -> None:
        """Map the file, made where there is none. Raises SharedError; then all is as it was."""
        path = os.path.join(store.root, b"caches", name_of(self.name))
        with StoreErrors(f"cache {self.name!r}"):
            try:
                fd = os.open(path, _FLAGS)
            except FileNotFoundError:
                self._make(path, store)
                fd = os.open(path, _FLAGS)
            try:
                sets, size = self._geometry(os.pread(fd, _FILE.size, 0))
                _fill(fd, path, _length(sets, size))
                identity = os.fstat(fd)
                self._map = mmap.mmap(fd, _length(sets, size))
            finally:
                os.close(fd)
        self._path, self._identity, self._sets, self.size = path, identity, sets, size
        self._entries, self._pitch = _START + sets * _ROW.size, _HEAD.size + size
        self._words = memoryview(self._map)[_START:self._entries].cast("Q")
        self._next_look = time.monotonic() + _LOOK
        if (sets, size) != self._asked:
            logging.getLogger("gunicorn.error").warning(
                "cache %r: %d entries of %d bytes, as its first worker asked; %d of %d take effect "
                "when the daemon starts again", self.name, sets * _WAYS, size,
                self._asked[0] * _WAYS, self._asked[1])

    def _geometry(self, head: bytes) -> tuple[int, int]:
        """Sets, and bytes of an entry, as the file says."""
        if len(head) == _FILE.size and head.startswith(_MAGIC):
            _, sets, size = _FILE.unpack(head)
            if sets and size:
                return sets, size
        raise SharedError(
            f"cache {self.name!r}: its file begins with {head!r}; expected what this version of "
            "apihour makes (it ends with the daemon)")

    def _make(self, path: bytes, store: FileStore) -> None:
        """Put a file in place that says how large it is to be, unless another was first."""
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        scratch = store.scratch()
        try:
            fd = os.open(scratch + b"/cache", _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.pwrite(fd, _FILE.pack(_MAGIC, *self._asked), 0)
            finally:
                os.close(fd)
            with contextlib.suppress(FileExistsError):
                os.link(scratch + b"/cache", path)
        finally:
            shutil.rmtree(scratch)


def _fill(fd: int, path: bytes, length: int) -> None:
    """Give the file all its memory, which has it only when that is done. Raises OSError."""
    if os.fstat(fd).st_size >= length:
        return
    try:
        reserve(fd, length)
    except OSError as error:
        if os.fstat(fd).st_size < length:  # nobody could: who wants less may make his own
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        raise OSError(error.errno, f"{error.strerror} for {length} bytes", path) from error


def _length(sets: int, size: int) -> int:
    """Bytes of the file."""
    return _START + sets * (_ROW.size + _WAYS * (_HEAD.size + size))

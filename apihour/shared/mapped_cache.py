"""A cache that every worker of one daemon has in its memory: a table in a mapped file.

Rules:

- It is a table of sets of four entries. A key is in one set only, by its hash; a new one takes the
  place of the entry of its set that ends first. So it has a fixed size, and nothing to sweep.
- No lock, and nobody waits: writers may write over one another, or be stopped half-way. An entry
  states its key, its end and a checksum of all; one that is torn, or another key's, is a miss.
- A word a set's entry, written last and at once, says whose it is. Whoever deletes clears it for
  all that have its hash, so a hit that was deleted is one no more, for all workers.
- Who opens it first says how large it is. Another size takes effect when the daemon starts again:
  two generations of a reload have one table, or the one would not see what the other deletes.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import struct
import time
from collections.abc import Callable
from zlib import crc32

from apihour.errors import SharedError
from apihour.ipc.state_files import reserve
from apihour.shared.backend import check_cache, check_key, check_ttl, check_value
from apihour.shared.file_store import FileStore
from apihour.shared.key_names import name_of
from apihour.shared.store_errors import StoreErrors

__all__ = ["MappedCache"]

_WAYS = 4  # entries of a set
_START = 4096  # where the words begin; in front is what the file is
_FILE = struct.Struct("<16sII")
_MAGIC = b"apihour cache 1\n"
_ROW = struct.Struct(f"={_WAYS}Q")  # of each entry: hash << 32 | tenths of a second of its end
_LAST = (1 << 32) - 1
# An entry: the checksum of the rest, and that: its end, bytes of key and value, and these.
_CHECKSUM, _REST = struct.Struct("=I"), struct.Struct("=dHI")
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
        check_cache(name, entries, size)
        self.name = name
        self._store = store
        self._asked = -(-entries // _WAYS), size
        self._open(store())

    async def get(self, key: str) -> bytes | None:
        """See :meth:`SharedCache.get`."""
        name, tag, first = self._place(key)
        for way, word in enumerate(_ROW.unpack_from(self._map, _START + 8 * first), first):
            if word >> 32 == tag and (value := self._value(way, name)) is not None:
                return value
        return None

    async def put(self, key: str, value: bytes, ttl: float) -> bool:
        """See :meth:`SharedCache.put`."""
        check_value(key, value)
        check_ttl(key, ttl)
        name, tag, first = self._place(key)
        if len(name) + len(value) > self.size:
            self._clear(tag, first)
            return False
        until = time.monotonic() + ttl
        rest = _REST.pack(until, len(name), len(value)) + name + value
        way = self._way(tag, first)
        start = self._entries + way * self._pitch
        self._map[start:start + 4 + len(rest)] = _CHECKSUM.pack(crc32(rest)) + rest
        self._words[way] = tag << 32 | min(int(until * 10) + 1, _LAST)
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
        name = check_key(key)
        tag = crc32(name)
        return name, tag, tag % self._sets * _WAYS

    def _value(self, way: int, name: bytes) -> bytes | None:
        """What an entry has, if it is that key's, and whole, and not over."""
        start = self._entries + way * self._pitch
        (checksum,) = _CHECKSUM.unpack_from(self._map, start)
        until, key_size, value_size = _REST.unpack_from(self._map, start + 4)
        if key_size + value_size > self.size or until <= time.monotonic():
            return None
        rest = self._map[start + 4:start + 4 + _REST.size + key_size + value_size]
        value = _REST.size + key_size
        if crc32(rest) != checksum or rest[_REST.size:value] != name:
            return None
        return rest[value:]

    def _way(self, tag: int, first: int) -> int:
        """The entry to write: the key's own, or else that which ends first."""
        words = _ROW.unpack_from(self._map, _START + 8 * first)
        own = [way for way, word in enumerate(words, first) if word >> 32 == tag]
        if not own:
            ends = [word & _LAST for word in words]
            return first + ends.index(min(ends))
        for way in own[1:]:  # two wrote it at the same moment
            self._words[way] = 0
        return own[0]

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
                identity = os.fstat(fd)
                sets, size = self._geometry(os.pread(fd, _FILE.size, 0), identity.st_size)
                self._map = mmap.mmap(fd, _length(sets, size))
            finally:
                os.close(fd)
        self._path, self._identity, self._sets, self.size = path, identity, sets, size
        self._entries, self._pitch = _START + sets * _ROW.size, 4 + _REST.size + size
        self._words = memoryview(self._map)[_START:self._entries].cast("Q")
        self._next_look = time.monotonic() + _LOOK

    def _geometry(self, head: bytes, length: int) -> tuple[int, int]:
        """Sets, and bytes of an entry, as the file says."""
        if len(head) == _FILE.size:
            magic, sets, size = _FILE.unpack(head)
            if magic == _MAGIC and sets and length >= _length(sets, size):
                return sets, size
        raise SharedError(
            f"cache {self.name!r}: its file begins with {head[:16]!r} and has {length} bytes; "
            "expected what this version of apihour makes (it ends with the daemon)")

    def _make(self, path: bytes, store: FileStore) -> None:
        """Prepare the file, and put it in place unless another process was first."""
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        scratch = store.scratch()
        try:
            fd = os.open(scratch + b"/cache", _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                reserve(fd, _length(*self._asked))
                os.pwrite(fd, _FILE.pack(_MAGIC, *self._asked), 0)
            finally:
                os.close(fd)
            with contextlib.suppress(FileExistsError):
                os.link(scratch + b"/cache", path)
        finally:
            shutil.rmtree(scratch)


def _length(sets: int, size: int) -> int:
    """Bytes of the file."""
    return _START + sets * (_ROW.size + _WAYS * (4 + _REST.size + size))

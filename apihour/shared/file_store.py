"""The embedded shared store: compare-and-set on file names, with no lock and no owner.

Rules:

- The head of a key is the *name* of the only file in the key's directory. It says revision,
  expiry, and the value itself (small) or the blob that holds it. One ``rename`` of the head
  is one compare-and-set: its source exists for one writer only, and the kernel finishes it or
  not, so a process that is stopped or killed holds nothing and leaves nothing half done.
- A key is created by renaming a prepared directory onto its place, which the kernel refuses
  when the place holds a head (rename(2): ENOTEMPTY).
- Revisions never go back, though removed keys are forgotten: the directory of a bucket of
  keys is named by the highest revision ever forgotten in it (its floor), and new keys start
  above. Whoever still holds the old name finds nothing there, and looks again. The first
  floor is the clock's: a store that vanished and is made again starts above all it ever said.
- A blob is locked (flock(2), which dies with its holder) until its head stands, and nobody
  waits for that lock: it only tells a sweeper what is not an orphan yet.
- What is written by many is divided so that each number has one writer at a time: usage has
  a slot per process. Change stamps may overwrite one another: each is a new value, and it is
  the difference that counts.

Calls take microseconds (a 1 MB value: under 0.5 ms) and none ever waits for another process.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import time

from apihour.errors import SharedError
from apihour.ipc.state_files import reserve
from apihour.shared.last_heads import LastHeads
from apihour.shared.records import (
    BUCKETS,
    DELETED,
    POINTER,
    RecordHead,
    bucket_of,
    clock,
    parse,
    payload_of,
)
from apihour.shared.store_files import boot_id, lock, move_directory, remove_if_empty

__all__ = ["FileStore"]

_SLOTS = 1024  # processes that have the store open at the same time
_FIRST = 64  # of the slots
_NONE = bytes((_SLOTS - _FIRST) * 8)
_LEFTOVER = 60.0  # seconds after which a prepared directory was left by a killed process


class FileStore:
    """One process's way into the store at `path`. Keys are file names already.

    Raises SharedError when more than 1024 processes have it open, OSError as the file
    system does.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Expiries are of the monotonic clock, so a store does not outlive the boot.
        self.root = os.path.join(os.fsencode(path), b"v1-" + boot_id())
        # Not its parents: a runtime directory that has vanished is the arbiter's to make.
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        for part in (b"", b"k", b"b", b"tmp", b"slots"):
            os.makedirs(self._path(part), mode=0o700, exist_ok=True)
        self.pid = os.getpid()
        self._count = 0
        self._places: dict[int, bytes] = {}
        self._heads = LastHeads()
        self._sweep_leftovers()
        self._slot_fd, slot = self._claim_slot()
        # Unique for ever: a slot has one holder, and a pid is used again only after it ended.
        self._unique = b"%x-%x-%x" % (slot, self.pid, time.monotonic_ns())
        self._slot = BUCKETS + slot
        try:
            self._map = self._open_table()
        except BaseException:
            os.close(self._slot_fd)
            raise
        self._table = memoryview(self._map).cast("q")

    def _open_table(self) -> mmap.mmap:
        size = (BUCKETS + _SLOTS) * 8
        fd = os.open(self._path(b"table"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            reserve(fd, size)
            self._identity = os.fstat(fd)
            return mmap.mmap(fd, size)
        finally:
            os.close(fd)

    def is_intact(self) -> bool:
        """Whether the store that was opened is still the one at its path."""
        try:
            return os.path.samestat(self._identity, os.stat(self._path(b"table")))
        except OSError:
            return False

    def abandon(self) -> None:
        """Give the slot back; whoever is just using this goes on until he is done."""
        os.close(self._slot_fd)

    def close(self) -> None:
        """Give the slot back; what was stored stays."""
        self._table.release()
        self._map.close()
        os.close(self._slot_fd)

    # Reading

    def read(self, key: bytes) -> RecordHead:
        """The head of `key` as it is now."""
        head = self._heads.get(key)
        if head and head.name and os.access(b"%b/%b" % head[:2], os.F_OK):
            return head
        head = self._find(key)
        self._heads.saw(key, head)
        return head

    def glance(self, key: bytes) -> RecordHead:
        """The head of `key`, as it is or was a while ago: enough for who will replace it."""
        return self._heads.get(key) or self.read(key)

    def _find(self, key: bytes) -> RecordHead:
        bucket = bucket_of(key)
        while True:
            base = self._place(bucket)
            place = base + b"/" + key
            try:
                return self._look(place)
            except FileNotFoundError:
                if os.access(base, os.F_OK):
                    return RecordHead(place, revision=int(base.rpartition(b"/")[2]))
                del self._places[bucket]

    def value(self, head: RecordHead) -> bytes | None:
        """The value of a live head; None when another revision has taken its place."""
        if (value := head.inline) is not None:
            return value
        try:
            with open(self._blob_path(bucket_of(head.key), head.blob), "rb", buffering=0) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def keys(self, bucket: int, prefix: bytes = b"") -> list[bytes]:
        """The keys in one bucket that begin with `prefix`, dead ones included."""
        while True:
            try:
                return [n for n in os.listdir(self._place(bucket)) if n.startswith(prefix)]
            except FileNotFoundError:
                if self._places.pop(bucket, None) is None:
                    raise

    def scan(self, bucket: int) -> list[RecordHead]:
        """The heads in one bucket, dead ones included; for as long as that takes."""
        return [self._find(key) for key in self.keys(bucket)]

    def stamps(self) -> bytes:
        """Eight bytes for each bucket, other than before when something in it has changed."""
        return self._table[:BUCKETS].tobytes()

    def used(self) -> int:
        """Bytes of memory in use, but for what a process was counting when it was killed."""
        first = sum(self._table[BUCKETS:BUCKETS + _FIRST])
        # Slots are taken from the first on: the rest is nearly always empty, and seen to be so
        # in the twentieth of the time that adding it up takes.
        rest = self._map[(BUCKETS + _FIRST) * 8:]
        return first if rest == _NONE else sum(self._table[BUCKETS:])

    # Writing

    def swap(self, old: RecordHead, value: bytes | None, expires: int = 0) -> int:
        """Put `value` (None: a deletion) in place of `old`; return its revision.

        Returns 0, having changed nothing, when `old` is not the present head any more.
        """
        revision = old.revision + 1
        if value is None:
            return self._commit(old, revision, clock(), DELETED, b"")
        if (held := payload_of(value)) is not None:
            return self._commit(old, revision, expires, *held)
        name, fd = self._write_blob(bucket_of(old.key), value)
        done = 0
        try:
            done = self._commit(old, revision, expires, POINTER, b"%b.%d" % (name, len(value)))
        finally:
            if not done:
                os.unlink(self._blob_path(bucket_of(old.key), name))
            os.close(fd)
        return done

    def overwrite(self, key: bytes, value: bytes, expires: int) -> int:
        """:meth:`swap` for what is usual in a cache: a small value in place of another.

        Returns 0 where it is anything else, or the head that was last seen of `key` is one no more.
        """
        old, held = self._heads.get(key), payload_of(value)
        if old is None or held is None or not old.name or old.kind == POINTER:
            return 0
        place, name, revision = old[0], old[1], old[2] + 1
        fresh = b"%d.%d.%b%b" % (revision, expires, *held)
        try:
            os.rename(place + b"/" + name, place + b"/" + fresh)
        except FileNotFoundError:
            self._heads.lost(key)
            return 0
        self._heads.saw(key, RecordHead(place, fresh, revision, expires, *held))
        self._account(bucket_of(key), 0)
        return revision

    def dead(self, bucket: int, grace: int) -> list[RecordHead]:
        """What in a bucket has been dead for `grace` milliseconds; frees blobs of no head."""
        heads = self.scan(bucket)
        before = clock() - grace
        orphans = self._blobs(bucket) - {head.blob for head in heads}
        if orphans:
            self._sweep_blobs(bucket, orphans)
        return [head for head in heads if not head.name or 0 < head.expires < before]

    def forget(self, bucket: int, dead: list[RecordHead]) -> None:
        """Remove heads that are dead in a bucket, but for those that were written again."""
        base = self._place(bucket)
        home, _, floor = base.rpartition(b"/")
        raised = b"%b/%d" % (home, max(int(floor), *(head.revision for head in dead)))
        self._places.pop(bucket, None)
        try:
            os.rename(base, raised)  # before anything goes: see the rules
        except FileNotFoundError:
            return  # another process is at it
        for head in dead:
            place = raised + b"/" + head.key
            with contextlib.suppress(FileNotFoundError):  # written again meanwhile
                if head.name:
                    os.unlink(place + b"/" + head.name)
                    self._account(bucket, -head.cost)
                    if head.blob:
                        self._unlink_blob(head)
            remove_if_empty(place)

    def scratch(self) -> bytes:
        """A new directory to prepare something in; swept when its process is killed."""
        fresh = b"%b/tmp/%b" % (self.root, self._fresh())
        os.mkdir(fresh, 0o700)
        return fresh

    # Below: paths and pieces

    def _path(self, *parts: bytes) -> bytes:
        return os.path.join(self.root, *parts)

    def _blob_path(self, bucket: int, name: bytes = b"") -> bytes:
        return b"%b/b/%02x/%b" % (self.root, bucket, name)

    def _fresh(self) -> bytes:
        self._count += 1
        return b"%b-%x" % (self._unique, self._count)

    def _place(self, bucket: int) -> bytes:
        """The directory of a bucket, named by its floor; made when first asked for."""
        base = self._places.get(bucket)
        while base is None:
            home = b"%b/k/%02x" % (self.root, bucket)
            names = os.listdir(home) if os.path.exists(home) else []
            if names:
                base = self._places[bucket] = home + b"/" + max(names, key=int)
                break
            fresh = self.scratch()
            try:
                # Microseconds: no key is ever written that often.
                os.mkdir(b"%b/%d" % (fresh, time.monotonic_ns() // 1000), 0o700)
            except BaseException:
                os.rmdir(fresh)
                raise
            move_directory(fresh, home)
        return base

    def _look(self, place: bytes) -> RecordHead:
        names = os.listdir(place)
        if not names:
            return RecordHead(place, revision=int(place.rsplit(b"/", 2)[1]))
        # A listing that meets a rename may show both names: the later one counts.
        return max((parse(place, name) for name in names), key=lambda head: head.revision)

    def _commit(
        self, old: RecordHead, revision: int, expires: int, kind: bytes, payload: bytes
    ) -> int:
        name = b"%d.%d.%b%b" % (revision, expires, kind, payload)
        place, key = old.place, old.key
        if old.name:
            try:
                os.rename(b"%b/%b" % old[:2], b"%b/%b" % (place, name))
            except FileNotFoundError:
                self._heads.lost(key)
                return 0
        elif not self._create(place, name):
            self._heads.lost(key)
            return 0
        head = RecordHead(place, name, revision, expires, kind, payload)
        self._heads.saw(key, head)
        self._account(bucket_of(key), head.cost - old.cost)
        if old.blob:
            self._unlink_blob(old)
        return revision

    def _create(self, place: bytes, name: bytes) -> bool:
        fresh = self.scratch()
        try:
            os.close(os.open(fresh + b"/" + name, os.O_CREAT | os.O_CLOEXEC, 0o600))
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        return move_directory(fresh, place)

    def _account(self, bucket: int, growth: int) -> None:
        if growth:
            self._table[self._slot] += growth
        self._table[bucket] = time.monotonic_ns()

    def _write_blob(self, bucket: int, value: bytes) -> tuple[bytes, int]:
        """Write one blob; return its name and a descriptor that holds its lock."""
        while True:
            name = self._fresh()
            path = self._blob_path(bucket, name)
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                os.makedirs(self._blob_path(bucket), mode=0o700, exist_ok=True)
                continue
            try:
                # Between open and lock a sweeper may have taken it for an orphan.
                if lock(fd) and os.fstat(fd).st_nlink:
                    view = memoryview(value)
                    while view:
                        view = view[os.write(fd, view):]
                    return name, fd
            except BaseException:
                os.unlink(path)
                os.close(fd)
                raise
            os.close(fd)

    def _blobs(self, bucket: int) -> set[bytes]:
        try:
            return set(os.listdir(self._blob_path(bucket)))
        except FileNotFoundError:
            return set()

    def _unlink_blob(self, head: RecordHead) -> None:
        with contextlib.suppress(FileNotFoundError):  # a sweeper saw that it is superseded
            os.unlink(self._blob_path(bucket_of(head.key), head.blob))

    def _sweep_blobs(self, bucket: int, suspects: set[bytes]) -> None:
        """Remove the suspects whose writer has gone, and that no head names after that."""
        held: dict[bytes, int] = {}
        try:
            for name in suspects:
                with contextlib.suppress(FileNotFoundError):
                    fd = os.open(self._blob_path(bucket, name), os.O_RDONLY | os.O_CLOEXEC)
                    if lock(fd):
                        held[name] = fd
                    else:
                        os.close(fd)
            for name in held.keys() - {head.blob for head in self.scan(bucket)}:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._blob_path(bucket, name))
        finally:
            for fd in held.values():
                os.close(fd)

    def _sweep_leftovers(self) -> None:
        for entry in os.scandir(self._path(b"tmp")):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - entry.stat().st_mtime > _LEFTOVER:
                    shutil.rmtree(entry.path)

    def _claim_slot(self) -> tuple[int, int]:
        for slot in range(_SLOTS):
            path = self._path(b"slots", b"%d" % slot)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if lock(fd):
                return fd, slot
            os.close(fd)
        raise SharedError(
            f"shared store {os.fsdecode(self.root)!r}: open in {_SLOTS} processes, "
            "expected fewer"
        )

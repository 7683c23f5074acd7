"""``container.flags``: feature values that operators set for all workers while they serve.

Rules:

- Each worker has a copy of all of them, kept by a watch of ``container.shared``: to read one is to
  look into a dictionary.
- What was set last holds until another is set: while the store is away, and when it comes back
  with nothing in it, where the first worker that notices puts back what it has. A worker that
  starts meanwhile has what the others of its daemon have.
- The store's value goes before that of the configuration (``flags:``), this before the default in
  the code. One that is of another type than the default is passed over, and said once.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from apihour.errors import ConfigurationError, RevisionError, SharedError, SharedFullError
from apihour.ipc.state_files import replace_json
from apihour.ipc.task_end import end_task
from apihour.shared.backend import SharedBackend

__all__ = ["Flag", "Flags", "read_value"]

Value = TypeVar("Value", bool, int, float, str)

PREFIX = "apihour.flags/"
"""What their keys in ``container.shared`` begin with."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LENGTH = 200  # characters of a text
_MOST = 1000  # flags
_AGAIN = 1.0  # seconds before a watch that failed begins again
_TYPES: Mapping[type, str] = {
    bool: "on, off or N%", int: "a whole number", float: "a number", str: "a text"}
_WORDS = {"on": True, "true": True, "off": False, "false": False}
_LOG = logging.getLogger("gunicorn.error")


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag as a worker sees it; `default`: the configuration's, else what the code gave.

    `at`: when it was set, in seconds since the epoch; 0: it was not.
    """

    name: str
    value: Any
    default: Any
    at: float


@dataclass(frozen=True, slots=True)
class _Record:
    """What the store has; the value None: it was taken back."""

    value: Any
    at: float
    revision: int = 0

    @classmethod
    def read(cls, name: str, data: bytes | str, revision: int) -> _Record:
        """Raises ValueError for what is no record."""
        value, at = json.loads(data)
        if value is not None:
            check(name, value)
        return cls(value, float(at), revision)

    def write(self) -> bytes:
        return json.dumps([self.value, self.at]).encode()


class Flags:
    """The flags of one worker. `declared`: ``flags:`` of the configuration.

    `copy`: the file in which the daemon's workers have the last they knew. Raises
    ConfigurationError.
    """

    def __init__(
        self, shared: SharedBackend, declared: Any = None, copy: Path | None = None
    ) -> None:
        self._shared = shared
        self._declared = _read_declared(declared)
        self._copy = copy
        self._values: dict[str, Any] = dict(self._declared)  # what holds, where something does
        self._records: dict[str, _Record] = {}
        self._asked: dict[str, Any] = {}  # the defaults in the code
        self._said: set[str] = set()
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read all, and follow them from now on. A store that is away is tried again, and said."""
        if self._following is not None:
            return
        try:
            await self.look()
        except SharedError as error:
            self._load()
            self._say("", f"flags: {error}; what was known last holds")
        self._following = asyncio.ensure_future(self._follow())

    async def close(self) -> None:
        """Follow no more."""
        if self._following is not None:
            await end_task(self._following)

    def get(self, name: str, default: Value) -> Value:
        """The value of a flag, of the type of `default`; that where it has none.

        Raises SharedError before :meth:`start`, ValueError for what is no name.
        """
        if name not in self._asked:
            self._note(name, default)
        value = self._values.get(name)
        if type(value) is type(default):
            return value
        if value is not None:
            if type(default) is float and type(value) is int:
                return float(value)
            self._pass_over(name, value, default)
        return default

    def enabled(self, name: str, key: object = "", default: bool = False) -> bool:
        """Whether a flag is on: for `key`, where its value is a percentage.

        A key is always on the same side of a percentage, everywhere, and stays on when that grows.
        Raises as :meth:`get`.
        """
        if name not in self._asked:
            self._note(name, default)
        value = self._values.get(name)
        if value is True or value is False:
            return value
        if value is None:
            return default
        share = _percentage(value)
        if share is None:
            self._pass_over(name, value, default)
            return default
        digest = hashlib.blake2b(f"{name}\0{key}".encode(errors="replace"), digest_size=6).digest()
        return int.from_bytes(digest) / 2**48 * 100 < share  # 48 bits: exact, never 100

    @property
    def age(self) -> float:
        """Seconds since the store was last heard of; beyond 15 it is away, or cut off."""
        heard: float | None = getattr(self._shared, "heard", None)
        return 0.0 if heard is None else time.monotonic() - heard

    def all(self) -> list[Flag]:
        """All that are declared, set, or were asked for in this worker, by name."""
        names = sorted({*self._declared, *self._asked, *self._values})
        return [self.state(name) for name in names]

    def state(self, name: str) -> Flag:
        """One of them."""
        default = self._declared.get(name, self._asked.get(name))
        record = self._records.get(name)
        at = record.at if record is not None and record.value is not None else 0.0
        return Flag(name, self._values.get(name, default), default, at)

    def read(self, name: str, word: str) -> bool | int | float | str:
        """What `word`, typed for a flag, means. Raises ValueError for another type than it has."""
        now = self.state(name)
        return read_value(name, word, now.value if now.default is None else now.default)

    async def put(self, name: str, value: bool | int | float | str) -> None:
        """Set a flag for all workers. Raises ValueError for what cannot be one, SharedError."""
        _check_name(name)
        check(name, value)
        await self._store(name, value)

    async def reset(self, name: str) -> None:
        """Take back what was set. Raises ValueError for what is no name, SharedError."""
        _check_name(name)
        await self._store(name, None)  # by a record, for one that is gone was lost

    async def look(self) -> None:
        """Compare with the store now. Raises SharedError."""
        self._load()
        entries = await self._shared.items(PREFIX)
        for entry in entries:
            self._see(entry.key, entry.value, entry.revision)
        there = {entry.key.removeprefix(PREFIX) for entry in entries}
        for name in self._records.keys() - there:
            await self._put_back(name)
        self._save()

    # -- following ---------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            try:
                await self.look()
                async for change in self._shared.watch(PREFIX):
                    if change.value is None:
                        await self._put_back(change.key.removeprefix(PREFIX))
                    elif self._see(change.key, change.value, change.revision):
                        self._save()
            except SharedError as error:
                self._say("", f"flags: {error}; what was known last holds")
            await asyncio.sleep(_AGAIN)

    async def _store(self, name: str, value: Any) -> None:
        if len(self._records.keys() | {name}) > _MOST:
            raise SharedFullError(f"flag {name!r}: there are {_MOST} already")
        data = _Record(value, round(time.time(), 3)).write()
        revision = await self._shared.put(PREFIX + name, data)
        self._see(PREFIX + name, data, revision)
        self._save()

    async def _put_back(self, name: str) -> None:
        """The store has lost one: by whoever is first it has it again."""
        record = self._records.get(name)
        if record is None:
            return
        self._records[name] = _Record(record.value, record.at)
        try:
            await self._shared.put(PREFIX + name, record.write(), expected_revision=0)
        except RevisionError:
            pass  # another was first; the watch tells

    def _see(self, key: str, data: bytes | str, revision: int) -> bool:
        """Take over what the store has, unless it is known; returns whether it was not."""
        name = key.removeprefix(PREFIX)
        known = self._records.get(name)
        if known is not None and known.revision >= revision:
            return False
        try:
            _check_name(name)
            record = _Record.read(name, data, revision)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            self._say(key, f"flags: shared key {key!r}: {error}; it is passed over")
            return False
        if known is None and len(self._records) >= _MOST:
            self._say("most", f"flags: more than {_MOST}; {name!r} is passed over")
            return False
        self._records[name] = record
        holds = self._declared.get(name) if record.value is None else record.value
        if holds is None:
            self._values.pop(name, None)
        else:
            self._values[name] = holds
        self._said.discard(name)
        return True

    # -- the copy of the daemon --------------------------------------------------------------

    def _load(self) -> None:
        """Take over what another worker knew, where nothing is known yet."""
        if self._copy is None or self._records:
            return
        try:
            with self._copy.open(encoding="utf-8") as file:
                found = json.load(file)
            for name, record in found.items():
                self._see(PREFIX + name, json.dumps(record), 0)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, AttributeError) as error:
            self._say("copy", f"flags: {str(self._copy)!r}: {error}; it is passed over")

    def _save(self) -> None:
        if self._copy is None:
            return
        try:
            replace_json(self._copy, {name: [record.value, record.at]
                                      for name, record in self._records.items()})
        except OSError as error:
            self._say("copy", f"flags: {str(self._copy)!r}: {error.strerror}; a worker that starts "
                              "while the store is away knows none")

    # -- what is said ------------------------------------------------------------------------

    def _note(self, name: str, default: Any) -> None:
        """A flag is asked for, for the first time here."""
        if self._following is None:
            raise SharedError(f"flag {name!r}: none was read yet; expected "
                              "`await container.flags.start()` in start()")
        _check_name(name)
        if type(default) not in _TYPES:
            raise ValueError(f"flag {name!r}: default {default!r:.40}; expected a bool, int, "
                             "float or str")
        if len(self._asked) < _MOST:
            self._asked[name] = default

    def _pass_over(self, name: str, value: Any, default: Any) -> None:
        if name not in self._said:
            self._say(name, f"flag {name!r}: {value!r}; expected {_TYPES[type(default)]}, "
                            f"{default!r} holds")

    def _say(self, what: str, text: str) -> None:
        """Log it, once for each flag and value."""
        if what not in self._said and len(self._said) < 2 * _MOST:
            self._said.add(what)
            _LOG.warning("%s", text)


def read_value(name: str, word: str, like: Any) -> bool | int | float | str:
    """What `word`, typed for a flag, means: of the type of `like`; None: whatever it looks as.

    Raises ValueError naming what was expected.
    """
    kind = type(like) if _percentage(like) is None else bool
    if kind is str:
        return word
    if kind in (bool, type(None)) and (word in _WORDS or _percentage(word) is not None):
        return _WORDS.get(word, word)
    numbers = (int, float) if like is None else (kind,) if kind in (int, float) else ()
    for number in numbers:
        try:
            return number(word)
        except ValueError:
            pass
    if like is None:
        return word
    raise ValueError(f"flag {name!r}: {word!r:.60}; expected {_TYPES[kind]}, as {like!r:.40}")


def check(name: str, value: object) -> None:
    """Raises ValueError for what cannot be the value of a flag."""
    fits = (len(value) <= _LENGTH if isinstance(value, str) else
            type(value) in _TYPES and abs(value) < 2**63)  # type: ignore[arg-type]
    if not fits:
        raise ValueError(f"flag {name!r}: {value!r:.60}; expected on, off, a number below 2^63, or "
                         f"a text of at most {_LENGTH} characters")


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"flag {name!r:.80}; expected at most 64 letters, digits, _, . and -")


@functools.lru_cache(maxsize=_MOST)
def _percentage(value: Any) -> float | None:
    """The number of ``12.5%``; None for all else."""
    if type(value) is str and re.fullmatch(r"\d{1,3}(\.\d{1,6})?%", value, re.ASCII):
        share = float(value[:-1])
        return share if share <= 100 else None
    return None


def _read_declared(declared: Any) -> dict[str, Any]:
    if declared is None:
        return {}
    if not isinstance(declared, Mapping):
        raise ConfigurationError(f"flags: {declared!r:.80}; expected a mapping of names to values")
    try:
        for name, value in declared.items():
            _check_name(name)
            check(name, value)
    except ValueError as error:
        raise ConfigurationError(f"flags: {error}") from error
    return dict(declared)

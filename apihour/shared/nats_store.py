"""``container.shared`` in NATS's key-value store (JetStream), by nats-py.

A key is a subject of the bucket's stream, its value the last message there, its revision that
message's sequence, which starts at the clock's microseconds: a bucket that is made again goes
on above what it ever said. Source: NATS's ADR-8, and ADR-43 for times to live.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from typing import Any

from apihour.bus.jetstream import is_passing
from apihour.bus.nats_address import NATSAddress
from apihour.bus.nats_connection import NATSConnection, NATSDownError
from apihour.errors import (
    ConfigurationError,
    RevisionError,
    SharedDownError,
    SharedError,
    SharedFullError,
)
from apihour.shared.backend import Attempts, Change, Entry, check_key, check_value
from apihour.shared.nats_subjects import decode, encode
from apihour.shared.nats_writes import WRITE, is_behind, is_refusal, is_removal, lasting
from apihour.shared.newest import Newest
from apihour.shared.remote import News, RemoteShared

__all__ = ["NATSShared"]

_TOMBSTONE = 600  # seconds that a removal can be seen by a watch that was away
_LOOK = 5.0  # seconds between two looks of a watch whether NATS still knows it
_RETRY = 0.2  # seconds between two attempts of a watch to come back
_MAKING = 0.05  # seconds until a stream is looked for again that a cluster is making
_OLD = 0.05  # seconds until a leader that was cut off is asked again
_NO_MESSAGE = 10037  # of that subject
_IN_USE = 10058  # a stream of that name, with another configuration
_FULL = (10047, 10077)  # no storage left, the stream's max_bytes


class NATSShared(RemoteShared):
    """The store in `bucket`, which is made, in `replicas` copies, where there is none."""

    def __init__(
        self, path: str | os.PathLike[str], address: NATSAddress, *, bucket: str = "apihour",
        replicas: int = 1, deadline: float = 1.0,
    ) -> None:
        super().__init__(path, deadline)
        if not isinstance(bucket, str) or re.fullmatch(r"[A-Za-z0-9_-]{1,60}", bucket) is None:
            raise ValueError(f"bucket: {bucket!r}; expected letters, digits, _ and -")
        if replicas not in (1, 3, 5):
            raise ValueError(f"replicas: {replicas!r}; expected 1, 3 or 5")
        self.where = f"shared store {address}"
        self._connection = NATSConnection("shared", address, "apihour-shared", self._came_again)
        self._errors = importlib.import_module("nats.js.errors")
        self._api = importlib.import_module("nats.js.api")
        nats = self._connection.errors
        self.down = (nats.Error, NATSDownError, OSError)
        self._stream = f"KV_{bucket}"
        self._subject = f"$KV.{bucket}."
        self._replicas = replicas
        self._longest = deadline * 1.1  # other writers won until the deadline: that is said first
        self._newest = Newest()
        self._is_ready = False
        self._again = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()

    async def open(self, seconds: float = 2.0) -> None:
        """See :class:`RemoteShared`."""
        self.check_open()
        js = await self._jetstream(seconds)
        try:
            info = await self.within(self._find(js), seconds)
        except SharedDownError as error:
            cause = error.__cause__
            if isinstance(cause, self._errors.APIError) and not is_passing(cause):
                raise ConfigurationError(
                    f"{self.where}: {cause}; expected a NATS with JetStream, from 2.11 on, that "
                    f"has or may make the stream {self._stream}") from cause
            raise
        config = info.config
        if (not config.allow_msg_ttl or not config.subject_delete_marker_ttl
                or config.max_msgs_per_subject != 1):
            raise ConfigurationError(
                f"{self.where}: stream {self._stream} has no times to live, or a history; expected "
                "one with allow_msg_ttl, subject_delete_marker_ttl and max_msgs_per_subject 1, by "
                "NATS 2.11 or later")
        self._is_ready = True

    def has_answered(self, error: Exception) -> bool:
        """See :class:`RemoteShared`."""
        return isinstance(error, self._errors.APIError) and not is_passing(error)

    async def _find(self, js: Any) -> Any:
        """The stream, made where there is none; another worker may be making it at this moment."""
        api = self._api
        while True:
            try:
                return await js.stream_info(self._stream)
            except self._errors.NotFoundError:
                pass
            try:
                return await js.add_stream(api.StreamConfig(
                    name=self._stream, subjects=[f"{self._subject}>"], max_msgs_per_subject=1,
                    discard=api.DiscardPolicy.NEW, allow_rollup_hdrs=True, deny_delete=True,
                    allow_msg_ttl=True, subject_delete_marker_ttl=_TOMBSTONE,
                    num_replicas=self._replicas, first_seq=time.time_ns() // 1000))
            except self._errors.BadRequestError as error:
                if error.err_code != _IN_USE:
                    raise
            await asyncio.sleep(_MAKING)

    async def _jetstream(self, seconds: float = 0.0) -> Any:
        limit = seconds or self.deadline
        client = await self.within(self._connection.client(None), limit, proves=False)
        return client.jetstream(timeout=limit)

    async def _ready(self) -> Any:
        self.check_open()
        if not self._is_ready:
            try:
                await self.open(self.deadline)
            except ConfigurationError as error:  # it was away at the start
                raise SharedError(str(error)) from error
        return await self._jetstream()

    # -- for the application ---------------------------------------------------------------

    async def get(self, key: str) -> Entry | None:
        """See :meth:`SharedBackend.get`: as the stream's leader has it.

        One that was cut off from the others answers for some seconds more, with what it had;
        never with less than this worker has seen of the key.
        """
        check_key(key)
        return await self.within(self._get(key))

    async def _get(self, key: str) -> Entry | None:
        revision, value, _ = await self._last(await self._ready(), key)
        return Entry(key, value, revision) if value is not None else None

    async def put(
        self, key: str, value: bytes, expected_revision: int | None = None,
        ttl: float | None = None,
    ) -> int:
        """See :meth:`SharedBackend.put`; `ttl` in whole seconds, rounded up."""
        check_key(key)
        check_value(key, value)
        return await self.within(
            self._put(key, value, lasting(key, ttl), expected_revision), self._longest)

    async def _put(
        self, key: str, value: bytes, headers: dict[str, str], expected: int | None
    ) -> int:
        js = await self._ready()
        if expected is None:
            return await self._publish(js, key, value, headers)
        return await self._swap(js, key, value, headers, expected)

    async def delete(self, key: str, expected_revision: int | None = None) -> bool:
        """See :meth:`SharedBackend.delete`."""
        check_key(key)
        return await self.within(self._delete(key, expected_revision), self._longest)

    async def _delete(self, key: str, expected_revision: int | None) -> bool:
        js = await self._ready()
        headers = {"KV-Operation": "DEL", "Nats-TTL": f"{_TOMBSTONE}s"}
        attempts = Attempts(key, self.deadline)
        while True:
            revision, value, _ = await self._last(js, key)
            actual = revision if value is not None else 0
            if expected_revision is not None and expected_revision != actual:
                raise RevisionError(key, expected_revision, actual)
            if value is None:
                return False
            try:
                await self._swap(js, key, b"", headers, actual)
            except RevisionError:
                await attempts.failed()
            else:
                return True

    async def items(self, prefix: str = "") -> list[Entry]:
        """See :meth:`SharedBackend.items`."""
        check_key(prefix, prefix=True)
        return await self.within(self._items(prefix))

    async def _items(self, prefix: str) -> list[Entry]:
        js = await self._ready()
        done: asyncio.Future[list[Entry]] = asyncio.get_running_loop().create_future()
        heard: set[str] = set()
        subscription = await self._listen(js, prefix, done.set_result, heard=heard)
        try:
            info = await self.within(js.stream_info(self._stream, self._subjects(prefix)))
            entries = await self.within(done)
        finally:
            self._leave_soon(js, subscription)
        # What is written again while NATS walks the subjects may be in no place that it looks at.
        for subject in info.state.subjects or ():
            key = self._key(subject)
            if key is not None and key.startswith(prefix) and key not in heard:
                entries += [entry] if (entry := await self._get(key)) is not None else []
        return sorted(entries, key=lambda entry: entry.key.encode())

    def watch(self, prefix: str = "") -> AsyncIterator[Change]:
        """See :meth:`SharedBackend.watch`. Sees a change when NATS has told of it."""
        check_key(prefix, prefix=True)
        return self.tell(lambda news: self._follow(prefix, news))

    async def let_go(self) -> None:
        """See :class:`RemoteShared`."""
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self._connection.close()

    # -- calls -----------------------------------------------------------------------------

    async def _last(self, js: Any, key: str) -> tuple[int, bytes | None, str]:
        """Revision, value and write of the last message of a key; None: it says that it is removed.

        Asks again, as long as there is time, when the answer is older than what was seen.
        """
        while True:
            found = await self._answered(js, key)
            if self._newest.see(key, found[0]):
                return found
            await asyncio.sleep(_OLD)

    async def _answered(self, js: Any, key: str) -> tuple[int, bytes | None, str]:
        try:
            found = await self.within(js.get_last_msg(self._stream, self._subject + encode(key)))
        except SharedDownError as error:
            if getattr(error.__cause__, "err_code", 0) == _NO_MESSAGE:
                return 0, None, ""  # no stream is another answer: of who lags behind, or lost it
            raise
        value = None if is_removal(found.headers) else found.data or b""
        return found.seq, value, (found.headers or {}).get(WRITE, "")

    async def _swap(
        self, js: Any, key: str, value: bytes, headers: dict[str, str], expected: int
    ) -> int:
        """Publish if the present revision is `expected` (0: none). Raises RevisionError.

        A leader that was cut off answers for a while beside the new one, and refuses by what it
        had: then the new one has taken it, or another's in its place, which may be over it already.
        """
        sequence, attempts, is_doubtful = expected, Attempts(key, self.deadline), False
        headers = {**headers, WRITE: os.urandom(8).hex()}
        while True:
            try:
                return await self._publish(js, key, value, {
                    **headers, "Nats-Expected-Last-Subject-Sequence": str(sequence)})
            except SharedDownError as error:
                refusal = error.__cause__
                if not is_refusal(refusal):
                    raise
            revision, found, write = await self._last(js, key)
            if write == headers[WRITE]:
                return revision
            is_doubtful = is_doubtful or is_behind(refusal, sequence)
            if revision > sequence and is_doubtful:
                raise SharedDownError(f"{self.where}: refused by a server that was cut off: "
                                      "it may have been done or not")
            if found is not None and revision != expected:
                raise RevisionError(key, expected, revision)
            if found is None and expected:
                raise RevisionError(key, expected, 0)
            sequence = revision  # of what says that it was removed
            await attempts.failed()

    async def _publish(
        self, js: Any, key: str, value: bytes, headers: dict[str, str]
    ) -> int:
        sent = js.publish(self._subject + encode(key), value, headers=headers or None)
        try:
            revision: int = (await self.within(sent)).seq
        except SharedDownError as error:
            if getattr(error.__cause__, "err_code", 0) in _FULL:
                raise SharedFullError(f"shared key {key!r}: {error}") from error
            raise
        self._newest.see(key, revision)
        return revision

    # -- watching --------------------------------------------------------------------------

    async def _listen(
        self, js: Any, prefix: str, first: Callable[[list[Entry]], None],
        then: Callable[[str, bytes | None, int], None] = lambda key, value, revision: None,
        heard: set[str] | None = None,
    ) -> tuple[Any, str]:
        """Subscribe: `first` gets all that there is, `then` each change, `heard` the first keys.

        Returns the subscription, and what NATS calls it.
        """
        found: dict[str, Entry] | None = {}

        async def hear(msg: Any) -> None:
            nonlocal found
            key = self._key(msg.subject)
            value = None if is_removal(msg.headers) else msg.data
            revision = msg.metadata.sequence.stream
            if key is not None and key.startswith(prefix):
                if found is None:
                    then(key, value, revision)
                    return
                if heard is not None:
                    heard.add(key)
                found.pop(key, None)  # as it was before it was written again
                if value is not None:
                    found[key] = Entry(key, value, revision)
            if found is not None and not msg.metadata.num_pending:
                whole, found = found, None
                first(list(whole.values()))

        subscription = await self.within(js.subscribe(
            self._subjects(prefix), stream=self._stream, cb=hear, ordered_consumer=True,
            config=self._api.ConsumerConfig(
                deliver_policy=self._api.DeliverPolicy.LAST_PER_SUBJECT)))
        info = await self._info(js, subscription)
        if found is not None and not info.num_pending and not info.delivered.consumer_seq:
            found = None
            first([])
        return subscription, info.name

    async def _info(self, js: Any, subscription: Any) -> Any:
        """What NATS says of a subscription, which is ended where it says nothing."""
        try:
            return await self.within(subscription.consumer_info())
        except BaseException:
            self._leave_soon(js, (subscription, ""))
            raise

    def _subjects(self, prefix: str) -> str:
        head, slash, _ = prefix.rpartition("/")
        return f"{self._subject}{encode(head)}.>" if slash else f"{self._subject}>"

    def _key(self, subject: str) -> str | None:
        try:
            return decode(subject.removeprefix(self._subject))
        except ValueError:
            return None  # another program's

    async def _follow(self, prefix: str, news: News) -> None:
        """Tell `news` of everything, for ever, through every loss of the connection."""
        said = ""
        while True:
            subscription = None
            self._again.clear()
            try:
                js = await self._ready()
                subscription = await self._listen(js, prefix, news.see_all, news.see)
                while not self._again.is_set():
                    try:
                        async with asyncio.timeout(_LOOK):
                            await self._again.wait()
                    except TimeoutError:
                        await self.within(subscription[0].consumer_info())
            except SharedError as error:
                if not isinstance(error, SharedDownError) and str(error) != said:
                    said = str(error)  # that it is away is said by whoever asked
                    logging.getLogger("gunicorn.error").warning("%s", said)
                await asyncio.sleep(_RETRY)
            finally:
                if subscription is not None:
                    await self._leave(js, subscription)

    def _leave_soon(self, js: Any, subscription: tuple[Any, str]) -> None:
        """Leave, in time of its own: that of the call may have passed."""
        task = asyncio.get_running_loop().create_task(
            self._leave(js, subscription), context=Context())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _leave(self, js: Any, subscription: tuple[Any, str]) -> None:
        try:
            await self.within(subscription[0].unsubscribe(), proves=False)  # which is only written
            if subscription[1]:
                await self.within(js.delete_consumer(self._stream, subscription[1]))
        except SharedDownError:
            pass  # NATS forgets it by itself

    def _came_again(self, seconds: float) -> None:
        self._again.set()

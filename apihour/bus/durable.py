"""What must not be lost: NATS's JetStream, which stores messages until each is acknowledged.

Rules:

- A message is sent again until JetStream has it, under one id, so that it is stored once.
- A subscription has a name: its place in the stream is kept there by NATS, for all who iterate
  under it. What was taken and not acknowledged comes again, here or to another.
- One whose place, or whose stream, an operator has deleted ends with an error: to make it again by
  itself would deliver, from the beginning, what was acknowledged long ago.
- A cluster without a leader is waited for, by who subscribes; who publishes has his time.
- Streams are the operator's to make: how many copies, how long, how much.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from apihour.bus.jetstream import is_passing
from apihour.bus.mailbox import Entered
from apihour.bus.messages import BusMessage
from apihour.errors import BusDownError, BusError, BusTimeoutError

__all__ = ["DurableMessage", "DurableSubscription", "publish_durable"]

PATIENCE = 10.0  # seconds until a message must be stored
_TRY = 2.0  # seconds of one attempt
_WAIT = 2.0  # seconds of one request for more
_BATCH = 16  # messages taken ahead
_AGAIN = 0.1  # seconds between two attempts to store
_LOOK = 1.0  # seconds to see whether there is a stream
_RETRY = 0.25  # seconds between two attempts to begin


class DurableMessage(BusMessage):
    """One message of a stream; `deliveries` counts how often it was delivered, this time too."""

    __slots__ = ("_msg", "deliveries")

    def __init__(self, msg: Any) -> None:
        super().__init__(msg.subject, msg.data)
        self._msg = msg
        self.deliveries: int = msg.metadata.num_delivered

    async def ack(self) -> None:
        """It is done: never again. Returns when NATS knows. Raises BusError."""
        from nats.errors import Error

        try:
            await self._msg.ack_sync(timeout=PATIENCE)
        except (Error, OSError, TimeoutError) as error:
            raise BusError(f"subject {self.subject!r}: not acknowledged ({error!r}); it will come "
                           "again") from error


class DurableSubscription(Entered):
    """The messages of a stream that match, under a name; each has to be acknowledged."""

    def __init__(
        self, client: Callable[[float | None], Awaitable[Any]], others: set[DurableSubscription],
        pattern: str, name: str,
    ) -> None:
        if not name:
            raise BusError(f"pattern {pattern!r}: durable=True needs queue=NAME: what NATS keeps "
                           "the place in the stream under")
        self.pattern = pattern
        self.name = name
        self._client = client
        self._others = others
        self._source: Any = None
        self._stream = ""
        self._taken: list[Any] = []
        self._ending = asyncio.Event()

    def __aiter__(self) -> DurableSubscription:
        return self

    async def __anext__(self) -> DurableMessage:
        if self._source is None and not self._ending.is_set():
            await self._begin()
        while not self._taken:
            if self._ending.is_set():
                await self.close()
                raise StopAsyncIteration
            await self._take()
        if self._ending.is_set():
            await self._give_back()
            return await self.__anext__()
        return DurableMessage(self._taken.pop(0))

    async def _begin(self) -> None:
        self._others.add(self)
        is_said = False
        while not self._ending.is_set() and (error := await self._try()) is not None:
            if not is_said and not isinstance(error, BusDownError):  # which NATS's own line says
                is_said = True
                logging.getLogger("gunicorn.error").warning(
                    "bus: %s: durable %r waits for JetStream: %s", self.pattern, self.name, error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY):
                    await self._ending.wait()

    async def _try(self) -> Exception | None:
        """Begin; returns what is in the way for now. Raises BusError for what stays so."""
        from nats.js.errors import NotFoundError

        try:
            client = await self._client(_LOOK)
        except BusDownError as error:
            return error
        js = client.jetstream(timeout=_TRY)
        try:
            self._stream = await js.find_stream_name_by_subject(self.pattern)
            self._source = await js.pull_subscribe(
                self.pattern, durable=self.name, stream=self._stream)
        except NotFoundError:
            raise BusError(_no_stream("pattern", self.pattern)) from None
        except (client_errors(), OSError, TimeoutError) as error:
            if is_passing(error):
                failure: Exception = error
                return failure
            raise BusError(f"pattern {self.pattern!r}: durable {self.name!r}: {error}") from error
        return None

    async def _take(self) -> None:
        """Wait for more, until there is some or the end. Raises BusError."""
        fetching = asyncio.ensure_future(self._source.fetch(_BATCH, timeout=_WAIT))
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait({fetching, ending}, return_when=asyncio.FIRST_COMPLETED)
            if fetching.done():
                self._taken = list(fetching.result())
        except (OSError, TimeoutError):  # nothing there, or NATS is away
            await asyncio.sleep(0.05)
        except client_errors():  # nobody answers for it: for now, or for good
            await self._look()
            await asyncio.sleep(0.05)
        finally:
            for task in (fetching, ending):
                task.cancel()
            await asyncio.wait({fetching, ending})

    async def _look(self) -> None:
        """Raises BusError when its place in the stream is gone, as two in a row say."""
        from nats.js.errors import NotFoundError

        for _ in range(2):
            try:
                client = await self._client(_LOOK)
                await client.jetstream(timeout=_LOOK).consumer_info(self._stream, self.name)
                return
            except NotFoundError as error:
                gone = error
            except (BusDownError, client_errors(), OSError, TimeoutError):
                return  # as little is known of it
            await asyncio.sleep(_AGAIN)
        self._others.discard(self)
        raise BusError(
            f"pattern {self.pattern!r}: durable {self.name!r}: deleted from JetStream while it was "
            f"iterated over (stream {self._stream!r}: {gone.description}); subscribe again to "
            "begin at the start of the stream")

    def end(self) -> None:
        """Take no more; the loop ends."""
        self._ending.set()

    async def close(self) -> None:
        """Take no more, and give back what nobody has seen."""
        self._ending.set()
        self._others.discard(self)
        await self._give_back()
        source, self._source = self._source, None
        if source is not None:
            with contextlib.suppress(client_errors(), OSError):  # its connection has ended
                await source.unsubscribe()

    async def _give_back(self) -> None:
        taken, self._taken = self._taken, []
        for msg in taken:
            try:
                await msg.nak()
            except (client_errors(), OSError):  # it comes again by itself, after its time
                return


async def publish_durable(client: Any, subject: str, data: bytes) -> None:
    """Store one message.

    Raises BusTimeoutError when it is not known whether it is stored, BusDownError when it is not
    because nobody answers for its stream, BusError when there is none, or when it refuses.
    """
    from nats.js.errors import APIError, NoStreamResponseError

    headers = {"Nats-Msg-Id": os.urandom(12).hex()}
    clock = asyncio.get_running_loop().time
    end, is_known = clock() + PATIENCE, True
    while True:
        try:
            limit = min(_TRY, max(0.1, end - clock()))
            await client.jetstream(timeout=limit).publish(subject, data, headers=headers)
            return
        except (client_errors(), OSError, TimeoutError) as error:
            if isinstance(error, APIError) and not is_passing(error):
                raise BusError(f"subject {subject!r}: JetStream: {error}") from error
            failure: Exception = error
            is_known = is_known and isinstance(error, NoStreamResponseError)
        if clock() + _AGAIN >= end:
            break
        await asyncio.sleep(_AGAIN)
    if is_known:
        raise await _unanswered(client, subject)
    raise BusTimeoutError(f"subject {subject!r}: not stored within {PATIENCE:g} s, or not known "
                          f"to be: {failure!r}") from failure


async def _unanswered(client: Any, subject: str) -> BusError:
    """Why nobody has answered: there is no stream, or none of its servers can be reached."""
    from nats.js.errors import NotFoundError

    try:
        await client.jetstream(timeout=_LOOK).find_stream_name_by_subject(subject)
    except NotFoundError:
        return BusError(_no_stream("subject", subject))
    except (client_errors(), OSError, TimeoutError):
        pass  # as little is known of the stream
    return BusDownError(f"subject {subject!r}: not stored: nobody has answered for its stream "
                        f"within {PATIENCE:g} s; its servers cannot be reached, or have no leader")


def client_errors() -> Any:
    """What nats-py raises."""
    from nats.errors import Error

    return Error


def _no_stream(what: str, subject: str) -> str:
    return (f"{what} {subject!r}: no stream of JetStream has it; expected one: nats stream add "
            f"NAME --subjects '{subject}'")

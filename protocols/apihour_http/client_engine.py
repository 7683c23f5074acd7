"""HTTPClient: what a worker asks others by, as an engine: a session of aiohttp on aiodns.

Rules:

- It has the host's shape of an engine without importing the host.
- Of a URL only scheme, host, port and path are shown; headers never.
- aiohttp is imported when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Self
from urllib.parse import urlsplit

__all__ = ["HTTPClient"]

_LOOK = 5.0  # seconds between two looks whether it answers, and for its answer
_LATELY = 300.0  # seconds that the slowest request is remembered
_OPTIONS = ("url", "max", "timeout", "headers", "health", "at_start", "session")


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 86400


class HTTPClient:
    """A client of the service at `url`, or of any: what is given is an ``aiohttp.ClientSession``.

    Paths are asked of `url`. ``max`` (100) is how many connections this worker has, ``timeout``
    (30) the seconds of a request as a whole, ``headers`` what all of them have. With ``health`` a
    worker is not ready while GET `url` is not answered, or by a 5xx; ``at_start`` says whether it
    then fails (``fail``) or goes on (``retry``). ``session`` has what ClientSession takes beside.
    Raises ValueError for an option that is unknown or out of range.
    """

    kind = "http"
    schemes = ("http", "https")

    def __init__(self, url: str = "", **options: Any) -> None:
        self.given = {"url": url, **options}
        for name in self.given:
            if name not in _OPTIONS:
                raise ValueError(f"option {name!r}: expected one of {', '.join(_OPTIONS)}")
        self.max = options.get("max", 100)
        self.timeout = options.get("timeout", 30.0)
        self.health = options.get("health", False)
        self.name = ""
        self.up = True
        self.session: Any = None
        self._busy = self._waiting = self._errors = 0
        self._slowest = (0.0, "", 0.0)
        self._keeper: asyncio.Task[None] | None = None
        self._logger: Any = None
        self._check()
        self.address = self._place()

    def _check(self) -> None:
        given = self.given
        for name, is_good, expected in (
            ("max", type(self.max) is int and self.max >= 1, "a whole number from 1 on"),
            ("timeout", _is_seconds(self.timeout), "seconds above 0"),
            ("health", isinstance(self.health, bool), "true or false"),
            ("headers", isinstance(given.get("headers", {}), Mapping), "a mapping"),
            ("session", isinstance(given.get("session", {}), Mapping), "a mapping"),
            ("at_start", given.get("at_start", "fail") in ("fail", "retry"), "fail or retry"),
        ):
            if not is_good:
                raise ValueError(f"{name}: expected {expected}")
        if self.health and not given["url"]:
            raise ValueError("health: expected a url to ask")

    def _place(self) -> str:
        url = self.given["url"]
        try:
            parts = urlsplit(url)
            if url and (parts.scheme not in self.schemes or not parts.hostname):
                raise ValueError
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            raise ValueError("url: expected http://HOST/PATH or https://HOST/PATH") from None
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{port}{parts.path}" if url else ""

    def __repr__(self) -> str:
        return f"<HTTPClient {self.name} {self.address}>"

    def examine(self) -> str:
        """Its address; what it needs is there. Raises ImportError naming what is not."""
        self._library()
        return self.address

    def _library(self) -> Any:
        try:
            importlib.import_module("aiodns")
            return importlib.import_module("aiohttp")
        except ImportError as error:
            raise ImportError(f"engine {self.name!r}: {error}; pip install aiohttp aiodns"
                              ) from error

    def configured(self, options: Mapping[str, Any]) -> Self:
        """The same with these options in the place of those it has. Raises ValueError."""
        return type(self)(**{**self.given, **options})

    # -- its life

    async def start(self, context: Any) -> None:
        """Make the session. Raises ConnectionError when it is to answer, and does not; ValueError
        for what ClientSession does not take."""
        self.name, self._logger = context.name, context.logger
        given = self.given
        self.session = self._make_session(context)
        if self.health:
            problem = await self._problem()
            if problem and given.get("at_start", "fail") == "fail":
                await self.close()
                raise ConnectionError(f"engine {self.name!r} (http at {self.address}): {problem}")
            self._tell(problem)
            self._keeper = asyncio.get_running_loop().create_task(self._keep())

    def _make_session(self, context: Any) -> Any:
        library, given = self._library(), self.given
        config = getattr(context.container, "config", None) or {}
        connector = library.TCPConnector(
            limit=self.max, resolver=library.AsyncResolver(**(config.get("resolver") or {})))
        try:
            return library.ClientSession(**{
                "base_url": self._base(), "headers": given.get("headers"), "connector": connector,
                "timeout": library.ClientTimeout(total=self.timeout),
                "trace_configs": self._watchers(
                    library, getattr(context.container, "tracer", None)),
                **given.get("session", {})})
        except (TypeError, ValueError) as error:
            raise ValueError(f"engine {self.name!r} (http at {self.address}): session: {error}"
                             ) from None

    def _base(self) -> str | None:
        """What paths are asked below: ``/v1`` is a directory as ``/v1/`` is."""
        parts = urlsplit(self.given["url"])
        path = f"{parts.path.rstrip('/')}/"
        return f"{parts.scheme}://{parts.netloc}{path}" if parts.scheme else None

    async def close(self) -> None:
        """Close the session and its connections."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        if self.session is not None:
            await self.session.close()
            self.session = None

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            self._tell(await self._problem())

    async def _problem(self) -> str:
        """Why it does not answer; empty when it does."""
        try:
            async with asyncio.timeout(_LOOK), self.session.get(self.given["url"]) as answer:
                return f"answered {answer.status}" if answer.status >= 500 else ""
        except TimeoutError:
            return f"no answer within {_LOOK:g} s"
        except Exception as error:
            return f"{type(error).__name__}: {error}".replace(self.given["url"], self.address)

    def _tell(self, problem: str) -> None:
        was_up, self.up = self.up, not problem
        if was_up and problem:
            self._logger.error("engine %r (http at %s) is down: %s; trying again", self.name,
                               self.address, problem,
                               extra={"apihour_event": f"engine {self.name} down"})
        elif self.up and not was_up:
            self._logger.info("engine %r (http at %s) is back", self.name, self.address,
                              extra={"apihour_event": f"engine {self.name} up"})

    # -- what it is for

    def user(self, wanted: Any) -> Callable[[], AbstractAsyncContextManager[Any]]:
        """What gives the session to a request. Raises ValueError for a transaction."""
        if wanted.transaction:
            raise ValueError("Transaction: expected Resource()")
        return lambda: nullcontext(self.session)

    def statistics(self) -> dict[str, Any]:
        """Requests under way, those that wait for a connection, failures, the slowest lately."""
        seconds, what, at = self._slowest
        busy = self._busy - self._waiting
        is_late = time.monotonic() - at > _LATELY
        return {"kind": self.kind, "address": self.address, "up": self.up, "max": self.max,
                "size": busy, "busy": busy, "waiting": self._waiting,
                "errors": self._errors, "slowest": 0.0 if is_late else seconds,
                "slowest_query": "" if is_late else what}

    def _watchers(self, library: Any, tracer: Any) -> list[Any]:
        if tracer is None:
            return [self._counted(library)]
        from apihour_http.client_spans import spanned_requests

        return [self._counted(library), spanned_requests(library, tracer)]

    def _counted(self, library: Any) -> Any:
        """What counts requests: nothing of them but method, host and path is kept."""
        found = library.TraceConfig()

        async def begin(session: Any, request: Any, told: Any) -> None:
            request.began, request.waits = time.monotonic(), 0
            self._busy += 1

        async def end(session: Any, request: Any, told: Any) -> None:
            self._busy -= 1
            self._waiting -= request.waits  # one that is cancelled in the queue has not left it
            self._note(time.monotonic() - request.began, told)

        async def fail(session: Any, request: Any, told: Any) -> None:
            # Who asked has given it up, or has left: nothing has failed.
            self._errors += not isinstance(told.exception, asyncio.CancelledError)
            await end(session, request, told)

        async def queue(session: Any, request: Any, told: Any) -> None:
            request.waits += 1
            self._waiting += 1

        async def leave_queue(session: Any, request: Any, told: Any) -> None:
            request.waits -= 1
            self._waiting -= 1

        found.on_request_start.append(begin)
        found.on_request_end.append(end)
        found.on_request_exception.append(fail)
        found.on_connection_queued_start.append(queue)
        found.on_connection_queued_end.append(leave_queue)
        return found

    def _note(self, seconds: float, told: Any) -> None:
        now = time.monotonic()
        if seconds > self._slowest[0] or now - self._slowest[2] > _LATELY:
            self._slowest = seconds, f"{told.method} {told.url.host}{told.url.raw_path}", now

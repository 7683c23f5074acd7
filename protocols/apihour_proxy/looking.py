"""Keeps a Proxy's upstreams current: asks DNS when an answer has aged, and those it names.

Rules:

- A name that is not found, or nobody answers for, leaves what was known as it is.
- A check is a connection that is closed again. Who took a client's since the last look needs none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence

from apihour_proxy.dial import is_ours, open_socket
from apihour_proxy.header import local_header
from apihour_proxy.lookup import Found, Lookup, LookupFailed, Target
from apihour_proxy.upstreams import Upstream, Upstreams

__all__ = ["Watch"]

_AGAIN = 2.0  # seconds until a lookup that failed is tried again
_LONGEST = 3600.0  # seconds that an answer is good for, at most
_AT_ONCE = 32  # checks under way


class Watch:
    """Watches `targets` for `upstreams`.

    `check` is the seconds between two looks at an upstream, `timeout` those that one may take.
    """

    def __init__(
        self, targets: Sequence[Target], lookup: Lookup, upstreams: Upstreams, *,
        check: float, timeout: float, proxy_protocol: int, logger: logging.Logger, name: str,
    ) -> None:
        self._targets = targets
        self._lookup = lookup
        self._upstreams = upstreams
        self._check = check
        self._timeout = timeout
        self._greeting = local_header(proxy_protocol) if proxy_protocol else b""
        self._logger = logger
        self._name = name
        self._found: dict[Target, list[Found]] = {}
        self._failing: set[Target] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Look all up once, then go on beside the server."""
        ages = await asyncio.gather(*(self._look_up(target) for target in self._targets))
        self._tasks = [asyncio.ensure_future(self._follow(target, age))
                       for target, age in zip(self._targets, ages, strict=True)
                       if age < float("inf")]
        self._tasks.append(asyncio.ensure_future(self._check_all()))

    async def stop(self) -> None:
        """End what :meth:`start` began."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._lookup.close()

    def unknown(self) -> list[str]:
        """Names for which nobody has been found yet."""
        return [one.text for one in self._targets if one not in self._found]

    async def _follow(self, target: Target, age: float) -> None:
        while True:
            await asyncio.sleep(min(age, _LONGEST))
            age = await self._look_up(target)

    async def _look_up(self, target: Target) -> float:
        """See who it is now; returns for how many seconds that is good."""
        try:
            found, age = await self._lookup.find(target)
        except LookupFailed as error:
            if target not in self._failing:
                self._failing.add(target)
                self._logger.warning(
                    "server %r: upstream %s not found: %s; trying again every %g s",
                    self._name, target.text, error, _AGAIN)
            return _AGAIN
        self._failing.discard(target)
        # Servers of DNS turn the order of addresses with each answer.
        if set(found) != set(self._found.get(target, ())):
            if target in self._found:
                self._logger.info("server %r: upstream %s is now %s", self._name, target.text,
                                  ", ".join(one.name for one in found))
            self._found[target] = found
            self._upstreams.update(dict.fromkeys(
                one for known in self._targets for one in self._found.get(known, ())))
        return age

    # -- checks

    async def _check_all(self) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(upstream: Upstream) -> None:
            async with gate:
                await self._try(upstream)

        # Workers start together, and need not ask together.
        await asyncio.sleep(self._check * random.random())
        while True:
            quiet = [one for one in self._upstreams
                     if not one.up or one.accepted == one.seen or one.failures]
            for upstream in self._upstreams:
                upstream.seen = upstream.accepted
            await asyncio.gather(*map(one, quiet))
            await asyncio.sleep(self._check)

    async def _try(self, upstream: Upstream) -> None:
        loop = asyncio.get_running_loop()
        try:
            with contextlib.closing(open_socket(upstream)) as sock:
                async with asyncio.timeout(self._timeout):
                    await loop.sock_connect(sock, upstream.address)
                    if self._greeting:
                        await loop.sock_sendall(sock, self._greeting)
        except TimeoutError:
            self._upstreams.failed(upstream, f"no answer in {self._timeout:g} s")
        except OSError as error:
            if not is_ours(error.errno):
                self._upstreams.failed(upstream, error.strerror or error)
        else:
            self._upstreams.succeeded(upstream)

"""Certificates obtained and renewed by ACME (RFC 8555), by one worker at a time.

Rules:

- Who holds the lease in ``container.shared`` looks again, then asks; the others wait for the file.
- It is due when there is none, or a third of its time is left: 30 days of 90.
- tls-alpn-01 is tried first, or what went well last time, and after a failure the other in turn.
  Failures are one line each, and wait longer each time: a minute, 4, 16, a day at most.
- There is an order in an hour at most, should what was issued be due at once again.
- What the ACME server says is bounded and has its control characters escaped before it is shown.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import ssl
import time
from functools import partial
from pathlib import Path
from typing import Any

from apihour.jobs.lease import Lease
from apihour.printable import printable
from apihour.tls.acme_answers import PLACEHOLDER, AcmeTerminator
from apihour.tls.libssl import why_unreachable
from apihour.tls.served import ServedCertificate, served_certificate

__all__ = ["Orders"]

_EVERY = 5.0  # seconds between two looks whether one is due
_LONGEST = 240.0  # seconds that an attempt may take
_LEASE = 300.0  # seconds
_FIRST, _FACTOR = 60.0, 4.0  # seconds to wait after the first failure, and how they grow
_HOUR, _DAY = 3600.0, 86400.0
_SHOWN = 300  # characters of an error


class Orders:
    """Has the certificates of one worker's ACME binds obtained and renewed."""

    def __init__(
        self, terminators: list[AcmeTerminator], host: Any, contact: str | None,
        log: logging.Logger,
    ) -> None:
        """`host` is the worker, whose container has the store that all workers share."""
        self._terminators = list({one.files[0]: one for one in terminators}.values())
        self._host = host
        self._contact = contact
        self._log = log
        self._seen: dict[AcmeTerminator, tuple[ssl.SSLContext, ServedCertificate]] = {}
        self._said: dict[AcmeTerminator, str] = {}

    async def run(self) -> None:
        """Look again and again, until it is cancelled."""
        while True:
            for one in self._terminators:
                try:
                    await self._see(one)
                except Exception as error:  # of the store or the disk: it is tried again
                    if self._said.get(one) != _text(error):
                        self._said[one] = _text(error)
                        self._log.error("%s: ACME: %s", one.where, _text(error))
            await asyncio.sleep(_EVERY)

    async def _see(self, one: AcmeTerminator) -> None:
        context, found = self._seen.get(one, (None, None))
        if found is None or context is not one.context:  # a handshake in memory takes its time
            found = served_certificate(one.context)
            self._seen[one] = one.context, found
        if not is_due(found) or one.store.recall(one.domains)["next"] > time.time():
            return
        name = Path(one.files[0]).stem
        lease = Lease(self._host.container.shared, f"apihour.acme.{name}", _LEASE, self._host.name)
        if not await lease.take():
            return
        try:
            if is_due(served_certificate(read_pair(one.files[0]))):  # nobody has renewed it since
                await self._attempt(one)
        finally:
            await lease.release()

    async def _attempt(self, one: AcmeTerminator) -> None:
        """Obtain it, or remember that it failed."""
        failed = one.store.recall(one.domains)
        if failed["next"] > time.time():
            return  # another has tried since
        kinds = ["tls-alpn-01", "http-01"] if not why_unreachable() else ["http-01"] * 2
        first = failed["count"] + (failed["kind"] == "http-01")  # what went well last time
        kind = kinds[first % 2]
        names = ", ".join(one.domains)
        try:
            async with asyncio.timeout(_LONGEST):
                kind = await self._obtain(one, kind, kinds[first % 2 - 1])
        except Exception as error:
            count = failed["count"] + 1
            wait = min(_FIRST * _FACTOR ** min(failed["count"], 9), _DAY)
            why = f"ACME: attempt {count} for {names} failed by {kind}: {_text(error)}"
            one.store.remember(one.domains, count, time.time() + wait, why, failed["kind"])
            self._log.error("%s: %s; tried again in %.0f min", one.where, why, wait / 60)
        else:
            one.store.remember(one.domains, 0, time.time() + _HOUR, "", kind)
            self._log.info(
                "%s: ACME: a certificate of %s was obtained by %s", one.where, names, kind)

    async def _obtain(self, one: AcmeTerminator, kind: str, other: str) -> str:
        """Obtain it by that kind of challenge, or the `other` if that is not offered; by which."""
        # It brings 13 MB, and takes its time.
        client = await asyncio.to_thread(importlib.import_module, "apihour.tls.acme_client")
        issue = partial(client.issue, one.store, one.domains, self._contact, timeout=_LONGEST / 3)
        try:
            found = await issue(kind)
        except ValueError as error:
            if other == kind or not str(error).startswith(f"No {kind} challenge"):
                raise
            kind, found = other, await issue(other)
        path = Path(one.files[0])
        fresh = path.with_suffix(".new")
        one.store.write(fresh, found)
        try:
            read_pair(str(fresh))  # it can be served
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)
        return kind


def is_due(found: ServedCertificate) -> bool:
    """Whether what is served must be obtained, or renewed."""
    left = found.expires - time.time()
    return found.issuer == PLACEHOLDER or left < (found.expires - found.starts) / 3


def read_pair(path: str) -> ssl.SSLContext:
    """A context of certificate and key in one file. Raises OSError, of which SSLError is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def _text(error: BaseException) -> str:
    """An error in one short line, whoever has said it."""
    said = " ".join(str(error).split()) or "it took too long"
    return printable(f"{type(error).__name__}: {said}")[:_SHOWN]

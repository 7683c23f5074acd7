"""Certificates obtained and renewed by ACME (RFC 8555), by one worker at a time.

Rules:

- Who holds the lease in ``container.shared`` looks again, then asks; the others wait for the file.
- It is due when there is none, or a third of its time is left: 30 days of 90.
- tls-alpn-01 is tried first, and after a failure the other, http-01, in turn. Failures are one
  line each, and wait four times as long each time: a minute, 4, 16, and so on, a day at most.
- There is an order in an hour at most, should what was issued be due at once again.
- What the ACME server says is bounded and has its control characters escaped before it is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import lacme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from apihour.jobs.lease import Lease
from apihour.printable import printable
from apihour.tls.acme_answers import PLACEHOLDER, AcmeTerminator
from apihour.tls.acme_proofs import proof
from apihour.tls.acme_store import AcmeStore
from apihour.tls.libssl import why_unreachable
from apihour.tls.served import ServedCertificate, served_certificate

__all__ = ["Orders"]

_EVERY = 5.0  # seconds between two looks whether one is due
_LONGEST = 240.0  # seconds that an attempt may take
_LEASE = 300.0  # seconds
_FIRST, _FACTOR = 60.0, 4.0  # seconds to wait after the first failure, and how they grow
_HOUR, _DAY = 3600.0, 86400.0
_SHOWN = 300  # characters of an error
_LOCAL = ("127.0.0.1", "localhost", "::1")


class Prover:
    """Puts the answers of challenges where every worker finds them."""

    def __init__(self, store: AcmeStore, kind: str) -> None:
        self._store = store
        self._kind = kind

    async def provision(self, domain: str, token: str, key_authorization: str) -> None:
        """Answer from now on. Raises OSError, ValueError."""
        path = self._place(domain, token)
        if self._kind == "http-01":
            data = key_authorization.encode("ascii")
        else:
            data = proof(domain, key_authorization, (time.time() - _DAY, time.time() + _DAY))
        self._store.write(path, data)

    async def deprovision(self, domain: str, token: str) -> None:
        """Answer no more."""
        self._place(domain, token).unlink(missing_ok=True)

    def _place(self, domain: str, token: str) -> Path:
        path = (self._store.token(token) if self._kind == "http-01"
                else self._store.validation(domain))
        if path is None:
            raise ValueError(f"token {token[:80]!r}: expected base64url of 128 bits at least")
        return path


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
        for name in ("httpx2", "httpcore2"):  # a line a request, unless somebody wants them
            if logging.getLogger(name).level == logging.NOTSET:
                logging.getLogger(name).setLevel(logging.WARNING)

    async def run(self) -> None:
        """Look again and again, until it is cancelled."""
        while True:
            for one in self._terminators:
                try:
                    await self._see(one)
                except Exception as error:  # of the store or the disk: it is tried again
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
            if is_due(served_certificate(_read(one.files[0]))):  # another may have renewed it since
                await self._attempt(one)
        finally:
            await lease.release()

    async def _attempt(self, one: AcmeTerminator) -> None:
        """Obtain it, or remember that it failed."""
        failed = one.store.recall(one.domains)
        if failed["next"] > time.time():
            return  # another has tried since
        kinds = ["tls-alpn-01", "http-01"] if not why_unreachable() else ["http-01"] * 2
        kind = kinds[failed["count"] % 2]
        names = ", ".join(one.domains)
        try:
            async with asyncio.timeout(_LONGEST):
                kind = await self._obtain(one, kind, kinds[failed["count"] % 2 - 1])
        except Exception as error:
            count = failed["count"] + 1
            wait = min(_FIRST * _FACTOR ** min(failed["count"], 9), _DAY)
            why = f"ACME: attempt {count} for {names} failed by {kind}: {_text(error)}"
            one.store.remember(one.domains, count, time.time() + wait, why)
            self._log.error("%s: %s; tried again in %.0f min", one.where, why, wait / 60)
        else:
            one.store.remember(one.domains, 0, time.time() + _HOUR, "")
            self._log.info(
                "%s: ACME: a certificate of %s was obtained by %s", one.where, names, kind)

    async def _obtain(self, one: AcmeTerminator, kind: str, other: str) -> str:
        """Obtain it by that kind of challenge, or the `other` if that is not offered; by which."""
        try:
            await self._issue(one, kind)
        except ValueError as error:
            if other == kind or not str(error).startswith(f"No {kind} challenge"):
                raise
            await self._issue(one, other)
            return other
        return kind

    async def _issue(self, one: AcmeTerminator, kind: str) -> None:
        store = one.store
        store.sweep()
        async with lacme.Client(
            directory_url=store.server, account_key=_account_key(store),
            contact=f"mailto:{self._contact}" if self._contact else None,
            challenge_handler=Prover(store, kind), poll_timeout=_LONGEST / 3, poll_interval=1.0,
            allow_insecure=urlsplit(store.server).hostname in _LOCAL,
        ) as client:
            found = await client.issue(list(one.domains), challenge_type=kind)
        path = Path(one.files[0])
        fresh = path.with_suffix(".new")
        store.write(fresh, found.fullchain_pem.rstrip() + b"\n" + found.key_pem)
        try:
            _read(str(fresh))  # it can be served
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)


def is_due(found: ServedCertificate) -> bool:
    """Whether what is served must be obtained, or renewed."""
    left = found.expires - time.time()
    return found.issuer == PLACEHOLDER or left < (found.expires - found.starts) / 3


def _read(path: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def _account_key(store: AcmeStore) -> ec.EllipticCurvePrivateKey:
    """The account's key, made when there is none. Raises OSError, ValueError."""
    with contextlib.suppress(FileNotFoundError):
        key = serialization.load_pem_private_key(store.account.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{store.account}: expected an EC key")
        return key
    store.write(store.account, ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()), keep=True)
    return _account_key(store)


def _text(error: BaseException) -> str:
    """An error in one short line, whoever has said it."""
    said = " ".join(str(error).split()) or "it took too long"
    return printable(f"{type(error).__name__}: {said}")[:_SHOWN]

"""Certificates that are swapped in place when their files change, and told of before they expire.

Rules:

- Files are looked at by stat(2) alone, and read when they have changed and look the same twice:
  what writes them in several steps has had its time.
- All or nothing: contexts are made anew from the files, and new handshakes are given to them when
  that went well. Connections that are open, and handshakes under way, keep theirs.
- What cannot be used is refused with one line of the whole daemon, and the old one goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import logging
import os
import ssl
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from apihour.errors import ConfigurationError
from apihour.tls.choosing import hush_bad_names
from apihour.tls.served import ServedCertificate, served_certificate
from apihour.tls.termination import Stamps, Terminator
from apihour.tls.tickets import TicketKeys

__all__ = ["CertificateWatch", "Told", "watch"]

_EVERY = 2.0  # seconds between two looks at the files
_DAY = 86400.0


class Told:
    """Lets one worker of a daemon say what each of them could."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mine: set[str] = set()

    def is_first(self, *what: object) -> bool:
        """Whether nobody has said this yet; also when that cannot be known."""
        name = "told." + hashlib.sha256(repr(what).encode()).hexdigest()[:24]
        if name in self._mine:
            return False
        self._mine.add(name)
        try:
            os.close(os.open(
                self._directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return False
        except OSError:
            return True
        self._forget()
        return True

    def _forget(self) -> None:
        for path in self._directory.glob("told.*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > 2 * _DAY:
                    path.unlink()


class CertificateWatch:
    """Looks after the certificates of one worker's binds."""

    def __init__(
        self, terminators: Iterable[Terminator], told: Told, log: logging.Logger,
        tickets: TicketKeys | None = None,
    ) -> None:
        """`tickets` are the keys of their session tickets, None: each context has its own."""
        self._terminators = list(dict.fromkeys(terminators))
        self._told = told
        self._log = log
        self._tickets = tickets
        self._pending: dict[Terminator, Stamps] = {}
        self._refused: dict[Terminator, Stamps] = {}
        self._next_warning = 0.0
        self.orders: asyncio.Task[None] | None = None  # of certificates by ACME

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look now, and every two seconds from now on."""
        self.look()
        loop.call_later(_EVERY, self.begin, loop)

    def look(self) -> None:
        """Take what has changed and is whole; warn once a day of what expires soon."""
        self._share_tickets()
        for one in self._terminators:
            stamps = one.stamps()
            if stamps in (one.loaded, self._refused.get(one)):
                self._pending.pop(one, None)
            elif self._pending.get(one) == stamps:
                self._take(one, stamps)
            else:
                self._pending[one] = stamps
        if time.time() >= self._next_warning:
            self._warn()

    def reload(self) -> list[str]:
        """Take what the files hold now; what is wrong with them, a line for each bind."""
        for one in self._terminators:
            self._refused.pop(one, None)
            one.asked()
            self._take(one, one.stamps())
        return [one.problem for one in self._terminators if one.problem]

    def _take(self, one: Terminator, stamps: Stamps) -> None:
        self._pending.pop(one, None)
        before = one.contexts
        try:
            one.renew(stamps)
        except ConfigurationError as error:
            self._refused[one] = stamps
            one.problem = str(error)
            if self._told.is_first("refused", one.where, stamps):
                self._log.warning("%s; the certificate from before is served on", error)
            return
        one.problem = ""
        if self._tickets is not None:
            self._tickets.seal(one.context, one.where)
        self._next_warning = 0.0
        if stamps and self._told.is_first("taken", one.where, stamps):
            names = ", ".join(_described(context) for context in one.contexts)
            if names != ", ".join(_described(context) for context in before):
                self._log.info("%s: new certificates are served: %s", one.where, names)

    def _share_tickets(self) -> None:
        """Have sessions be resumed at every worker, by the keys of now."""
        if self._tickets is None:
            return
        try:
            if self._tickets.look():
                for one in self._terminators:
                    self._tickets.seal(one.context, one.where)
        except (OSError, NotImplementedError) as error:
            self._tickets = None
            if self._told.is_first("tickets", str(error)):
                self._log.warning(
                    "TLS sessions are resumed at the worker that has begun them only: %s", error)

    def _warn(self) -> None:
        """Warn of each certificate once a day."""
        today = int(time.time() // _DAY)
        self._next_warning = (today + 1) * _DAY
        for one in self._terminators:
            for context, file in zip(one.contexts, one.files, strict=True):
                found = _served(context)
                if found is None or not found.is_late:
                    continue
                if self._told.is_first("expires", found.fingerprint, today):
                    self._log.warning(
                        "%s: the certificate of %s in %r %s", one.where, found.subject, file,
                        f"expires in {found.days_left:.1f} days" if found.days_left >= 0
                        else f"has expired {-found.days_left:.1f} days ago")


def watch(host: Any, terminators: Iterable[Terminator]) -> CertificateWatch:
    """Look after the certificates of a worker that serves from now on."""
    period = host.cfg.tls_tickets
    made = CertificateWatch(
        terminators, Told(host.runtime.path), host.log.error_log,
        TicketKeys(host.runtime.path / "tickets.json", period) if period else None)
    made.begin(host.loop)
    if any(one.context.sni_callback is not None for one in terminators):
        hush_bad_names()
    acme = [one for one in terminators if one.domains]
    if acme:
        orders = importlib.import_module("apihour.tls.acme_orders").Orders(
            acme, host, host.cfg.acme_contact, host.log.error_log)
        made.orders = host.loop.create_task(orders.run(), name="acme")
    return made


def _served(context: ssl.SSLContext) -> ServedCertificate | None:
    """What is served, where it can be told."""
    try:
        return served_certificate(context)
    except (OSError, ValueError):
        return None


def _described(context: ssl.SSLContext) -> str:
    found = _served(context)
    if found is None:
        return "one that cannot be read"
    return f"{found.subject} ({found.days_left:.0f} days, {found.fingerprint[:8]})"

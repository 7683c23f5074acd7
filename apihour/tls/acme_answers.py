"""Binds with ``?tls=acme`` in every worker: the certificate there is, and challenges answered.

Rules:

- Until the first certificate arrives a self-signed one is served, which no client trusts: the bind
  is open, as the ACME server must be able to ask there.
- A handshake that offers ``acme-tls/1`` alone, for a name that is asked for now, gets the
  certificate that proves it (RFC 8737), and is closed then; all others never notice.
- http-01 (RFC 8555 8.3) is answered by servers that look at ``ServerContext.challenges``: those
  of HTTP, whatever application they have.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from apihour.bind.tls_options import CertificateFiles, TLSOptions
from apihour.errors import ConfigurationError
from apihour.tls.acme_store import AcmeStore
from apihour.tls.libssl import offers_only, why_unreachable
from apihour.tls.termination import AcceptedSocket, Encrypted, Stamps, Terminator

if TYPE_CHECKING:
    from apihour.bind.addresses import BindAddress

__all__ = ["PLACEHOLDER", "AcmeTerminator", "acme_terminator", "check_acme"]

PLACEHOLDER = "apihour: no certificate yet"
"""Issuer of the certificate until the first arrives."""
_PROTOCOL = "acme-tls/1"  # RFC 8737 6.2
_YEAR = 365 * 86400.0


class AcmeTerminator(Terminator):
    """Ends TLS by the certificate that is there, and answers for its names."""

    def __init__(self, store: AcmeStore, domains: Sequence[str], *args: Any) -> None:
        """`args` are those of a Terminator, whose one file the certificate is."""
        self.store = store
        self.domains = tuple(domains)
        self.challenges = store.answer
        self._own = ""
        super().__init__(*args)

    @property
    def problem(self) -> str:
        """Why it is not renewed, whoever has tried."""
        return self._own or str(self.store.recall(self.domains)["why"])

    @problem.setter
    def problem(self, text: str) -> None:
        self._own = text

    def renew(self, stamps: Stamps) -> None:
        """Read the files; see Terminator."""
        super().renew(stamps)
        if self.context.sni_callback is None and not why_unreachable():
            self.context.sni_callback = self._prove

    def asked(self) -> None:
        """An operator has mended something: what failed is tried again at once."""
        known = self.store.recall(self.domains)
        if known["why"]:
            self.store.remember(self.domains, known["count"], 0.0, "", known["kind"])

    def _prove(
        self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        domain = (name or "").lower()
        if domain not in self.domains:
            return
        path = self.store.validation(domain)
        try:
            if path.exists() and offers_only(connection, _PROTOCOL.encode()):
                proof = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                proof.load_cert_chain(path)
                proof.set_alpn_protocols([_PROTOCOL])
                connection.context = proof
        except (OSError, NotImplementedError):
            return  # it was over in this moment; or http-01 must do

    def connect(
        self, loop: asyncio.AbstractEventLoop, sock: AcceptedSocket, conn: Encrypted,
        ready: Callable[[Any], asyncio.BaseProtocol],
    ) -> Coroutine[Any, None, Any]:
        """Do the handshake; see Terminator."""
        return super().connect(loop, sock, conn, partial(_unless_proof, ready))


def _unless_proof(ready: Callable[[Any], asyncio.BaseProtocol], conn: Any) -> asyncio.BaseProtocol:
    """RFC 8737 3: what has proved a name is closed, and never is the application's."""
    if conn.alpn != _PROTOCOL:
        return ready(conn)
    conn.transport.close()
    return asyncio.Protocol()


def check_acme(cfg: Any, where: str) -> AcmeStore:
    """The store of a bind with ``?tls=acme``, nothing of it made. Raises ConfigurationError."""
    if importlib.util.find_spec("lacme") is None:
        raise ConfigurationError(f"{where}: tls=acme needs a package that is not there; expected "
                                 "pip install 'apihour[acme]'")
    return AcmeStore(cfg.acme_state, cfg.acme_directory, (cfg.uid, cfg.gid))


def acme_terminator(
    cfg: Any, name: str, address: BindAddress,
    make: Callable[[Any, str, BindAddress], list[ssl.SSLContext]],
) -> AcmeTerminator:
    """The terminator of a bind with ``?tls=acme``, by what `make` makes of files.

    Raises ConfigurationError.
    """
    options, where = address.tls or TLSOptions(), f"bind {name}={address}"
    store = check_acme(cfg, where)
    store.make()
    path = store.certificate(options.domains)
    try:
        if not path.exists():
            store.write(path, _placeholder(options.domains), keep=True)
    except OSError as error:
        raise ConfigurationError(f"--acme-state {str(store.path)!r}: {error.strerror}; expected "
                                 "files that can be written there") from error
    own = dataclasses.replace(address, tls=dataclasses.replace(
        options, files=(CertificateFiles(str(path)),), domains=()))
    return AcmeTerminator(
        store, options.domains, partial(make, cfg, name, own), cfg.tls_handshake_timeout, where,
        [str(path)], [str(path), *_authorities(cfg, options)])


def _authorities(cfg: Any, options: TLSOptions) -> list[str]:
    return [path for path in (options.ca or cfg.ca_certs,) if path]


def _placeholder(domains: Sequence[str]) -> bytes:
    from apihour.tls.acme_proofs import self_signed  # needed once

    now = time.time()
    return self_signed(domains, PLACEHOLDER, (now - 86400.0, now + _YEAR))


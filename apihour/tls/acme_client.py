"""What speaks ACME: lacme, loaded in the worker that obtains a certificate, when it does."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import lacme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from apihour.tls.acme_proofs import proof
from apihour.tls.acme_store import AcmeStore

__all__ = ["issue"]

_DAY = 86400.0  # seconds that the certificate of a proof holds, before and after now
_LOCAL = ("127.0.0.1", "localhost", "::1")


async def issue(
    store: AcmeStore, domains: Sequence[str], contact: str | None, kind: str, *, timeout: float,
) -> bytes:
    """A certificate of these names by that kind of challenge, chain and key in PEM.

    `timeout` is what the ACME server may take for each step, in seconds. Raises ValueError "No KIND
    challenge…" when it offers another kind only, and whatever it, the net or the disk says.
    """
    for name in ("httpx2", "httpcore2"):  # a line a request, unless somebody wants them
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)
    store.sweep()
    async with lacme.Client(
        directory_url=store.server, account_key=_account_key(store),
        contact=f"mailto:{contact}" if contact else None, challenge_handler=Prover(store, kind),
        poll_timeout=timeout, poll_interval=1.0,
        allow_insecure=urlsplit(store.server).hostname in _LOCAL,
    ) as client:
        found = await client.issue(list(domains), challenge_type=kind)
    return found.fullchain_pem.rstrip() + b"\n" + found.key_pem


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

"""Session tickets that hold in every worker: one secret of the daemon, another in its time.

Rules:

- The secret is random, in a file of the runtime directory (0600), and replaced when it is old by
  whichever worker sees it first. The one before is gone then: a recorded TLS 1.2 session that
  was sealed with it cannot be opened later. Its tickets cost a whole handshake, and no error.
- Keys are made of it for each bind and whom it trusts as client: a session of one bind is never
  taken up at another that asks for certificates which the first did not.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import ssl
import time
from pathlib import Path

from apihour.ipc.state_files import replace_json
from apihour.tls.libssl import KEYS_SIZE, set_ticket_keys

__all__ = ["TicketKeys"]

_SIZE = 32  # bytes of the secret


class TicketKeys:
    """One worker's view of the daemon's secret, which holds for `period` seconds."""

    def __init__(self, path: Path, period: float) -> None:
        self._path = path
        self._period = period
        self._secret = b""

    def look(self) -> bool:
        """Take up the secret of now; whether it is another than before.

        Raises OSError when it can be neither read nor replaced.
        """
        secret, until = self._read()
        if not secret or until <= time.time():
            secret = self._replace()
        changed, self._secret = secret != self._secret, secret
        return changed

    def seal(self, context: ssl.SSLContext, bind: str) -> None:
        """Have a context's tickets hold in all workers that serve `bind` with such a context."""
        said = [bind, int(context.verify_mode), context.get_ca_certs(binary_form=True)]
        key = hmac.digest(self._secret, repr(said).encode(), hashlib.sha256)
        made = b"".join(hmac.digest(key, bytes([number]), hashlib.sha256) for number in range(3))
        set_ticket_keys(context, made[:KEYS_SIZE])

    def _read(self) -> tuple[bytes, float]:
        """The secret in the file and until when it holds; nothing when there is none."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            # By its age, so that a clock that was put back does not make it live for ever.
            since = min(float(found["since"]), time.time())
            return bytes.fromhex(found["secret"]), since + self._period
        except FileNotFoundError:
            return b"", 0.0
        except (ValueError, KeyError, TypeError):
            return b"", 0.0  # of another version: it is replaced

    def _replace(self) -> bytes:
        """Make another secret, unless another worker has just done so."""
        lock = os.open(self._path.with_suffix(".lock"),
                       os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.closing(os.fdopen(lock)):
            fcntl.flock(lock, fcntl.LOCK_EX)
            secret, until = self._read()
            if not secret or until <= time.time():
                secret = secrets.token_bytes(_SIZE)
                replace_json(self._path, {"since": time.time(), "secret": secret.hex()})
        return secret

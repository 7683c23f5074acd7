"""The algorithms an SSH server offers and the numbers it holds its clients to.

Rules:

- No algorithm here is one that ssh-audit fails; none costs the loop more than a curve25519
  exchange (diffie-hellman-group18, on by default in asyncssh, costs 45 ms of it).
- Nothing is optional that a server of this kind has no use for: compression, GSSAPI, host
  based logins, agent and X11 forwarding are off until somebody asks for them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

__all__ = ["COMPATIBLE", "GREETING", "STRICT", "VERSION", "Algorithms", "options", "quieten"]

# OpenSSH's client tells only a server of this name that its reader is gone (eow@openssh.com,
# PROTOCOL 2.1): without it, `ssh host command | head` hangs.
VERSION = "OpenSSH_apihour"
GREETING = f"SSH-2.0-{VERSION}\r\n".encode()
"""The version as it goes over the wire (RFC 4253 4.2)."""

_LOGIN_TIMEOUT = 20.0  # seconds; a person types no password here, keys take one
_KEEPALIVE = 15.0  # seconds; with three in a row unanswered a dead peer is gone in 45 s
_KEEPALIVE_COUNT = 3


@dataclass(frozen=True)
class Algorithms:
    """What is offered, in order of preference. Host keys are chosen apart (ed25519)."""

    kex: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    signatures: tuple[str, ...]


_CIPHERS = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr")
_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
_ED25519 = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com")

STRICT = Algorithms(("mlkem768x25519-sha256",), _CIPHERS, _MACS, _ED25519)
"""Post-quantum key exchange and ed25519 keys only: OpenSSH 9.9 and later."""

COMPATIBLE = Algorithms(
    # The curve25519 ones are for OpenSSH before 9.9, and cost one warning of ssh-audit.
    ("mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"),
    _CIPHERS, _MACS,
    (*_ED25519, "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
     "sk-ecdsa-sha2-nistp256@openssh.com", "rsa-sha2-512", "rsa-sha2-256"),
)
"""What every OpenSSH since 6.5 (2014) can speak, and nothing weaker."""


def quieten() -> None:
    """Keep asyncssh from logging every connection, key and command, secrets included, as INFO.

    A level that somebody has set for its logger stays.
    """
    logger = logging.getLogger("asyncssh")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)


def options(algorithms: Algorithms) -> dict[str, Any]:
    """The keyword arguments of ``asyncssh.SSHServerConnectionOptions`` that harden it.

    A key exchange that this asyncssh lacks (mlkem needs a recent cryptography) is left out;
    ``_asyncssh.available_kex`` says which.
    """
    return {
        "server_version": VERSION,
        "kex_algs": algorithms.kex,
        "encryption_algs": algorithms.ciphers,
        "mac_algs": algorithms.macs,
        "compression_algs": None,
        "signature_algs": algorithms.signatures,
        "login_timeout": _LOGIN_TIMEOUT,
        "keepalive_interval": _KEEPALIVE,
        "keepalive_count_max": _KEEPALIVE_COUNT,
        "password_auth": False,
        "kbdint_auth": False,
        "host_based_auth": False,
        # None keeps asyncssh from asking DNS for this host's name at every login.
        "gss_host": None,
        "gss_kex": False,
        "gss_auth": False,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "rdns_lookup": False,
    }

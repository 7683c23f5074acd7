"""Certificates and keys of TLS binds: from options to an ``ssl.SSLContext``.

Rules:

- What is wrong is one line that names the option or bind, the file, and what was expected.
- TLS 1.2 at least, forward secrecy and authenticated encryption only, no renegotiation; the
  ``ssl_context`` hook of the configuration file has the last word.
- Nothing is asked on the terminal: an encrypted key is refused.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from apihour.blame import blame
from apihour.errors import ConfigurationError

if TYPE_CHECKING:
    from apihour.bind.addresses import BindAddress

__all__ = ["CIPHERS", "make_context", "verify"]

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all of this kind
# What PEM files hold (RFC 7468); OpenSSL knows "TRUSTED" and "RSA" variants of them.
_CERTIFICATE, _KEY = b"CERTIFICATE-----", b"PRIVATE KEY-----"


def verify(cfg: Any, binds: Mapping[str, Sequence[BindAddress]]) -> None:
    """Load what the binds need, to see whether it can be. Raises ConfigurationError."""
    wanted = [(name, address) for name, addresses in binds.items() for address in addresses
              if address.tls is not None]
    for name, address in wanted:
        make_context(cfg, name, address)
    for option in ("certfile", "keyfile"):
        path = getattr(cfg, option)
        if path and all(address.tls for _, address in wanted):
            raise ConfigurationError(
                f"--{option} {path!r}: no bind uses it; expected one like NAME=ADDRESS?tls"
            )


def make_context(cfg: Any, name: str, address: BindAddress) -> ssl.SSLContext:
    """The context of one bind, after the ``ssl_context`` hook. Raises ConfigurationError."""
    where = f"bind {name}={address}"
    hook = cfg.ssl_context
    try:
        context = hook(cfg, partial(_default_context, cfg, where, address))
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{where}: ssl_context: {blame(error)}") from error
    if not isinstance(context, ssl.SSLContext):
        raise ConfigurationError(f"{where}: ssl_context returned {context!r}; "
                                 "expected an ssl.SSLContext")
    return context


def _default_context(cfg: Any, where: str, address: BindAddress) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.set_ciphers(cfg.ciphers or CIPHERS)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"--ciphers {cfg.ciphers!r}: expected ciphers that OpenSSL knows") from error
    if address.tls:
        _load_pair(context, (f"{where}: tls", address.tls), (f"{where}: key", address.key))
    elif cfg.certfile:
        _load_pair(context, ("--certfile", cfg.certfile), ("--keyfile", cfg.keyfile))
    else:
        raise ConfigurationError(f"{where}: no certificate; expected --certfile FILE or ?tls=FILE")
    _ask_clients(context, cfg)
    return context


def _load_pair(
    context: ssl.SSLContext, cert: tuple[str, str], key: tuple[str, str | None]
) -> None:
    """Load a certificate chain and its key, which may be in the same file."""
    what, path = cert
    key_what, key_path = (key[0], key[1]) if key[1] else cert
    _read(what, path, _CERTIFICATE, "a certificate in PEM format")
    _read(key_what, key_path, _KEY, "a private key in PEM format")

    def password() -> str:
        raise ConfigurationError(f"{key_what} {key_path!r}: the key is encrypted; expected a "
                                 "plain one, or an ssl_context hook that knows the password")

    try:
        context.load_cert_chain(path, key_path, password)
    except OSError as error:  # of which ssl.SSLError is one
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(f"{key_what} {key_path!r}: the key does not belong to the "
                                     f"certificate {path!r}") from error
        raise ConfigurationError(f"{what} {path!r}: OpenSSL cannot use certificate and key "
                                 f"({error.strerror or error})") from error


def _read(what: str, path: str, mark: bytes, expected: str) -> None:
    """See that a file can be read and holds `mark`; OpenSSL's own errors name no file."""
    try:
        with open(path, "rb") as file:
            found = mark in file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"{what} {path!r}: {reason}; expected {expected}") from error
    if not found:
        raise ConfigurationError(f"{what} {path!r}: expected {expected}")


def _ask_clients(context: ssl.SSLContext, cfg: Any) -> None:
    """Ask clients for certificates, as --cert-reqs says."""
    try:
        mode = ssl.VerifyMode(cfg.cert_reqs)
    except ValueError as error:
        raise ConfigurationError(
            f"--cert-reqs {cfg.cert_reqs!r}: expected 0 (none), 1 (optional) or 2 (required)"
        ) from error
    if mode is not ssl.CERT_NONE and not cfg.ca_certs:
        raise ConfigurationError(f"--cert-reqs {mode:d}: expected --ca-certs FILE with it")
    context.verify_mode = mode
    if cfg.ca_certs:
        _read("--ca-certs", cfg.ca_certs, _CERTIFICATE,
              "certificates in PEM format")
        try:
            context.load_verify_locations(cfg.ca_certs)
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"--ca-certs {cfg.ca_certs!r}: OpenSSL cannot use it ({error.reason})") from error

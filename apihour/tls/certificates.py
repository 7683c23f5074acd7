"""Certificates and keys of TLS binds: from options to ``ssl.SSLContext``.

Rules:

- What is wrong is one line that names the option or bind, the file, and what was expected.
- TLS 1.2 at least, forward secrecy and authenticated encryption only, no renegotiation; the
  ``ssl_context`` hook of the configuration file has the last word, for each certificate.
- Nothing is asked on the terminal: an encrypted key is refused.
"""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from apihour.bind.tls_options import TLSOptions
from apihour.blame import blame
from apihour.errors import ConfigurationError
from apihour.tls import CIPHERS
from apihour.tls.libssl import set_groups, why_unreachable

if TYPE_CHECKING:
    from apihour.bind.addresses import BindAddress

__all__ = ["file_names", "make_contexts", "verify"]

# What PEM files hold (RFC 7468); OpenSSL knows "TRUSTED" and "RSA" variants of them.
_CERTIFICATE, _KEY = b"CERTIFICATE-----", b"PRIVATE KEY-----"
_Named = tuple[str, str]  # what a file is of: an option or part of a bind; and its path
# Mozilla's recommendation; from OpenSSL 3.5 on with the hybrid that resists quantum computers.
_GROUPS = "X25519:P-256:P-384"
if ssl.OPENSSL_VERSION_INFO >= (3, 5):
    _GROUPS = "X25519MLKEM768:" + _GROUPS


def verify(cfg: Any, binds: Mapping[str, Sequence[BindAddress]]) -> None:
    """Load what the binds need, to see whether it can be. Raises ConfigurationError."""
    wanted = [(name, address, address.tls) for name, addresses in binds.items()
              for address in addresses if address.tls is not None]
    for name, address, tls in wanted:
        if tls.domains:
            # Made when workers begin: a check leaves nothing behind.
            importlib.import_module("apihour.tls.acme_answers").check_acme(
                cfg, f"bind {name}={address}")
        else:
            make_contexts(cfg, name, address)
    for option in ("certfile", "keyfile"):
        path = getattr(cfg, option)
        if path and all(tls.files or tls.domains for _, _, tls in wanted):
            raise ConfigurationError(
                f"--{option} {path!r}: no bind uses it; expected one like NAME=ADDRESS?tls"
            )


def make_contexts(cfg: Any, name: str, address: BindAddress) -> list[ssl.SSLContext]:
    """The contexts of one bind, for each certificate one, after the ``ssl_context`` hook.

    Raises ConfigurationError.
    """
    where, options = f"bind {name}={address}", address.tls or TLSOptions()
    contexts = [_hooked(cfg, where, partial(_default_context, cfg, where, options, *pair))
                for pair in _pairs(cfg, where, options)]
    for context, one in zip(contexts, options.files, strict=False):  # none: --certfile's
        if one.ocsp is not None:
            from apihour.tls.stapling import staple_file  # needed with such a file only

            staple_file(context, f"{where}: ocsp", one.ocsp, one.certificate)
    return contexts


def file_names(cfg: Any, options: TLSOptions) -> tuple[list[str], list[str]]:
    """The files of a bind's certificates, one each, and all that are read for it."""
    found = list(_pairs(cfg, "", options))
    read = [path for pair in found for _, path in pair]
    read += [one.ocsp for one in options.files if one.ocsp]
    read += [path for path in (options.ca or cfg.ca_certs,) if path]
    return [path for (_, path), _ in found], list(dict.fromkeys(filter(None, read)))


def _pairs(cfg: Any, where: str, options: TLSOptions) -> Iterator[tuple[_Named, _Named]]:
    """The certificates and keys of a bind, each with what it is called in messages."""
    if options.files:
        for one in options.files:
            cert = f"{where}: tls", one.certificate
            yield cert, (f"{where}: key", one.key) if one.key else cert
    else:
        cert = "--certfile", cfg.certfile or ""
        yield cert, ("--keyfile", cfg.keyfile) if cfg.keyfile else cert


def _hooked(cfg: Any, where: str, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    try:
        context = cfg.ssl_context(cfg, default)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{where}: ssl_context: {blame(error)}") from error
    if not isinstance(context, ssl.SSLContext):
        raise ConfigurationError(f"{where}: ssl_context returned {context!r}; "
                                 "expected an ssl.SSLContext")
    return context


def _default_context(
    cfg: Any, where: str, options: TLSOptions, cert: _Named, key: _Named
) -> ssl.SSLContext:
    if not cert[1]:
        raise ConfigurationError(f"{where}: no certificate; expected --certfile FILE or ?tls=FILE")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    versions = ssl.TLSVersion
    context.minimum_version = versions.TLSv1_3 if options.modern else versions.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.set_ciphers(cfg.ciphers or CIPHERS)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"--ciphers {cfg.ciphers!r}: expected ciphers that OpenSSL knows") from error
    if not why_unreachable():
        set_groups(context, _GROUPS)
    _load_pair(context, cert, key)
    _ask_clients(context, cfg, where, options)
    return context


def _load_pair(context: ssl.SSLContext, cert: _Named, key: _Named) -> None:
    """Load a certificate chain and its key, which may be in the same file."""
    (what, path), (key_what, key_path) = cert, key
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


def _ask_clients(context: ssl.SSLContext, cfg: Any, where: str, options: TLSOptions) -> None:
    """Ask clients for certificates, as the bind says, or else --cert-reqs."""
    number, what = options.verify_mode, f"{where}: clients={options.clients}"
    if number is None:
        number, what = cfg.cert_reqs, f"--cert-reqs {cfg.cert_reqs!s}"
    try:
        context.verify_mode = mode = ssl.VerifyMode(number)
    except ValueError as error:
        raise ConfigurationError(
            f"--cert-reqs {number!r}: expected 0 (none), 1 (optional) or 2 (required)") from error
    ca_what, path = (f"{where}: ca", options.ca) if options.ca else ("--ca-certs", cfg.ca_certs)
    if not path:
        if mode is not ssl.CERT_NONE:
            raise ConfigurationError(f"{what}: expected --ca-certs FILE with it, or ca=FILE")
        return
    _read(ca_what, path, _CERTIFICATE, "certificates in PEM format")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{ca_what} {path!r}: OpenSSL cannot use it ({error.reason})") from error

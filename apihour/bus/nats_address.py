"""Where NATS is, and how one proves to it who one is: ``bus:`` and ``shared:`` of a configuration.

::

    bus: nats://one:4222,nats://two:4222        # or a mapping:
    bus:
      url: file:/run/secrets/nats               # or env:NAME, credential:NAME, the URL itself
      credentials: /etc/shop/shop.creds         # a user's JWT and seed, as nsc writes it
      tls: {ca: ca.pem, cert: shop.pem, key: shop.key}
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from apihour.errors import ConfigurationError
from apihour.masking import mask_text
from apihour.secret import read_secret

__all__ = ["SCHEMES", "NATSAddress", "scheme_of"]

SCHEMES = ("nats", "tls", "ws", "wss")
_TLS = {"ca", "cert", "key"}


@dataclass(frozen=True)
class NATSAddress:
    """The servers of one NATS, and what proves who asks."""

    servers: tuple[str, ...]
    credentials: str = ""
    tls: ssl.SSLContext | None = None

    @classmethod
    def read(cls, where: str, given: Any, others: Mapping[str, str]) -> tuple[NATSAddress, dict[
            str, Any]]:
        """What `given` of the section `where` says, and its other options.

        `others` says what those may be, by name. Raises ConfigurationError.
        """
        options = {"url": given} if isinstance(given, str) else dict(given)
        expected = {"url", "credentials", "tls", *others}
        if unknown := sorted(map(str, options.keys() - expected)):
            raise ConfigurationError(
                f"{where}: {unknown[0]!r}; expected of {', '.join(sorted(expected))}")
        servers = _servers(where, options.pop("url", None))
        credentials = _credentials(where, options.pop("credentials", None))
        tls = _tls(where, options.pop("tls", None))
        return cls(servers, credentials, tls), options

    def login(self) -> dict[str, str]:
        """The user and password, or the token, of the URLs, for nats-py, which decodes no ``%40``.

        What one of the servers has is for all; where they differ, each is taken as it stands.
        """
        parts = [urlsplit(server) for server in self.servers]
        logins = {(one.username, one.password) for one in parts if one.username is not None}
        if len(logins) != 1:
            return {}
        [(user, password)] = logins
        if password is None:
            return {"token": unquote(user)}
        return {"user": unquote(user), "password": unquote(password)}

    def __str__(self) -> str:
        return ", ".join(mask_text(server) for server in self.servers)


def scheme_of(where: str, given: Any) -> str:
    """The scheme of the URL in a section of the configuration; "" when there is none.

    Raises ConfigurationError when it is kept in a place that cannot be read.
    """
    url = given.get("url") if isinstance(given, Mapping) else given
    return _url(where, url).partition("://")[0] if isinstance(url, str) else ""


def _url(where: str, url: str) -> str:
    try:
        return read_secret(url)
    except ValueError as error:
        raise ConfigurationError(f"{where}: url: {error}") from None


def _servers(where: str, url: Any) -> tuple[str, ...]:
    urls = [url] if isinstance(url, str) else url
    if not isinstance(urls, list) or not urls or not all(isinstance(one, str) for one in urls):
        raise ConfigurationError(f"{where}: url: {url!r:.40}; expected nats://HOST:PORT, or "
                                 "several with commas between")
    servers = [part.strip() for one in urls for part in _url(where, one).split(",")]
    for server in servers:
        if not _is_place(server):
            raise ConfigurationError(
                f"{where}: url: {mask_text(server)!r}; expected nats://HOST:PORT, or tls://")
    return tuple(servers)


def _is_place(server: str) -> bool:
    try:
        parts = urlsplit(server)
        return parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, or a port that is none
        return False


def _credentials(where: str, path: Any) -> str:
    if path is None:
        return ""
    if not isinstance(path, str) or not Path(path).is_file():
        raise ConfigurationError(
            f"{where}: credentials: {path!r}; expected a file that nsc has made")
    return path


def _tls(where: str, files: Any) -> ssl.SSLContext | None:
    if files is None:
        return None
    if not isinstance(files, Mapping) or not files.keys() <= _TLS:
        raise ConfigurationError(f"{where}: tls: {files!r:.80}; expected ca, cert and key, or some")
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        if "cert" in files:
            context.load_cert_chain(files["cert"], files.get("key"))
    except (OSError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{where}: tls: {dict(files)!r}: {error}") from error
    return context

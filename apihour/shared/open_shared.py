"""Which store ``container.shared`` is: what ``shared:`` of the configuration says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from apihour.bus.nats_address import SCHEMES as NATS
from apihour.bus.nats_address import NATSAddress, scheme_of
from apihour.errors import ConfigurationError, SharedError
from apihour.masking import mask_text
from apihour.secret import read_secret
from apihour.shared.redis_address import SCHEMES as REDIS
from apihour.shared.remote import RemoteShared

__all__ = ["open_shared"]


def open_shared(config: Any, path: str | os.PathLike[str]) -> RemoteShared:
    """The store of another program that `config`, a URL or a mapping with one, says.

    `path`: the directory of what is one daemon's. Raises ConfigurationError.
    """
    given = {"url": config} if isinstance(config, str) else config
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"shared: {given!r:.80}; expected a URL, or a mapping")
    scheme = scheme_of("shared", given)
    try:
        if scheme in REDIS:
            from apihour.shared.redis_store import RedisShared

            return RedisShared(path, **_of(given, "url", "prefix", "deadline") | {
                "url": read_secret(given["url"])})
        if scheme in NATS:
            from apihour.shared.nats_store import NATSShared

            address, options = NATSAddress.read(
                "shared", given, dict.fromkeys(("bucket", "replicas", "deadline"), ""))
            return NATSShared(path, address, **options)
    except (TypeError, ValueError, SharedError) as error:
        raise ConfigurationError(f"shared: {mask_text(str(error))}") from error
    raise ConfigurationError(
        f"shared: url: {mask_text(str(given.get('url')))!r:.80}; expected redis://, valkey://, "
        "unix:// or nats://")


def _of(given: Mapping[str, Any], *known: str) -> dict[str, Any]:
    if unknown := sorted(map(str, given.keys() - set(known))):
        raise ConfigurationError(
            f"shared: {unknown[0]!r}; expected of {', '.join(sorted(known))}")
    return dict(given)

"""What variables of the environment say of a daemon: options, binds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from apihour.bind.addresses import is_name, parse_address
from apihour.errors import AddressError, ApihourError, ConfigurationError

__all__ = ["environment_binds", "option_words"]

_BIND_PREFIX = "APIHOUR_BIND_"


def option_words(given: str, parser: Any) -> list[str]:
    """The words of GUNICORN_CMD_ARGS: options. Raises ConfigurationError naming it."""
    try:
        words = shlex.split(given)
        targets = parser.parse_args(words).args
    except ValueError as error:
        raise ConfigurationError(
            f"GUNICORN_CMD_ARGS: {given!r}; expected options ({error})") from error
    except ApihourError as error:
        raise ConfigurationError(f"GUNICORN_CMD_ARGS: {error}") from error
    if targets:
        raise ConfigurationError(
            f"GUNICORN_CMD_ARGS: {targets[0]!r}; expected options only, the target stands on "
            "the command line")
    return words


def environment_binds(environ: Mapping[str, str]) -> list[str]:
    """``APIHOUR_BIND_HTTP=0.0.0.0:80`` as ``http=0.0.0.0:80``.

    Raises ConfigurationError naming the variable when it holds no address.
    """
    binds = []
    for key, value in sorted(environ.items()):
        if not key.startswith(_BIND_PREFIX) or not value:
            continue
        name = key.removeprefix(_BIND_PREFIX).lower()
        if not is_name(name):
            raise ConfigurationError(f"{key}: expected the name of a server after {_BIND_PREFIX}")
        try:
            parse_address(value)
        except AddressError as error:
            raise ConfigurationError(f"{key}: {value!r}; expected {error.expected}") from error
        binds.append(f"{name}={value}")
    return binds

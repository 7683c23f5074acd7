"""What gunicorn's settings may be: what its own validators take, in words, and what is other here.

Rule: one that is refused is an error that says why, wherever it is set.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from gunicorn.errors import ConfigError
from gunicorn.glogging import SYSLOG_FACILITIES, parse_syslog_address

from apihour.config.values import fail
from apihour.config.verdicts import REFUSED

__all__ = [
    "explained",
    "judge",
    "validate_environment",
    "validate_log_level",
    "validate_syslog_address",
    "validate_syslog_facility",
]

# What gunicorn's validators take, in words; they say only what they did not like.
_TAKES = {
    "validate_bool": "true or false",
    "validate_chdir": "a directory that exists",
    "validate_class": "a class, or its name with its module's",
    "validate_dict": "a dict",
    "validate_group": "the name or number of a group",
    "validate_list_of_files_or_patterns": "files that exist, or patterns",
    "validate_list_string": "a list of texts",
    "validate_pos_int": "a whole number, 0 or more",
    "validate_string": "a text",
    "validate_user": "the name or number of a user",
}
_LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def judge(cls: Any, value: Any) -> Any:
    """What a value of one of gunicorn's settings means. Raises ValueError."""
    if cls.name in REFUSED:
        raise ValueError(f"refused: {REFUSED[cls.name]} (it was given {value!r})")
    if cls.name in _STRICTER:
        return _STRICTER[cls.name](value)
    expected = _takes(cls)
    return (explained(cls.validator, expected, _most(cls)) if expected else cls.validator)(value)


def _takes(cls: Any) -> str | None:
    """What one of gunicorn's settings takes, in words; None when it says so itself."""
    if inspect.isfunction(cls.default):  # a hook
        return f"a function like {cls.name}{inspect.signature(cls.default)}"
    return _TAKES.get(cls.validator.__name__)


def _most(cls: Any) -> int:
    """The largest number the system takes: a mask, a user or group, any other."""
    return {"umask": 0o777, "user": 2**32 - 2, "group": 2**32 - 2}.get(cls.name, 2**31 - 1)


def validate_environment(value: Any) -> list[str]:
    """A list of ``NAME=VALUE``, or one of them."""
    items = [value] if isinstance(value, str) else value or []
    if not isinstance(items, list | tuple):
        raise fail(value, "a list of texts like 'NAME=VALUE'")
    for item in items:
        if not isinstance(item, str) or not item.partition("=")[0].strip() or "=" not in item:
            raise fail(item, "NAME=VALUE")
    return [item.strip() for item in items]


def validate_log_level(value: Any) -> str:
    """The name of a level; gunicorn would take any other for ``info``."""
    if str(value).strip().lower() not in _LOG_LEVELS:
        raise fail(value, f"one of {', '.join(_LOG_LEVELS)}")
    return str(value).strip().lower()


def validate_syslog_address(value: Any) -> Any:
    """Where syslog listens, in one of gunicorn's forms."""
    try:
        parse_syslog_address(value)
    except (RuntimeError, AttributeError, ValueError) as error:
        raise fail(value, "udp://HOST:PORT, tcp://HOST:PORT or unix://PATH") from error
    return value


def validate_syslog_facility(value: Any) -> Any:
    """The name of a facility of syslog(3)."""
    if str(value).lower() not in SYSLOG_FACILITIES:
        raise fail(value, f"one of {', '.join(sorted(SYSLOG_FACILITIES))}")
    return value


def explained(
    validator: Callable[[Any], Any], expected: str, most: int | None = None
) -> Callable[[Any], Any]:
    """One of gunicorn's own validators, which do not say what they expect; numbers to `most`."""

    def validate(value: Any) -> Any:
        try:
            found = validator(value)
        except (TypeError, ValueError, AttributeError, ConfigError) as error:
            raise fail(value, expected) from error
        if most is not None and isinstance(found, int) and not 0 <= found <= most:
            raise fail(value, f"a number from 0 to {most}")
        return found

    return validate


_STRICTER = {
    "loglevel": validate_log_level,
    "raw_env": validate_environment,
    "syslog_addr": validate_syslog_address,
    "syslog_facility": validate_syslog_facility,
}

"""What the value of an option may be that most daemons are not given; as in apihour.config.values.

Rule: pure functions; each raises ValueError with ``VALUE; expected WHAT``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from apihour.bind.addresses import parse_address
from apihour.config.values import fail, validate_text
from apihour.errors import AddressError

__all__ = [
    "seconds",
    "validate_acme",
    "validate_bytes",
    "validate_count",
    "validate_forwarders",
    "validate_plain_address",
    "validate_share",
]

_LONGEST = 365 * 24 * 3600  # seconds; what the system calls take ends somewhere


def validate_forwarders(value: Any) -> str:
    """Addresses and networks, ``unix`` and ``*``, apart by commas; a text or a list."""
    items = value if isinstance(value, list | tuple) else str(value or "").split(",")
    found = [str(item).strip() for item in items if str(item).strip()]
    for item in found:
        try:
            if item not in ("*", "unix"):
                ipaddress.ip_network(item)
        except ValueError as error:
            raise fail(item, "an address, a network such as 10.0.0.0/8, unix or *") from error
    return ",".join(found)


def seconds(minimum: float = 0.0) -> Callable[[Any], float]:
    """A validator of seconds, ``10``, ``10s``, ``5m`` or ``1h``."""

    def validate(value: Any) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value).strip())
        if match is None:
            raise fail(value, "seconds, like 10, 0.5 or 5m")
        result = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
        if result < minimum:
            raise fail(value, f"at least {minimum:g} s")
        if result > _LONGEST:
            raise fail(value, f"at most {_LONGEST} s, a year")
        return result

    return validate


def validate_acme(value: Any) -> str:
    """The URL of an ACME directory: https, or http on this machine."""
    text = str(value).strip()
    if not re.match(r"https://[^/\s]+/|http://(127\.0\.0\.1|localhost|\[::1\])[:/]", text):
        raise fail(value, "the URL of an ACME directory, https://HOST/PATH")
    return text


def validate_bytes(value: Any) -> int:
    """Bytes, ``500M`` or ``2G`` (powers of 1024); 0 means no limit."""
    match = re.fullmatch(r"(\d+)([kKmMgG]?)[iI]?[bB]?", str(value).strip())
    if match is None:
        raise fail(value, "bytes, like 300000000, 500M or 2G")
    size: int = int(match[1]) * 1024 ** " kmg".index(match[2].lower() or " ")
    return size


def validate_count(value: Any) -> int:
    """A whole number, 0 or more."""
    if re.fullmatch(r"\d+", str(value).strip()):
        return int(value)
    raise fail(value, "a whole number, 0 or more")


def validate_share(value: Any) -> float:
    """A share from 0 to 1, or in percent: ``5%``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", str(value).strip())
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0.0 <= share <= 1.0:
        raise fail(value, "a share from 0 to 1, like 0.05 or 5%")
    return share


def validate_plain_address(value: Any) -> str | None:
    """An address for streams of our own, or nothing; never one that asks for TLS."""
    text = validate_text(value)
    if text is None:
        return None
    if re.search(r"[?&](tls|key)\b", text):
        raise fail(value, "an address without tls")
    try:
        address = parse_address(text)
    except AddressError as error:
        raise fail(value, error.expected) from error
    if address.kind != "stream":
        raise fail(value, "an address without udp://")
    return text

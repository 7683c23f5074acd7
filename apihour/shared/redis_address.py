"""Where a Redis or Valkey is, as redis-py has it, which knows no schemes of Valkey's."""

from __future__ import annotations

__all__ = ["SCHEMES", "redis_url"]

SCHEMES = ("redis", "rediss", "unix", "valkey", "valkeys")


def redis_url(url: str) -> str:
    """The URL with a scheme of redis-py's; a host, a path or a password stays what it is."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme.replace('valkey', 'redis')}{mark}{rest}"

"""What of a database's URL may be shown: where it is, and nothing of who asks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from apihour.errors import one_line

__all__ = ["DatabaseAddress"]


@dataclass(frozen=True)
class DatabaseAddress:
    """Host, port and database of a URL."""

    host: str
    port: int | None
    database: str

    @classmethod
    def of(cls, url: str, schemes: Collection[str]) -> Self:
        """Those of `url`. Raises ValueError, without the URL, when it is none of `schemes`."""
        expected = f"expected {' or '.join(f'{scheme}://…' for scheme in schemes)}"
        scheme, mark, _ = url.partition("://")
        if not mark or scheme.partition("+")[0] not in schemes:
            raise ValueError(f"{'a URL of another kind' if mark else 'no URL'}; {expected}")
        try:
            parts = urlsplit(url)
            hosts = parts.netloc.rpartition("@")[2]
            if "," in hosts and "postgresql" in schemes:  # several, of which one is the primary
                return cls(unquote(hosts), None, unquote(parts.path).strip("/"))
            port = parts.port
        except ValueError:
            raise ValueError(f"a URL that cannot be read; {expected} (in a password %2F for /, "
                             "%40 for @, %23 for #, %3F for ?)") from None
        named = parse_qs(parts.query).get("host", [""])[0]
        return cls(unquote(parts.hostname or named or "localhost"), port,
                   unquote(parts.path).strip("/"))

    @staticmethod
    def secrets(url: str) -> set[str]:
        """The passwords in a URL, in each way that a message may have them."""
        try:
            parts = urlsplit(url)
            query = parse_qs(parts.query)
            told = [parts.password, *query.get("password", ()), *query.get("sslpassword", ())]
        except ValueError:
            return {url}
        plain = {unquote(one) for one in told if one} | {one for one in told if one}
        return plain | {quote(one, safe="") for one in plain}

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return one_line(f"{self.host}{port}{f'/{self.database}' if self.database else ''}")

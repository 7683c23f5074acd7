"""Read-only mappings with repeated keys, as requests carry them: headers and queries.

The names are those of multidict (``get``, ``getall``, ``getone``), so that an endpoint
reads the same as an aiohttp handler, without importing it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["Form", "Headers", "Multi"]

_MISSING: Any = object()


class Multi(Mapping[str, str]):
    """Keys in order of arrival, each with one value or more; ``[]`` gives the first."""

    __slots__ = ("_pairs", "_values")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = list(pairs)
        self._values = self._grouped()

    def _grouped(self) -> dict[str, list[str]]:
        values: dict[str, list[str]] = {}
        for key, value in self._pairs:
            values.setdefault(key, []).append(value)
        return values

    def _normal(self, key: str) -> str:
        return key

    def __getitem__(self, key: str) -> str:
        return self._values[self._normal(key)][0]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._normal(key) in self._values

    def __iter__(self) -> Iterator[str]:
        """Every key once for each of its values, as multidict does."""
        return iter([key for key, _ in self._pairs])

    def __len__(self) -> int:
        return len(self._pairs)

    def items(self) -> Any:
        """Every pair, repeated keys repeated."""
        return list(self._pairs)

    def values(self) -> Any:
        """Every value, in order."""
        return [value for _, value in self._pairs]

    def getone(self, key: str, default: Any = _MISSING) -> Any:
        """The first value of `key`; KeyError without one, unless a `default` is given."""
        values = self._values.get(self._normal(key))
        if values is not None:
            return values[0]
        if default is _MISSING:
            raise KeyError(key)
        return default

    def getall(self, key: str, default: Any = _MISSING) -> Any:
        """All values of `key`; KeyError without one, unless a `default` is given."""
        values = self._values.get(self._normal(key))
        if values is not None:
            return list(values)
        if default is _MISSING:
            raise KeyError(key)
        return default

    def held(self, key: str) -> list[str] | None:
        """All values of `key`, for who changes nothing in them; None without one."""
        return self._values.get(key)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Mapping):
            return sorted(self.items()) == sorted(other.items())
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._pairs!r}>"


class Form(Multi):
    """The fields of a form: text, and the files among them."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key)


class Headers(Multi):
    """A :class:`Multi` whose keys know no case (RFC 9110 section 5.1)."""

    __slots__ = ()

    def _grouped(self) -> dict[str, list[str]]:
        values: dict[str, list[str]] = {}
        for key, value in self._pairs:
            values.setdefault(key.lower(), []).append(value)
        return values

    def _normal(self, key: str) -> str:
        return key.lower()

    def held(self, key: str) -> list[str] | None:
        """All values of `key`, whatever its case."""
        return self._values.get(key.lower())

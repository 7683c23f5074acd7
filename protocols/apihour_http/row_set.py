"""The rows of one statement as JSON: ``return RowSet(await pg.fetch(QUERY))``.

Rules:

- A row tells its columns by ``keys()`` and its values by iteration: asyncpg's Record, sqlite3's and
  aiosqlite's Row.
- All rows have the columns of the first, as those of one statement do: nobody looks at each.
- What is sent is what would be sent for a dictionary of each. An encoder that takes the Structs of
  msgspec gets those, which are made and encoded in half the time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import starmap
from typing import Any

__all__ = ["RowSet", "takes_structs"]

_KINDS = 256  # sets of columns that are remembered, with some kB for each


class RowSet:
    """An answer: an array of objects, one for each of `rows`, which are of one statement.

    Raises TypeError for rows that do not name their columns, or do not have the same.
    """

    __slots__ = ("names", "rows")

    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = rows
        self.names = _names(rows[0]) if rows else ()
        if rows and _names(rows[-1]) != self.names:
            raise TypeError(f"RowSet: columns {self.names} and {_names(rows[-1])}: expected the "
                            "rows of one statement")

    def __len__(self) -> int:
        return len(self.rows)

    def plain(self) -> list[dict[str, Any]]:
        """A dictionary for each. Raises ValueError for one that has more or fewer columns."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]

    def structs(self) -> list[Any]:
        """A Struct for each; dictionaries where two columns have the same name.

        Raises TypeError for a row that has more or fewer columns than the first.
        """
        kind = _kind(self.names)
        return list(starmap(kind, self.rows)) if kind is not None else self.plain()

    def __repr__(self) -> str:
        return f"<RowSet: {len(self.rows)} of {', '.join(self.names)}>"


def _names(row: Any) -> tuple[str, ...]:
    keys = getattr(row, "keys", None)
    if keys is None or isinstance(row, Mapping):
        raise TypeError(f"RowSet: a {type(row).__name__}: expected rows that have keys() and "
                        "iterate over their values; a list of dicts is returned as it is")
    return tuple(keys())


@lru_cache(_KINDS)
def _kind(names: tuple[str, ...]) -> Any:
    """A Struct with these columns; None when two have the same name."""
    if len(set(names)) != len(names):
        return None
    import msgspec

    fields = [f"field{number}" for number in range(len(names))]
    return msgspec.defstruct("Row", [(field, Any) for field in fields], gc=False,
                             rename=dict(zip(fields, names, strict=True)))


def takes_structs(dumps: Callable[[Any], str | bytes]) -> bool:
    """Whether `dumps` makes of a Struct what it makes of a dictionary."""
    if "msgspec" not in sys.modules:
        return False
    names = "a", "b c"
    try:
        return dumps([_kind(names)(1, "x")]) == dumps([dict(zip(names, (1, "x"), strict=True))])
    except Exception:  # any encoder, with an error of its own for what it does not take
        return False

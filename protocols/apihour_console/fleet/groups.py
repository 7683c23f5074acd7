"""Rows counted in groups: ``conns --by peer``, ``tasks --by where``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from apihour.bind.peers import host_of
from apihour.ops.annotations import Bytes, Seconds

__all__ = ["ConnectionGroup", "TaskGroup", "group_connections", "group_tasks"]

AnyRow = Mapping[str, Any]


@dataclass(frozen=True)
class ConnectionGroup:
    """Connections that have one thing in common; `oldest` is the age of the oldest."""

    count: int
    oldest: Seconds
    requests: int
    bytes_in: Bytes
    bytes_out: Bytes
    workers: int

    @classmethod
    def of(cls, rows: list[AnyRow]) -> ConnectionGroup:
        """The group of those rows. A size that is not known counts as nothing."""
        return cls(
            len(rows), max(row["age"] for row in rows), sum(row["requests"] for row in rows),
            sum(max(0, row["bytes_in"]) for row in rows),
            sum(max(0, row["bytes_out"]) for row in rows), _workers(rows),
        )


@dataclass(frozen=True)
class TaskGroup:
    """Tasks that have one thing in common; `oldest` is the age of the oldest."""

    count: int
    oldest: Seconds
    workers: int

    @classmethod
    def of(cls, rows: list[AnyRow]) -> TaskGroup:
        """The group of those rows."""
        return cls(len(rows), max(row["age"] for row in rows), _workers(rows))


def group_connections(rows: Iterable[AnyRow], by: str) -> list[dict[str, Any]]:
    """Connections by a column, most first; peers by their address without its port."""
    return _grouped(rows, by, host_of if by == "peer" else str, ConnectionGroup.of)


def group_tasks(rows: Iterable[AnyRow], by: str) -> list[dict[str, Any]]:
    """Tasks by a column, most first."""
    return _grouped(rows, by, str, TaskGroup.of)


def _grouped(
    rows: Iterable[AnyRow], by: str, key: Callable[[str], str], fold: Callable[[list[AnyRow]], Any],
) -> list[dict[str, Any]]:
    groups: dict[str, list[AnyRow]] = {}
    for row in rows:
        groups.setdefault(key(str(row[by])), []).append(row)
    found = [{by: name, **asdict(fold(members))} for name, members in groups.items()]
    return sorted(found, key=lambda row: (-row["count"], row[by]))


def _workers(rows: list[AnyRow]) -> int:
    return len({row["worker"] for row in rows})

"""What operators have said of servers while they serve: suspended ones, and options.

Rules:

- The truth is one file of the runtime directory, so it holds for every worker, those that start
  later too, across reloads and upgrades, until it is taken back. Only the arbiter writes it, a
  whole file at a time; workers look whether it is another one.
- Each order changes what it names and nothing else: two operators do not undo each other's.
- A server that is gone by a reload keeps what was said of it; it may come back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apihour.ipc.state_files import replace_json
from apihour.limits.bind_options import NAMES, BindOptions, parse_options

__all__ = ["LiveBook", "LiveOrder", "read_live"]

_MOST = 1000  # servers about which something is said
_NAME = 200  # characters of a server's or an operator's name


@dataclass(frozen=True)
class LiveOrder:
    """What holds for one server: by whom last, and since when (a time of day)."""

    suspended: bool = False
    options: BindOptions | None = None
    by: str = ""
    since: float = 0.0


def read_live(path: Path) -> dict[str, LiveOrder]:
    """What was said, by server; nothing where there is no file.

    Raises OSError, and ValueError when it holds something else.
    """
    try:
        return {
            name: LiveOrder(bool(one["suspended"]), parse_options(one["options"]), str(one["by"]),
                       float(one["since"]))
            for name, one in _read(path).items()}
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: {error!r}; expected what the arbiter writes, or no file"
                         ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


class LiveBook:
    """The arbiter's side: the only one that writes the file. OSError: it could not."""

    def __init__(self, path: Path, owner: tuple[int, int]) -> None:
        self._path = path
        self._owner = owner

    def suspend(self, server: str, is_suspended: bool, by: str) -> None:
        """Have that server accept nothing, or accept again. Raises ValueError, OSError."""
        self._change(server, by, suspended=is_suspended)

    def limit(self, server: str, given: Mapping[str, str], by: str) -> None:
        """Have these options hold for it. Raises ValueError, OSError; then nothing has changed."""
        parse_options(given)
        self._change(server, by, options=dict(given))

    def reset(self, server: str, names: list[str], by: str) -> None:
        """Take those options back, or all. Raises ValueError, OSError."""
        for name in names:
            if name not in NAMES:
                raise ValueError(f"one of the options {', '.join(NAMES)}, not {name!r:.60}")
        self._change(server, by, gone=names or list(NAMES))

    def _change(
        self, server: str, by: str, *, suspended: bool | None = None,
        options: Mapping[str, str] | None = None, gone: list[str] | None = None,
    ) -> None:
        read_live(self._path)  # what is damaged is not made worse
        everything = _read(self._path)
        one = everything.pop(server, {"suspended": False, "options": {}})
        if suspended is not None:
            one["suspended"] = suspended
        kept = {name: text for name, text in one["options"].items() if name not in (gone or ())}
        one["options"] = {**kept, **(options or {})}
        if one["suspended"] or one["options"]:
            one["by"], one["since"] = by[:_NAME], time.time()
            everything[server[:_NAME]] = one
        if len(everything) > _MOST:
            raise ValueError(f"fewer than {_MOST} servers about which something is said")
        replace_json(self._path, everything, self._owner)

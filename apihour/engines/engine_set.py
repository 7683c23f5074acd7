"""Which engines a container has: those of ``make_engines()``, and those of its configuration.

Rules:

- A section ``engines: NAME:`` of the configuration changes the engine of that name, or makes one:
  of the kind that ``kind`` says, else of the one it is called by, else of its URL's.
- Kinds are entry points of the group ``apihour.engines``.
- All are started at once, and closed backwards, after a partial start as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from apihour.errors import ConfigurationError, one_line
from apihour.masking import mask_text
from apihour.resources import Engine, EngineContext
from apihour.secret import read_secret

__all__ = ["GROUP", "EngineSet", "declare"]

GROUP = "apihour.engines"


def declare(made: Any, sections: Any) -> dict[str, Engine]:
    """The engines by name. Raises ConfigurationError naming what is wrong."""
    if not isinstance(made, Mapping):
        raise ConfigurationError(f"make_engines() returned {ascii(made)[:100]}; expected a dict "
                                 "of engines by name")
    if not isinstance(sections, Mapping | None):
        raise ConfigurationError(f"engines: a {type(sections).__name__}; expected a mapping of "
                                 "engine name to options")
    found: dict[str, Engine] = {}
    for name, engine in made.items():
        if not isinstance(engine, Engine) or isinstance(engine, type):
            raise ConfigurationError(f"engine {name!r}: {mask_text(ascii(engine))[:100]}; "
                                     "expected one of apihour.engines, or of its shape")
        found[name] = engine
    for name, options in (sections or {}).items():
        found[name] = _configured(str(name), found.get(name), options)
    return found


def _configured(name: str, engine: Engine | None, options: Any) -> Engine:
    if not isinstance(options, Mapping | None):
        raise ConfigurationError(f"engines: {name!r}: a {type(options).__name__}; expected a "
                                 "mapping of option to value")
    given = dict(options or {})
    try:
        if engine is not None:
            return engine.configured(given)
        made: Engine = _kind(name, given)(**given)
        return made
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"engines: {name!r}: {one_line(str(error))}") from None


def _kind(name: str, given: dict[str, Any]) -> Callable[..., Any]:
    """The class of an engine; takes ``kind`` out of its options. Raises ValueError."""
    kinds = {entry.name: entry for entry in sorted(entry_points(group=GROUP))}
    kind = given.pop("kind", None)
    if kind is None and name in kinds:
        kind = name
    if kind is not None:
        if kind not in kinds:
            raise ValueError(f"kind {kind!r}; expected one of {', '.join(kinds)}")
        return _load(kinds[kind])
    scheme = read_secret(str(given.get("url", ""))).partition("://")[0].partition("+")[0]
    for entry in kinds.values():
        made = _load(entry)
        if scheme in getattr(made, "schemes", ()):
            return made
    raise ValueError(f"expected its kind: one of {', '.join(kinds)}, or a url of one of them")


def _load(entry: EntryPoint) -> Callable[..., Any]:
    try:
        loaded: Callable[..., Any] = entry.load()
    except Exception as error:
        raise ConfigurationError(f"engines of kind {entry.name!r}: {entry.value} cannot be "
                                 f"loaded: {error!r}") from error
    return loaded


class EngineSet:
    """The engines of one container, through their life."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = dict(engines)
        self._logger = logging.getLogger("gunicorn.error")

    async def start(
        self, container: Any, shared: Any, begin: Callable[[str], None] = lambda what: None
    ) -> None:
        """Start all of them; `begin` hears what is under way. Raises the first failure."""
        loop = asyncio.get_running_loop()
        named = ", ".join(map(repr, self._engines))
        begin(f"engine{'s' if len(self._engines) > 1 else ''} {named}: the start")
        tasks = [
            loop.create_task(engine.start(EngineContext(
                name, container, loop, self._logger, shared)))
            for name, engine in self._engines.items()
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close all of them; what one raises is logged."""
        for name, engine in reversed(self._engines.items()):
            try:
                await engine.close()
            except Exception:
                self._logger.exception("engine %r: its close failed", name)

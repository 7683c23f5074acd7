"""What a client in memory speaks to: the server of routes, of an application, of a container.

Rules:

- A container lives as in a worker: ``pre_start``, its engines, ``make_servers``, ``start``, its
  server's start; then, backwards, ``shutdown`` and ``cleanup``, after a failed start too.
- It has no daemon: ``worker`` has a name, a store that all its clients in this test share, and in
  ``worker.cfg.keys`` a directory for keys that nobody has made.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from apihour_http.routing.routes import Routes
from apihour_http.server import HTTPServer

__all__ = ["living"]

_log = logging.getLogger("apihour_http.testing")


@asynccontextmanager
async def living(
    served: Any, name: str, config: dict[str, Any] | None,
    overrides: dict[Any, Any] | None = None, patience: float = 10.0,
) -> AsyncIterator[tuple[Any, Any]]:
    """Start what is `served`, and stop it; `name` is that of a container's server.

    Work behind answers (``request.after``) and in the background (``container.jobs``) is waited
    for as in a worker, for `patience` seconds. Yields the server, and the container if it has one.

    `overrides` provide arguments in the place of engines, which are not started, and functions.

    Raises TypeError for what cannot be served, ValueError for a name that there is not.
    """
    if not hasattr(served, "make_servers"):
        async with _serving(_as_server(served), None, overrides, patience) as server:
            yield server, None
        return
    with tempfile.TemporaryDirectory(prefix="apihour-test-") as directory:
        container = _container(served, config or {}, Path(directory))
        try:
            await _hook(container, "pre_start")
            if hasattr(container, "open_engines"):
                await container.open_engines(without=overrides or ())
            servers = await _called(container.make_servers)
            container.servers = servers
            await _hook(container, "start")
            chosen = _as_server(_chosen(servers, name))
            async with _serving(chosen, container, overrides, patience) as server:
                yield server, container
                await _hook(container, "shutdown")
            await _end_jobs(container, patience)
        finally:
            await _hook(container, "cleanup")
            await _hook(container, "close_made")


async def _end_jobs(container: Any, patience: float) -> None:
    jobs = vars(container).get("jobs")  # made on first use
    if jobs is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await jobs.drain()
        await jobs.close()


@asynccontextmanager
async def _serving(
    server: Any, container: Any, overrides: dict[Any, Any] | None, patience: float
) -> AsyncIterator[Any]:
    if overrides:
        server.overrides = overrides
    try:
        await server.start(SimpleNamespace(container=container, logger=_log))
        yield server
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await server.drain(asyncio.get_running_loop().time() + patience)
    finally:
        await server.stop()


def _container(served: Any, config: dict[str, Any], directory: Path) -> Any:
    if not isinstance(served, type):
        return served
    worker = SimpleNamespace(
        name="test", runtime=SimpleNamespace(path=directory, shared=directory / "shared"),
        cfg=SimpleNamespace(keys=str(directory / "keys")))
    return served(config, worker, asyncio.get_running_loop())


def _chosen(servers: Any, name: str) -> Any:
    if not isinstance(servers, dict):
        raise TypeError(f"make_servers() returned {ascii(servers)[:100]}: expected a dict of "
                        "servers by name")
    if name not in servers:
        raise ValueError(f"server {name!r}: expected one of {', '.join(servers) or 'none'}, "
                         "Client(…, server=NAME)")
    return servers[name]


def _as_server(served: Any) -> Any:
    if isinstance(served, Routes):
        return HTTPServer(served)
    if all(callable(getattr(served, name, None)) for name in ("start", "stream", "stop")):
        return served
    # Found where apihour finds it: this package imports no other plugin.
    for found in entry_points(group="apihour.protocols", name="asgi"):
        plugin = found.load()
        if plugin.accepts(served, "stream"):
            return plugin.adapt(served, "stream")
    try:
        return HTTPServer(app=served)
    except TypeError:
        raise TypeError(f"Client({ascii(served)[:100]}): expected Routes, an HTTPServer or "
                        "ASGIServer, an aiohttp.web.Application, an ASGI application, a container, "
                        "or the URL of a server that runs") from None


async def _hook(container: Any, name: str) -> None:
    if hasattr(container, name):
        await _called(getattr(container, name))


async def _called(function: Any) -> Any:
    result = function()
    return await result if inspect.isawaitable(result) else result

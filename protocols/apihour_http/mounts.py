"""Applications under paths of one server, beside its routes and its application.

Rules:

- Routes come first, then the mount with the longest path that the target is under, then the
  application; without one the routes answer for what is nobody's.
- A mounted application's host comes from the plugin that accepts it and can mount
  (:class:`apihour_http.hosting.MountingPlugin`); it gets whole targets, and knows its path.
- A server without mounts has nothing of this, and pays nothing for it.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import entry_points
from typing import Any

from apihour_http.head import HeadChecker
from apihour_http.hosting import Host, HostedSide
from apihour_http.routing.routes import Match, Methods
from apihour_http.routing.table import Table

__all__ = ["MountHost", "MountTable", "make_mounts"]

_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")
_DOTS = {".", ".."}
_HOSTED: Match = ({}, {})


class Nobody(dict[bytes, Any]):
    """What is found at a target that no route claims, and no mount: for the routes to answer."""

    def __bool__(self) -> bool:
        return True


_NOBODY: Match = (Nobody(), {})


def make_mounts(mounts: Mapping[str, Any], app: Any) -> tuple[dict[str, Host], Any]:
    """The hosts of what is mounted, by path, and the application: what is mounted at ``/``.

    Raises TypeError or ValueError for what cannot be.
    """
    if not isinstance(mounts, Mapping):
        raise TypeError(f"option mounts={mounts!r}: expected applications by their paths")
    hosts: dict[str, Host] = {}
    for path, mounted in mounts.items():
        if path == "/":
            if app is not None:
                raise ValueError("mount '/': expected no other application than app=")
            app = _host_of(path, "", mounted)
        elif not isinstance(path, str) or not _PATH.fullmatch(path) or _DOTS & {*path.split("/")}:
            raise ValueError(f"mount {path!r}: expected a path such as /shop, without a slash at "
                             "its end")
        else:
            hosts[path] = _host_of(path, path, mounted)
    return hosts, app


def _host_of(path: str, root: str, mounted: Any) -> Host:
    takers = [plugin for found in entry_points(group="apihour.protocols")
              if (plugin := found.load()).accepts(mounted, "stream")]
    if len(takers) == 1 and hasattr(takers[0], "mounted"):
        host: Host = takers[0].mounted(mounted, root)
        return host
    hint = "; an aiohttp application has add_subapp()" if takers else ""
    raise TypeError(f"mount {path!r}: {mounted!r:.100}: expected an application of ASGI or WSGI"
                    f"{hint}")


class MountHost:
    """Runs `mounts`, by path, and `rest`, the application; connects connections to them."""

    def __init__(self, mounts: Mapping[str, Host], rest: Host | None, checker: HeadChecker) -> None:
        self._checker = checker
        self._rest = rest
        self._started: list[Host] = []
        self._mounts: Sequence[tuple[bytes, Host]] = sorted(
            ((path.encode(), host) for path, host in mounts.items()),
            key=lambda mount: len(mount[0]), reverse=True)
        self.has_rest = rest is not None
        self.requests: Counter[str] = Counter(dict.fromkeys(mounts, 0))
        """By path, since the start."""

    async def start(self, container: Any, logger: Any, debug: bool) -> None:
        """Start all of them. Raises what a start-up raises."""
        rest = [self._rest] if self._rest is not None else []
        for host in (*rest, *(host for _, host in reversed(self._mounts))):
            self._started.append(host)
            await host.start(container, logger, debug)

    async def wait_idle(self) -> None:
        """Return when no call of a mounted application is under way."""
        await asyncio.gather(*(
            host.wait_idle() for host in self._started if hasattr(host, "wait_idle")))

    async def stop(self) -> None:
        """End those that were started, the last first. Raises what one of them raises."""
        async with AsyncExitStack() as stack:
            started, self._started = self._started, []
            for host in started:
                stack.push_async_callback(host.stop)

    def find(self, method: bytes, target: bytes) -> tuple[bytes, Host | None]:
        """Whose a target is that was judged, and under which path; that is empty for the rest."""
        if target[:1] != b"/":
            target = self._checker.check_target(method, target)
        path = target.partition(b"?")[0].partition(b"#")[0]
        for prefix, host in self._mounts:
            if path.startswith(prefix) and path[len(prefix):len(prefix) + 1] in (b"", b"/"):
                return prefix, host
        return b"", self._rest

    def connect(self, lane: Any) -> MountSide:
        """The applications' side of one connection."""
        return MountSide(self, lane)


class MountSide:
    """The side of one connection: that of the application which its current request is for."""

    __slots__ = ("_host", "_lane", "_sides")

    def __init__(self, host: MountHost, lane: Any) -> None:
        self._host = host
        self._lane = lane
        self._sides: dict[Host, HostedSide] = {}

    def exchange(self, method: bytes, target: bytes, *head: Any) -> Any:
        """The exchange of a head that was judged, made by whom it is for."""
        prefix, host = self._host.find(method, target)
        assert host is not None
        if prefix:
            self._host.requests[prefix.decode()] += 1
        if host not in self._sides:
            self._sides[host] = host.connect(self._lane)
        return self._sides[host].exchange(method, target, *head)

    def serve(self, exchange: Any) -> Any:
        """The coroutine that runs an exchange."""
        return exchange.hosted.serve(exchange)

    @property
    def _side(self) -> Any:
        """That of the exchange that is being answered."""
        return getattr(self._lane.current, "hosted", None)

    @property
    def running(self) -> Any:
        """The exchange that is being answered."""
        return getattr(self._side, "running", None)

    def must_know_of_end(self) -> bool:
        """The client sends no more: whether it is taken for gone."""
        side = self._side
        return side is not None and bool(side.must_know_of_end())

    def route(self) -> str:
        """What of the application answers."""
        side = self._side
        return side.route() if side is not None else ""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        for side in self._sides.values():
            side.connection_lost(exc)
        self._sides.clear()

    def announce_close(self) -> None:
        """The server drains."""
        for side in self._sides.values():
            side.announce_close()

    def goodbye(self) -> Any:
        """The server drains: an accepted WebSocket is told."""
        return self._side.goodbye()

    def pause_writing(self) -> None:
        """The client does not read."""
        for side in self._sides.values():
            side.pause_writing()

    def resume_writing(self) -> None:
        """The client reads on."""
        for side in self._sides.values():
            side.resume_writing()


class MountTable(Table):
    """Routes that leave what is under a mount to it."""

    __slots__ = ("_mounts",)

    def __init__(self, *words: Any, mounts: MountHost) -> None:
        super().__init__(*words)
        self._mounts = mounts

    def resolver(self) -> Any:
        """What finds the endpoints of a method and target."""
        return self.resolve

    def resolve(self, method: bytes, target: bytes) -> Match:
        """What is declared at `target`, or whose it is. Raises BadRequest."""
        found = super().resolve(method, target)
        methods: Methods = found[0]
        if method in methods or (methods and method in (b"HEAD", b"OPTIONS")) or target == b"*":
            return found
        if self._mounts.find(method, target)[0]:
            return _HOSTED
        return found if methods or self._mounts.has_rest else _NOBODY

    def stand_in(self, method: bytes, methods: Methods, fields: Any) -> Any:
        """The endpoint for what no route claims, and no mount."""
        return super().stand_in(method, {} if isinstance(methods, Nobody) else methods, fields)

"""What a protocol plugin is, and the registry that finds the one for an object.

Rules:

- A plugin is structural: it need not import this package. The entry point (group
  ``apihour.protocols``) names an object of the shape :class:`Plugin`.
- :meth:`Plugin.accepts` imports nothing: an object of a library that was never imported
  is not of that library. So a missing optional library costs nothing.
- Registration validates fully, then stores. Two plugins that accept one object are an
  error that names both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol, cast, runtime_checkable

from apihour.errors import AdaptError, PluginError

__all__ = [
    "GROUP",
    "BannedAddresses",
    "Connection",
    "Plugin",
    "Registry",
    "Server",
    "ServerContext",
    "SocketKind",
]

GROUP = "apihour.protocols"
SocketKind = Literal["stream", "datagram"]


class BannedAddresses(Protocol):
    """Who is banned; what comes from there is refused before a server sees it.

    A server that is told by a proxy who its client is refuses that one by itself.
    """

    watchers: list[Callable[[], None]]
    """Called in the loop whenever it is somebody else."""

    def __len__(self) -> int:
        """0 when nobody is."""

    def refuses(self, peer: Any) -> bool:
        """Whether a client with that address, a tuple of host and port, is; counts it."""


@dataclass(frozen=True)
class ServerContext:
    """What a server is told when it starts: who it is and where it runs.

    Times are in seconds. ``container`` is the worker's container, ``limits`` what
    ``--limit-request-*`` options were given (``line`` and ``field_size`` in bytes, ``fields``
    a number), ``forwarded_allow_ips`` who is believed about clients (addresses, networks,
    ``unix``, ``*``, apart by commas), ``options`` are the configuration file's for this server
    (``servers: NAME:``), ``bans`` who is banned. ``challenges`` finds the text that an HTTP server
    answers at ``/.well-known/acme-challenge/TOKEN`` (RFC 8555 8.3), None where there is none.
    """

    name: str
    container: Any
    loop: asyncio.AbstractEventLoop
    logger: logging.Logger
    keepalive: float = 75.0
    linger: float = 75.0
    graceful_timeout: float = 30.0
    access_log: logging.Logger | None = None
    access_log_format: str = ""
    debug: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)
    forwarded_allow_ips: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    bans: BannedAddresses | None = None
    challenges: Callable[[str], str | None] | None = None


@runtime_checkable
class Server(Protocol):
    """One servable thing, as a plugin makes it. Beside these methods it has at least one of

    - ``stream(conn) -> asyncio.Protocol``: called for every accepted connection;
    - ``datagram() -> asyncio.DatagramProtocol``: called once per UDP bind and worker;
    - ``async listener(sock)``: for a library that insists on accepting by itself. It has
      the stages of accepting no longer, so it cannot be served on a ``?tls`` bind.

    An attribute ``alpn``, a sequence of names as IANA registers them (``("http/1.1",)``), is
    what its TLS binds offer by ALPN (RFC 7301). ``takes_options = True`` says that it obeys
    ``ServerContext.options``; without it a section ``servers: NAME:`` is refused. A method
    ``examine(limits, options)`` raises for those of the context that ``start`` would refuse;
    ``apihour check`` calls it, and nothing may be started or opened by it.
    ``optional_tls``, seconds, says that on a ``?tls`` bind it takes connections that begin no
    handshake, or nothing within that time, as they are.
    ``gauges`` names the figures of ``statistics()`` that fall as well as rise; others are counters.
    ``is_shell = True`` says that the daemon's console serves its binds with the attribute
    ``options``, and no worker does, unless ``in_worker`` is true.
    """

    protocol: str
    """Name of the protocol it speaks: ``http``, ``ssh``, ``tcp``, ``udp``, ``asgi``..."""

    async def start(self, context: ServerContext | None = None) -> None:
        """Get ready; the first connection comes after this returned."""

    async def drain(self, deadline: float) -> None:
        """Say goodbye in the protocol's words; return when the last connection is gone.

        `deadline` is a time of ``loop.time()``. Accepting has stopped already. The core
        cancels a drain that passes its deadline.
        """

    async def stop(self) -> None:
        """Close what is left, at once. Called after a partial start as well."""

    def statistics(self) -> Mapping[str, Any]:
        """Counters since start, JSON-able: ``requests``, ``responses`` by class (``{"5xx": 1}``)
        and the like."""


class Connection(Protocol):
    """What a protocol gets of its connection: the row that it may annotate.

    ``state`` is one of the protocol's own words, ``requests`` its count; ``tls`` is what the
    handshake agreed on, None for a plain connection; ``peer_address`` is the client's also where
    a proxy said who that is, and ``proxied`` then all that it said, else None.
    """

    state: str
    requests: int
    tls: Any
    alpn: str | None
    transport: asyncio.Transport | None
    peer_address: Any
    proxied: Any

    @property
    def local(self) -> Any:
        """The address at which it came in."""

    def close(self, reason: str = "") -> None:
        """Abort the connection; must be called in the loop."""

    def move(self, server: str, protocol: str) -> None:
        """Have the tables show it as one of `server`, ``NAME/PART``, which speaks `protocol`."""


class StreamServer(Server, Protocol):
    """A server of stream connections (TCP, unix)."""

    def stream(self, conn: Connection | None = None) -> asyncio.BaseProtocol:
        """Return the protocol of one new connection; `conn` is its row in the table."""


class Plugin(Protocol):
    """One entry of the registry."""

    name: str
    """Short name, unique: ``http``."""
    describes: str
    """What it accepts, for people: ``aiohttp.web.Application, apihour_http.HTTPServer``."""

    def accepts(self, obj: object, kind: SocketKind) -> bool:
        """Whether `obj` can be served by this plugin on a bind of that kind; never raises."""

    def adapt(self, obj: Any, kind: SocketKind) -> Server:
        """Turn `obj` into a server. Raises ImportError naming the extra when one is missing."""


def is_server(obj: object, kind: SocketKind) -> bool:
    """Whether `obj` has the shape of :class:`Server` for that kind of bind already."""
    if isinstance(obj, type) or not isinstance(obj, Server):
        return False
    return callable(getattr(obj, kind, None)) or callable(getattr(obj, "listener", None))


def is_shell(server: object) -> bool:
    """Whether the console serves that server's binds: the workers leave its listeners alone."""
    return bool(getattr(server, "is_shell", False)) and not getattr(server, "in_worker", False)


class Registry:
    """The plugins by name, and :meth:`adapt`, which picks the one for an object."""

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        self._plugins: dict[str, Plugin] = {}
        self.unusable: dict[str, str] = {}
        for plugin in plugins:
            self.register(plugin)

    @classmethod
    def from_entry_points(cls) -> Registry:
        """Load every installed plugin of the group, in the order of their names.

        One that cannot be loaded is kept in ``unusable`` with the reason: it must not take
        the servers of the others down. Raises PluginError for one that is no plugin.
        """
        registry = cls()
        for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
            try:
                plugin = entry.load()
            except Exception as error:
                registry.unusable[entry.name] = f"{entry.value} cannot be loaded: {error!r}"
                continue
            registry.register(cast(Plugin, plugin), expected_name=entry.name)
        return registry

    def register(self, plugin: Plugin, expected_name: str | None = None) -> None:
        """Add a plugin. Raises PluginError when it lacks a part or its name is taken."""
        name = getattr(plugin, "name", None)
        if not isinstance(name, str) or not name:
            raise PluginError(f"plugin {plugin!r}: expected a non-empty text attribute 'name'")
        if expected_name is not None and name != expected_name:
            raise PluginError(f"plugin {name!r}: its entry point is called {expected_name!r}")
        if not isinstance(getattr(plugin, "describes", None), str):
            raise PluginError(f"plugin {name!r}: expected a text attribute 'describes'")
        for method in ("accepts", "adapt"):
            if not callable(getattr(plugin, method, None)):
                raise PluginError(f"plugin {name!r}: expected a method {method!r}(obj, kind)")
        if name in self._plugins:
            raise PluginError(
                f"plugin {name!r}: the name is taken by {self._plugins[name]!r}, "
                f"so {plugin!r} cannot have it"
            )
        self._plugins[name] = plugin

    def __iter__(self) -> Any:
        return iter([self._plugins[name] for name in sorted(self._plugins)])

    def accepts(self, obj: object, kind: SocketKind) -> bool:
        """Whether any plugin would serve `obj` on a bind of that kind."""
        return any(plugin.accepts(obj, kind) for plugin in self)

    def adapt(self, obj: object, kind: SocketKind, name: str = "?") -> Server:
        """Return the server for `obj`, the entry `name` of ``make_servers()``.

        Raises AdaptError naming the object and the plugins asked, when none or several
        accept it, or when the one that does lacks its library.
        """
        if is_server(obj, kind):
            return cast(Server, obj)
        takers = [plugin for plugin in self if plugin.accepts(obj, kind)]
        if len(takers) != 1:
            from apihour.mistakes import refusal  # read where a server is a mistake only

            raise AdaptError(f"server {name!r}: {refusal(obj, kind, self, takers)}")
        try:
            server: object = takers[0].adapt(obj, kind)
        except ImportError as error:
            raise AdaptError(f"server {name!r}: plugin {takers[0].name!r}: {error}") from error
        if not is_server(server, kind):
            raise AdaptError(
                f"server {name!r}: plugin {takers[0].name!r} made {server!r}, which lacks "
                f"one of start, drain, stop, statistics, protocol or {kind}"
            )
        return cast(Server, server)

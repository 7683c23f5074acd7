"""What registers a Proxy with apihour (entry point ``proxy``)."""

from __future__ import annotations

from typing import Any

from apihour_proxy.proxy import Proxy

__all__ = ["plugin"]


class _ProxyPlugin:
    """Other servers behind a stream bind."""

    name = "proxy"
    describes = "apihour_proxy.Proxy: passes connections on to other servers"

    def accepts(self, obj: object, kind: str) -> bool:
        """Whether `obj` is a Proxy."""
        return kind == "stream" and isinstance(obj, Proxy)

    def adapt(self, obj: Any, kind: str) -> Proxy:
        """Return `obj`: it is a server."""
        assert isinstance(obj, Proxy)
        return obj


plugin = _ProxyPlugin()

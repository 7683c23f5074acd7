"""What registers a Mux with apihour (entry point ``mux``)."""

from __future__ import annotations

from typing import Any

from apihour_mux.mux import Mux

__all__ = ["plugin"]


class _MuxPlugin:
    """Several protocols on a stream bind."""

    name = "mux"
    describes = "apihour_mux.Mux: several of the others on one bind"

    def accepts(self, obj: object, kind: str) -> bool:
        """Whether `obj` is a Mux."""
        return kind == "stream" and isinstance(obj, Mux)

    def adapt(self, obj: Any, kind: str) -> Mux:
        """Return `obj`: it is a server."""
        assert isinstance(obj, Mux)
        return obj


plugin = _MuxPlugin()

"""What registers gRPC services with apihour (entry point ``grpc``).

Rule: ``accepts`` imports nothing and calls nothing of the user's.
"""

from __future__ import annotations

from typing import Any

from apihour_grpc.server import GRPCServer

__all__ = ["plugin"]


class _GRPC:
    """gRPC services on stream binds."""

    name = "grpc"
    describes = "apihour_grpc.GRPCServer, a service of grpclib's generated code"

    def accepts(self, obj: object, kind: str) -> bool:
        """Whether `obj` is a server of this package, or a service with ``__mapping__``."""
        return kind == "stream" and (isinstance(obj, GRPCServer) or (
            not isinstance(obj, type) and callable(getattr(obj, "__mapping__", None))))

    def adapt(self, obj: Any, kind: str) -> GRPCServer:
        """Return `obj` as a GRPCServer. Raises ImportError when nothing speaks HTTP."""
        return obj if isinstance(obj, GRPCServer) else GRPCServer(obj)


plugin = _GRPC()

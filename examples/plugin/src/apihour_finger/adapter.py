"""What the entry point names: it knows a FingerServer when it sees one."""

from __future__ import annotations

from typing import Any

from apihour_finger.server import FingerServer

__all__ = ["plugin"]


class _Finger:
    name = "finger"  # that of the entry point
    describes = "apihour_finger.FingerServer"

    def accepts(self, obj: object, kind: str) -> bool:
        return kind == "stream" and isinstance(obj, FingerServer)

    def adapt(self, obj: Any, kind: str) -> FingerServer:
        assert isinstance(obj, FingerServer)
        return obj


plugin = _Finger()

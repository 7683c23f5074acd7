"""The finger protocol (RFC 1288): one line asked, an answer, and the connection is closed."""

from apihour_finger.server import Directory, FingerServer

__all__ = ["Directory", "FingerServer"]

"""What registers WSGI applications with apihour (entry point ``wsgi``).

Rules:

- A WSGI application is known by the names of its two parameters, of which one must be as PEP 3333
  has it (``environ``, or ``env``, and ``start_response``), or by a method ``wsgi_app`` (Flask's).
  One that names them otherwise is given as ``WSGIServer(app)``.
- A class is one when its instances are the answer (PEP 3333, the second example).
- ``accepts`` imports nothing and calls nothing of the user's.
"""

from __future__ import annotations

import inspect
from typing import Any

from apihour_wsgi.mounted import MountedWSGI
from apihour_wsgi.server import WSGIServer

__all__ = ["plugin"]

_ENVIRON = {"environ", "env"}


def _is_wsgi(obj: object) -> bool:
    if not callable(obj) or inspect.iscoroutinefunction(obj):
        return False
    if isinstance(obj, type) and not hasattr(obj, "__iter__"):
        return False
    # Flask keeps it beside its __call__.
    if not isinstance(obj, type) and callable(getattr(obj, "wsgi_app", None)):
        return True
    try:
        names = list(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        return False
    return len(names) == 2 and (names[0] in _ENVIRON or names[1] == "start_response")


class _WSGI:
    """WSGI applications on stream binds."""

    name = "wsgi"
    describes = "WSGI application: callable (environ, start_response), apihour_wsgi.WSGIServer"

    def accepts(self, obj: object, kind: str) -> bool:
        """Whether `obj` is a WSGI application."""
        return kind == "stream" and (isinstance(obj, WSGIServer) or _is_wsgi(obj))

    def adapt(self, obj: Any, kind: str) -> WSGIServer:
        """Return `obj` as a WSGIServer. Raises ImportError when nothing speaks HTTP."""
        return obj if isinstance(obj, WSGIServer) else WSGIServer(obj)

    def mounted(self, obj: Any, path: str) -> MountedWSGI:
        """What runs `obj`, an application or a WSGIServer, under `path` of a server of HTTP."""
        return self.adapt(obj, "stream").mounted(path)


plugin = _WSGI()

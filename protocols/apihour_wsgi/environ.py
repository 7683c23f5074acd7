"""The ``environ`` of one request (PEP 3333), made of what the connection says of it.

Rules:

- A field whose name has an underscore is left out: as CGI spells it, it would pass for the one
  with hyphens (``X_Forwarded_For``).
- Text is latin-1 of the bytes that came, as PEP 3333 has it ("Unicode Issues").
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

__all__ = ["make_environ"]

_CONTENT = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_names: dict[bytes, str] = {}
_REMEMBERED = 1024
"""Spellings of names that are kept: clients choose them."""


def make_environ(scope: Mapping[str, Any], root: str, common: Mapping[str, Any]) -> dict[str, Any]:
    """The environ of the request that ASGI's `scope` tells of, without its streams.

    `root` is where the application is mounted; `common` what all its requests have.
    """
    path = unquote_to_bytes(scope["raw_path"]).decode("latin-1")[len(root.encode()):]
    query = scope["query_string"].decode("latin-1")
    server, client = scope["server"] or ("", None), scope["client"] or ("", None)
    raw = scope["raw_path"].decode("latin-1")
    environ = {
        **common,
        "REQUEST_METHOD": scope["method"], "SCRIPT_NAME": root, "PATH_INFO": path,
        "QUERY_STRING": query, "RAW_URI": f"{raw}?{query}" if query else raw,
        "SERVER_NAME": server[0] or "localhost", "SERVER_PORT": str(server[1] or ""),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}", "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1] or ""), "wsgi.url_scheme": scope["scheme"],
    }
    for name, value in scope["headers"]:
        key = _names.get(name) or _name(name)
        if key in environ and key:
            joint = "; " if key == "HTTP_COOKIE" else ","
            environ[key] = f"{environ[key]}{joint}{value.decode('latin-1')}"
        else:
            environ[key] = value.decode("latin-1")
    environ.pop("", None)
    return environ


def _name(name: bytes) -> str:
    """What CGI calls a field; empty for one that must not be passed on."""
    if len(_names) >= _REMEMBERED:
        _names.clear()
    text = "" if b"_" in name else "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
    found = _names[name] = sys.intern(_CONTENT.get(name, text))
    return found

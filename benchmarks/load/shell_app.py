"""The application of ``benchmarks/shell.py``: one HTTP route beside the daemon's shell.

``SHELL_LIMITS=off`` takes the limits of logins away, for counting connections.
"""

from __future__ import annotations

import os
from typing import Any

import apihour
from apihour_http import HTTPServer, Routes
from apihour_ssh import Shell

routes = Routes()
NO_LIMITS = {
    "connections": 0, "per_address": 0, "rate": 0, "address_rate": 0, "startups": 0, "reserved": 0,
}


@routes.get("/")
async def hello(request: Any) -> dict[str, str]:
    return {"hello": "world"}


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0", "ssh": "127.0.0.1:0"}

    def make_servers(self) -> dict[str, Any]:
        options = {"limits": NO_LIMITS} if os.environ.get("SHELL_LIMITS") == "off" else {}
        return {"http": HTTPServer(routes), "ssh": Shell(**options)}

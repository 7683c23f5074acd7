"""The application of ``benchmarks/template.py``: its import costs CPU time and memory.

``IMPORT_SECONDS`` of CPU are burnt and ``IMPORT_MEGABYTES`` of small objects kept, beside
what aiohttp takes; it answers with one line.
"""

from __future__ import annotations

import os
import time
from typing import Any

from aiohttp import web

import apihour

# A str of 8 characters, its entry in a dict and its small list take about 240 bytes.
KEPT = {
    f"{number:08}": [number]
    for number in range(int(float(os.environ.get("IMPORT_MEGABYTES", "0")) * 1e6 / 240))
}
while time.process_time() < float(os.environ.get("IMPORT_SECONDS", "0")):
    pass  # what a large application does in its import: parse, compile, build tables


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello\n")


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}

    def make_servers(self) -> dict[str, Any]:
        application = web.Application()
        application.router.add_get("/", hello)
        return {"http": application}

"""The aiohttp application of ``benchmarks/host.py``.

``apihour web_app:Container -b http=127.0.0.1:0`` or
``gunicorn web_app:application -k aiohttp.GunicornUVLoopWebWorker``.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

import apihour


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="Hello")


def make_application() -> web.Application:
    application = web.Application()
    application.router.add_get("/json", hello)
    return application


async def application() -> web.Application:
    return make_application()


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}

    def make_servers(self) -> dict[str, Any]:
        return {"http": make_application()}

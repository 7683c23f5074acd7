"""What puts our server below aiohttp's own functional tests (benchmarks/suites) still does."""

from __future__ import annotations

import importlib.util
import logging
import socket
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "suites" / "aiohttp_functional.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("aiohttp_functional", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_a_site_is_started_behind_our_connection() -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=type(request.protocol).__module__)

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, logger=logging.getLogger("test.suite"), keepalive_timeout=3.0)
    await runner.setup()
    sock = socket.create_server(("127.0.0.1", 0))
    site = web.SockSite(runner, sock)
    await load().start(site)
    try:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
            async with session.get(url, timeout=aiohttp.ClientTimeout(30)) as answer:
                assert await answer.text() == "apihour_http.aiohttp.host"
    finally:
        await runner.cleanup()


def test_what_is_named_and_does_not_differ_any_more_is_told() -> None:
    class Report:
        skipped = False

        def __init__(self, name: str, failed: bool) -> None:
            self.nodeid, self.when = f"f::{name}", "call"
            self.failed, self.passed = failed, not failed

    outcomes = load().Outcomes({"differs": "why", "no_more": "why", "not_run": "why"})
    for name, failed in (("differs[a]", True), ("differs[b]", False), ("no_more[a]", False),
                         ("plain", False), ("broken", True)):
        outcomes.pytest_runtest_logreport(Report(name, failed))
    assert outcomes.same() == ["no_more"]
    assert outcomes.failed == ["f::broken"]
    assert outcomes.passed == 3

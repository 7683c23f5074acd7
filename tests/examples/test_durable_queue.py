"""examples/durable_queue.py on a real PostgreSQL: nothing queued is lost."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("procrastinate") is None, reason="needs procrastinate")


def apply_schema(url: str) -> None:
    import procrastinate

    async def apply() -> None:
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    asyncio.run(apply())


def test_a_reload_and_a_killed_worker_lose_nothing(apihour_daemon, database):
    apply_schema(database)
    daemon = apihour_daemon(
        "durable_queue:Container", "-b", "http=127.0.0.1:0", "--graceful-timeout", "20",
        cwd=EXAMPLES, env={"DATABASE_URL": database, "STALLED_AFTER": "2"})

    def post(count):
        for _ in range(count):
            request = urllib.request.Request(
                f"http://{daemon.address('http')}/mails",
                data=json.dumps({"to": f"{len(sent)}@example.org"}).encode())
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 202
            sent.append(f"{len(sent)}@example.org")

    def done():
        return Counter(line.rpartition(" ")[2] for line in daemon.lines if ": mail to " in line)

    sent: list[str] = []
    post(40)
    assert daemon.reload().ok
    post(20)
    daemon.wait(lambda: done().keys() >= set(sent), "all that was queued")
    assert set(done().values()) == {1}, "a reload has done something twice"
    for _ in range(10):  # until one is killed with work in its hands
        post(20)
        daemon.kill(daemon.workers("serving")[0])
        daemon.wait(lambda: done().keys() >= set(sent), "what the killed worker had", 60)
        daemon.wait_ready(2)
        if "queued again: send_mail" in daemon.log:
            break
    else:
        pytest.fail("none of the killed workers had begun anything")
    daemon.terminate()
    assert not [line for line in daemon.lines if "Traceback" in line]

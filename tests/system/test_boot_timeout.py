"""A start that takes longer than ``--boot-timeout``: which hook, where, and what is undone."""

import signal

import pytest

from tests.system.support import run

CONTAINER = """
import asyncio, time, apihour

async def database():
    await asyncio.sleep(60)

class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:0"}
    def make_servers(self):
        return {"echo": asyncio.Protocol}
    async def cleanup(self):
        print("cleaned up", flush=True)
"""

WAITING = {
    "pre_start": ("    async def pre_start(self):\n        await database()\n",
                  "pre_start()", "await asyncio.sleep(60)"),
    "start": ("    async def start(self):\n        await database()\n",
              "start()", "await asyncio.sleep(60)"),
    "a task of its own": (
        "    async def start(self):\n        await asyncio.create_task(database())  # here\n",
        "start()", "await asyncio.create_task(database())  # here"),
    "make_servers": ("    async def make_servers(self):\n        await database()\n",
                     "make_servers()", "await asyncio.sleep(60)"),
    "that takes no notice": (
        "    async def start(self):\n        while True:\n            try:\n"
        "                await asyncio.sleep(60)  # here\n            except BaseException:\n"
        "                pass\n", "start()", "await asyncio.sleep(60)  # here"),
}
BLOCKED = {
    "start": ("    async def start(self):\n        time.sleep(60)\n", "start()"),
    "make_servers": ("    def make_servers(self):\n        time.sleep(60)\n", "make_servers()"),
    "constructor": ("    def __init__(self, **k):\n        time.sleep(60)\n", "__init__()"),
    "event loop": ("    @classmethod\n    def make_event_loop(cls, config):\n"
                   "        time.sleep(60)\n", "make_event_loop()"),
}


def start(tmp_path, text, seconds="2"):
    (tmp_path / "app.py").write_text(CONTAINER + text)
    return run("app:Container", "--boot-timeout", seconds, "-w", "1", "--no-console", cwd=tmp_path)


@pytest.mark.parametrize("case", WAITING)
def test_a_hook_that_waits_too_long_is_named_with_its_line_and_undone(case, tmp_path):
    text, hook, line = WAITING[case]
    result = start(tmp_path, text)
    last = result.stderr.splitlines()[-1]
    begin = (f"apihour: error: container app:Container: {hook} was not done within 2 s "
             f"(--boot-timeout): {tmp_path}/app.py:")
    assert last.startswith(begin)
    assert last.endswith(f": {line} (apihour explain HookError)")
    assert (result.returncode, result.left) == (1, [])
    assert result.stdout.splitlines() == ["cleaned up"]
    # The log has all of the user's lines, and none of the framework's.
    assert f"container app:Container: {hook} was not done in time; it waits in" in result.stderr
    assert "/apihour/" not in result.stderr.replace(str(tmp_path), "")


@pytest.mark.parametrize("case", BLOCKED)
def test_a_hook_that_blocks_is_named_with_its_line(case, tmp_path):
    text, hook = BLOCKED[case]
    result = start(tmp_path, text)
    last = result.stderr.splitlines()[-1]
    assert last.startswith(
        f"apihour: error: container app:Container: {hook} was not done within 2 s "
        f"(--boot-timeout): {tmp_path}/app.py:")
    assert last.endswith(": time.sleep(60)")
    assert (result.returncode, result.left) == (1, [])


def test_a_server_that_does_not_start_is_named(tmp_path):
    result = start(tmp_path, """
class Server:
    protocol = "mine"
    async def start(self, context=None):
        await database()
    async def drain(self, deadline): ...
    async def stop(self): ...
    def statistics(self):
        return {}
    def stream(self, conn=None):
        return asyncio.Protocol()
Container.make_servers = lambda self: {"echo": Server()}
""")
    assert "server 'echo' (mine): its start was not done within 2 s" in result.stderr
    assert result.stderr.splitlines()[-1].endswith(
        ": await asyncio.sleep(60) (apihour explain HookError)")


def test_a_cleanup_that_hangs_as_well_is_ended(tmp_path):
    result = start(tmp_path, """
    async def start(self):
        raise RuntimeError("no database")
Container.cleanup = lambda self: time.sleep(60)
""", seconds="30")
    assert "has not cleaned up 5 s after its failed start, killing it" in result.stderr
    assert "start() failed" in result.stderr.splitlines()[-1]
    assert "no database" in result.stderr.splitlines()[-1]
    assert result.left == []


@pytest.mark.parametrize("text", ["    async def start(self):\n        await database()\n",
                                  "    async def start(self):\n        time.sleep(60)\n"])
def test_whoever_asked_for_a_reload_is_told_which_hook(text, apihour_daemon, tmp_path):
    (tmp_path / "app.py").write_text(CONTAINER)
    daemon = apihour_daemon(
        "app:Container", "--boot-timeout", "2", "--no-console", cwd=tmp_path, workers=1)
    before = daemon.workers()[0].pid
    (tmp_path / "app.py").write_text(CONTAINER + text)
    since = len(daemon.lines)
    outcome = daemon.reload()
    assert not outcome.ok
    assert outcome.error.startswith(
        "reload failed: container app:Container: start() was not done within 2 s "
        f"(--boot-timeout): {tmp_path}/app.py:")
    assert "app.py" in outcome.detail
    daemon.wait_log("Reload refused, the old workers stay: container app:Container: start()",
                    since=since)
    daemon.wait(lambda: [worker.pid for worker in daemon.workers()] == [before], "the old worker")
    assert daemon.terminate(signal.SIGTERM) == 0

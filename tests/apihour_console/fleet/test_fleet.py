from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Figure, Scoreboard, WorkerState
from apihour.ipc.wire import Framer, encode
from apihour.ops.model import Role
from apihour_console.calls.call import FORBIDDEN, PARTIAL, USAGE, Identity, Result
from apihour_console.calls.parsing import parse_call
from apihour_console.commands import operations
from apihour_console.fleet.fleet import Fleet

ADMIN = Identity("ann", role=Role.ADMIN)
OBSERVER = Identity("bob", role=Role.OBSERVER)
ROOT = Path(__file__).parents[3]


class Workers:
    """Real processes with agents, below one runtime directory."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.board = Scoreboard.create(str(runtime.scoreboard(os.getpid())))
        self.board.set_figure(Figure.ARBITER, os.getpid())
        self.board.set_figure(Figure.WANTED, 2)
        self.processes: dict[int, subprocess.Popen[str]] = {}

    def start(self, slot: int) -> None:
        self.processes[slot] = subprocess.Popen(
            [sys.executable, "-m", "tests.apihour_console.fake_worker", str(self.runtime.path),
             str(slot), str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )

    def wait_ready(self) -> None:
        for process in self.processes.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def tell(self, slot: int, word: str) -> None:
        stdin = self.processes[slot].stdin
        assert stdin is not None
        stdin.write(word + "\n")
        stdin.flush()

    def row(self, slot: int) -> Any:
        return next(row for row in self.board.active() if row.slot == slot)

    def kill(self, slot: int) -> None:
        process = self.processes.pop(slot)
        process.kill()
        process.communicate()

    def stop(self) -> None:
        for slot in list(self.processes):
            self.kill(slot)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    found = Workers(Runtime(tmp_path))
    try:
        for slot in (1, 2):
            found.start(slot)
        found.wait_ready()
        yield found
    finally:
        found.stop()


@pytest.fixture
async def fleet(workers: Workers) -> AsyncIterator[Fleet]:
    fleet = Fleet(workers.runtime, logging.getLogger("fleet"), operations.commands)
    await fleet.start()
    yield fleet
    await fleet.close()


async def run(fleet: Fleet, line: str, identity: Identity = ADMIN) -> Result:
    return await fleet.execute(parse_call(line.split(), fleet.catalogue), identity)


async def until(fleet: Fleet, line: str, wanted: Any, seconds: float = 10.0) -> Result:
    deadline = time.monotonic() + seconds
    while not wanted(result := await run(fleet, line)):
        assert time.monotonic() < deadline, result
        await asyncio.sleep(0.02)
    return result


async def test_commands_over_healthy_workers(fleet: Fleet) -> None:
    workers = await run(fleet, "workers")
    assert workers.status == 0 and [row["worker"] for row in workers.rows] == ["1.1", "2.1"]
    assert {row["state"] for row in workers.rows} == {"serving"}
    assert all(row["rss"] > 1_000_000 and row["pid"] > 0 for row in workers.rows)
    names = [column.name for column in workers.columns]
    assert names[:8] == ["worker", "pid", "state", "age", "rss", "cpu", "lag", "connections"]

    servers = await run(fleet, "servers")
    assert servers.rows == [{"name": "echo", "protocol": "tcp", "connections": 0, "accepted": 10,
                             "address": "tcp://127.0.0.1:9000", "refused": 2, "workers": 2,
                             "state": "accepting", "options": "idle=60"}]
    assert (await run(fleet, "conns")).rows == []
    stack = await run(fleet, "stack 1")
    assert {row["worker"] for row in stack.rows} == {"1.1"}
    assert any("run_forever()" in row["text"] for row in stack.rows)
    one = await run(fleet, "workers --worker 2 --json")
    assert [row["worker"] for row in one.rows] == ["2.1"]
    limited = await run(fleet, "workers --sort -worker --limit 1")
    assert [row["worker"] for row in limited.rows] == ["2.1"]


async def test_help_version_and_unknown_worker(fleet: Fleet) -> None:
    text = (await run(fleet, "help")).text
    assert text and "workers" in text and "greet" in text and "pulse" not in text
    assert "usage: stack [WORKER]" in ((await run(fleet, "stack --help")).text or "")
    assert any(row["command"] == "kick" for row in (await run(fleet, "help --json")).rows)
    assert (await run(fleet, "version")).rows[0]["component"] == "apihour"
    missing = await run(fleet, "stack 9")
    assert missing.status == USAGE and "1.1, 2.1" in (missing.error or "")


async def test_roles(fleet: Fleet) -> None:
    result = await run(fleet, "kick 1.1-1", OBSERVER)
    assert result.status == FORBIDDEN and "operator" in (result.error or "")


async def test_failures_are_told(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apihour_console.fleet.ask_arbiter._HANDED_OVER", 0.1)
    gone = await run(fleet, "kick 1.1-77")
    assert gone.status == 1 and "1.1-77" in (gone.error or "")
    broken = await run(fleet, "broken")
    assert broken.status == 1 and "no luck" in (broken.error or "")
    assert "raise ValueError" in broken.detail
    reload = await run(fleet, "reload")
    assert reload.status == 1 and "nothing was done" in (reload.error or "")


async def test_commands_of_the_application(fleet: Fleet) -> None:
    assert fleet.catalogue.get("greet").application  # type: ignore[union-attr]
    assert len((await run(fleet, "greet sue")).rows) == 1
    assert [row["worker"] for row in (await run(fleet, "greet-all --sort worker")).rows] == [
        "1.1", "2.1"]
    started = time.monotonic()
    assert (await run(fleet, "race")).rows == [{"worker": "2.1", "text": "won"}]
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(("word", "asked"), [("deliver", 1), ("look", 2)])
async def test_what_may_change_something_is_done_once_when_its_worker_dies_in_the_middle(
    word: str, asked: int, fleet: Fleet, workers: Workers, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    running = asyncio.create_task(run(fleet, f"{word} {done} 1.5"))
    async with asyncio.timeout(20):
        while not done.exists() or not done.read_text():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.005)
    slot = int(done.read_text()[0])
    workers.kill(slot)
    found = await running
    assert len(done.read_text().splitlines()) == asked
    if asked == 2:
        assert found.status == 0
    else:
        assert (found.status, [one.reason for one in found.missing]) == (
            PARTIAL, ["it ended before it answered"])


async def test_what_may_change_something_and_takes_too_long_is_not_done_by_the_next(
    fleet: Fleet, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    found = await run(fleet, f"deliver {done} 60")
    assert found.status == PARTIAL
    assert "did not finish within" in found.missing[0].reason
    assert len(done.read_text().splitlines()) == 1


async def test_what_may_change_something_is_done_by_the_next_where_the_loop_is_blocked(
    fleet: Fleet, workers: Workers, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    workers.tell(1, "stuck_in_sleep")
    await until(fleet, "workers", lambda found: found.rows[0]["state"] != "serving")
    found = await run(fleet, f"deliver {done} 0")
    assert (found.status, done.read_text()) == (0, "2.1\n")


async def test_streams_from_all_workers_end_with_their_reader(
    fleet: Fleet, workers: Workers
) -> None:
    call = parse_call(["ticks"], fleet.catalogue)
    seen: set[str] = set()
    async with aclosing(fleet.stream(call, OBSERVER)) as stream:
        async for row in stream:
            seen.add(row["worker"])
            if len(seen) == 2:
                break
    await until(fleet, "tasks", lambda r: all("LoopJob" not in t["coroutine"] for t in r.rows))


async def test_logs_of_a_worker_that_comes_later(fleet: Fleet, workers: Workers) -> None:
    call = parse_call(["logs", "-f", "--logger", "shop"], fleet.catalogue)
    async with aclosing(fleet.stream(call, OBSERVER)) as stream:
        workers.tell(1, "log")
        assert (await anext(stream))["worker"] == "1.1"
        workers.start(3)
        await asyncio.to_thread(workers.processes[3].stdout.readline)  # type: ignore[union-attr]
        workers.tell(3, "log")
        row = await asyncio.wait_for(anext(stream), 10)
    assert (row["worker"], row["message"], row["level"]) == ("3.1", "sold out", "warning")
    past = await run(fleet, "logs --logger shop --sort worker")
    assert [row["worker"] for row in past.rows] == ["1.1", "3.1"]


# Every command that asks workers, with the statuses it may have while worker 1 is stuck or
# stopped, and whether worker 2 must show in its rows.
EVERY = [
    ("workers", {0}, True), ("servers", {0, 75}, False), ("conns", {0, 75}, False),
    ("stack", {0, 75}, True), ("tasks", {0, 75}, False), ("health", {1}, False),
    ("top", {0, 75}, False), ("metrics", {0, 75}, False), ("log", {0, 75}, True),
    ("logs", {0, 75}, False), ("slow", {0, 75}, False), ("config", {0}, True),
    ("env", {0}, True), ("gc", {0, 75}, True), ("greet", {0}, True), ("greet-all", {75}, True),
    ("python 2 1+1", {0}, True), ("python 1 1+1", {75}, False), ("mem", {1, 75}, False),
    ("profile cpu -s 0.2", {0, 75}, False), ("kick 1.1-9", {75}, False),
    ("kick 2.1-9", {1}, False), ("where 2.1:0", {1}, False), ("version", {0}, False),
    ("help", {0}, False),
]


async def every_command(fleet: Fleet) -> None:
    """Run them all at once; each answers in time, whatever worker 1 does."""

    async def one(line: str, statuses: set[int], second: bool) -> None:
        begun = time.monotonic()
        result = await run(fleet, line)
        assert time.monotonic() - begun < 5, line
        assert result.status in statuses, (line, result)
        assert (result.status == PARTIAL) == bool(result.missing), (line, result)
        assert not second or any(row.get("worker") == "2.1" for row in result.rows), line

    await asyncio.gather(*(one(*each) for each in EVERY))


STUCK = ["stuck_in_sleep", "stuck_without_gil", "stuck_with_gil", "stuck_in_python"]


@pytest.mark.parametrize("how", STUCK)
async def test_a_stuck_worker_is_marked_and_its_line_shown(
    fleet: Fleet, workers: Workers, how: str
) -> None:
    await run(fleet, "stack")
    workers.tell(1, how)
    result = await until(
        fleet, "workers", lambda r: r.rows[0]["state"].startswith("stuck") and r)
    assert result.status == 0 and result.rows[1]["state"] == "serving"
    assert result.rows[0]["lag"] > 1
    if how != "stuck_with_gil":
        assert "fake_worker.py:" in result.rows[0]["state"] and how in result.rows[0]["state"]

    begun = time.monotonic()
    stack = await run(fleet, "stack 1")
    assert stack.status == 0 and time.monotonic() - begun < 5
    functions = [row["function"] for row in stack.rows]
    assert how in functions[:8], functions
    assert "blocked" in stack.rows[0]["state"]

    begun = time.monotonic()
    both = await run(fleet, "greet-all")
    assert time.monotonic() - begun < 5
    assert both.status == PARTIAL and [row["worker"] for row in both.rows] == ["2.1"]
    assert both.missing[0].worker == "1.1"
    if how != "stuck_with_gil":
        assert how in both.missing[0].reason
    assert (await run(fleet, "greet")).rows[0]["worker"] == "2.1"
    health = await run(fleet, "health")
    assert health.status == 1
    assert [r["name"] for r in health.rows if r["status"] not in ("ok", "ready")] == ["1.1"]
    await every_command(fleet)


async def test_a_stopped_worker(fleet: Fleet, workers: Workers) -> None:
    os.kill(workers.processes[1].pid, signal.SIGSTOP)
    try:
        result = await until(
            fleet, "workers", lambda r: r.rows[0]["state"].startswith("stopped"))
        begun = time.monotonic()
        stack = await run(fleet, "stack")
        assert stack.status == PARTIAL
        assert "a stopped process has no stack to give" in stack.missing[0].reason
        servers = await run(fleet, "servers")
        assert servers.status == PARTIAL and servers.rows[0]["workers"] == 1
        assert time.monotonic() - begun < 2, "a stopped worker was waited for"
        await every_command(fleet)
    finally:
        os.kill(workers.processes[1].pid, signal.SIGCONT)
    assert result.status == 0
    await until(fleet, "servers", lambda r: r.status == 0)


async def test_a_worker_that_died_is_gone(fleet: Fleet, workers: Workers) -> None:
    workers.kill(1)
    result = await run(fleet, "workers")
    assert [row["worker"] for row in result.rows] == ["2.1"]


async def test_draining_is_told_with_its_progress(fleet: Fleet, workers: Workers) -> None:
    row = workers.row(1)
    row.left, row.drain_total, row.deadline = 12, 40, time.monotonic() + 18.2
    row.state = WorkerState.DRAINING
    result = await run(fleet, "workers --worker 1")
    assert result.rows[0]["state"] == "draining 12 of 40, 18 s left"


async def test_top_counts_per_second(fleet: Fleet, workers: Workers) -> None:
    first = await run(fleet, "top")
    assert [(row["kind"], row["name"]) for row in first.rows] == [
        ("worker", "1.1"), ("worker", "2.1"), ("server", "echo")]
    workers.row(1).requests += 1000
    await asyncio.sleep(0.25)
    again = await run(fleet, "top")
    assert 200 < again.rows[0]["requests_s"] < 4000
    assert again.rows[1]["requests_s"] == 0


async def test_profile_as_table_and_flame(fleet: Fleet, workers: Workers) -> None:
    await run(fleet, "stack")
    workers.tell(1, "stuck_in_python")
    await until(fleet, "workers", lambda r: r.rows[0]["state"].startswith("stuck"))
    table = await run(fleet, "profile cpu -s 0.4 --worker 1")
    busy = [row for row in table.rows if row["function"] != "(idle)"]  # or waits for a CPU
    assert "stuck_in_python" in busy[0]["function"]
    svg = (await run(fleet, "profile cpu -s 0.3 --flame")).text
    assert svg and svg.startswith("<svg") and "stuck_in_python" in svg


async def test_values_for_completion(fleet: Fleet) -> None:
    assert await fleet.values("worker") == ["1", "2", "1.1", "2.1", "all"]
    assert "echo" in await fleet.values("server")
    assert "root" in await fleet.values("logger")
    assert "workers" in await fleet.values("command")
    assert await fleet.values("connection") == []


async def test_watch_goes_on_until_it_is_closed(fleet: Fleet) -> None:
    call = parse_call(["watch", "0.2", "workers", "--worker", "1"], fleet.catalogue)
    async with aclosing(fleet.stream(call, OBSERVER)) as stream:
        rows = [await anext(stream) for _ in range(3)]
    assert {row["worker"] for row in rows} == {"1.1"}


async def test_arbiter_commands(fleet: Fleet) -> None:
    asked: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = Framer()
        while data := await reader.read(65536):
            for message in framer.feed(data):
                asked.append((message["command"], message["arguments"], message["role"]))
                if message["command"] == "reload":
                    reply = {"error": "reload failed: SyntaxError", "kind": "failed",
                             "detail": "Traceback"}
                else:
                    reply = {"result": [{"worker": "1.1", "state": "suspended"}]}
                writer.write(encode({"id": message["id"], **reply}))
        writer.close()

    server = await asyncio.start_unix_server(serve, str(fleet.runtime.arbiter_socket))
    async with server:
        failed = await run(fleet, "reload")
        drained = await run(fleet, "drain 1")
        await run(fleet, "scale 3")
        await run(fleet, "signal HUP")
        await run(fleet, "signal KILL 2")
    assert failed.status == 1 and failed.error == "reload failed: SyntaxError"
    assert failed.detail == "Traceback"
    assert drained.rows == [{"worker": "1.1", "state": "suspended"}]
    assert asked == [
        ("reload", {}, "admin"), ("drain", {"worker": "1.1", "yes": False}, "admin"),
        ("scale", {"workers": 3}, "admin"), ("signal", {"name": "HUP"}, "admin"),
        ("signal", {"worker": "2.1", "name": "KILL"}, "admin"),
    ]


async def test_the_arbiters_socket_is_waited_for_while_an_upgrade_hands_it_over(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("apihour_console.fleet.ask_arbiter._HANDED_OVER", 0.1)
    never = await run(fleet, "scale 3")
    assert never.status == 1
    assert "arbiter.sock: No such file or directory: the arbiter cannot be reached, nothing was " \
        "done; expected it within 0.1 s" in (never.error or "")
    with monkeypatch.context() as gone:
        gone.setattr("apihour_console.fleet.ask_arbiter.has_arbiter", lambda runtime: False)
        assert (await run(fleet, "scale 3")).error == "scale: no arbiter is left, nothing was done"
    monkeypatch.setattr("apihour_console.fleet.ask_arbiter._HANDED_OVER", 30.0)
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(65536))
        if len(asked) == 1:
            writer.write(encode({"id": 1, "result": [{"workers": 3}]}))
        writer.close()

    path = fleet.runtime.arbiter_socket
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))  # nobody listens: the connection is refused
    waiting = asyncio.create_task(run(fleet, "scale 3"))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    path.unlink()
    async with await asyncio.start_unix_server(serve, str(path)):
        assert (await waiting).rows == [{"workers": 3}]
        ended = await run(fleet, "scale 3")  # asked once: it may have been done
    bound.close()
    assert len(asked) == 2
    assert ended.status == 75
    assert ended.error == ("scale: the arbiter ended before it answered; whether it was done is "
                           "not known, see workers")


async def test_an_arbiter_that_is_stopped_is_not_waited_for_and_begins_nothing_late(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, stopped = bytearray(), [77]
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.extend(await reader.read(10))
        stopped[0] = 77
        asked.extend(await reader.read())
        ended.set()
        writer.close()

    monkeypatch.setattr("apihour_console.fleet.ask_arbiter._WATCH", 0.01)
    monkeypatch.setattr("apihour_console.fleet.ask_arbiter._stopped", lambda census: stopped[0])
    async with await asyncio.start_unix_server(serve, str(fleet.runtime.arbiter_socket)):
        told = await run(fleet, "reload")
        assert told.status == 1
        assert told.error == ("reload: the arbiter (pid 77) is stopped by a signal, nothing was "
                              "done; kill -CONT 77 has it go on")
        assert not asked
        stopped[0] = 0
        told = await asyncio.wait_for(run(fleet, "reload"), 30)  # not ten minutes
        assert told.status == 75 and "what it has begun it finishes after kill -CONT 77" in (
            told.error or "")
        await asyncio.wait_for(ended.wait(), 30)
    [request, cancel] = Framer().feed(bytes(asked))
    assert cancel == {"id": request["id"], "cancel": True}


async def test_providers_of_the_shell(fleet: Fleet) -> None:
    assert (await run(fleet, "sessions")).status == 127
    fleet.providers["sessions"] = lambda context: [{"user": context.identity.name}]
    assert (await run(fleet, "sessions")).rows == [{"user": "ann"}]


async def test_python_prints_what_it_prints(fleet: Fleet) -> None:
    call = parse_call(["python", "1,2", "print(worker.name)"], fleet.catalogue)
    result = await fleet.execute(call, ADMIN)
    assert (result.status, result.text) == (0, "1.1\n2.1\n")
    assert [row["worker"] for row in result.rows] == ["1.1", "2.1"]
    call = parse_call(["python", "1", "--", "-x"], fleet.catalogue)
    failed = await fleet.execute(call, ADMIN)
    assert failed.status == 1 and "NameError" in (failed.text or "")
    assert (await fleet.execute(call, OBSERVER)).status == FORBIDDEN
    assert (await run(fleet, "python 1")).status == USAGE

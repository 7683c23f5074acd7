from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.ipc.faults import STACK_SIGNAL, stack_path
from apihour.ipc.scoreboard import WorkerState
from apihour.ipc.wire import encode
from apihour.ops.catalogue import command
from apihour.ops.commands.tasks import is_the_workers, of_worker
from apihour.ops.jobs import LoopJob
from apihour.ops.stacks import Place
from apihour.worker.process import HostWorker
from apihour.worker.tracked_socket import TrackedSocket
from tests.apihour.fakes import Caller, FakeWorker, running_agent, wait_for


@dataclass(frozen=True)
class Greeting:
    text: str


class Application:
    config = {"db": {"password": "hunter2", "url": "pg://joe:secret@db/x"}, "size": 3,
              "other": {"url": "postgresql:///x?host=/run/pg&password=hunter2"}}

    @command(role="observer")
    async def greet(self, name: str, *, loud: bool = False) -> list[Greeting]:
        """Say hello."""
        await asyncio.sleep(0)
        return [Greeting(name.upper() if loud else name)]

    @command(role="admin")
    async def count(self) -> AsyncIterator[Greeting]:
        """Count for ever."""
        number = 0
        while True:
            number += 1
            yield Greeting(str(number))
            await asyncio.sleep(0.001)

    @command()
    def broken(self) -> None:
        """Raise."""
        raise ValueError("no luck")

    @command()
    async def hang(self) -> None:
        """Never return."""
        await asyncio.Event().wait()


@pytest.fixture
def agent(tmp_path: Path):
    with (
        running_agent(tmp_path, Application()) as (worker, agent),
        Caller(worker.runtime.agent_socket(worker.pid)) as caller,
    ):
        yield worker, agent, caller


def test_socket_is_private_and_gone_after_stop(tmp_path: Path) -> None:
    with running_agent(tmp_path) as (worker, _):
        path = worker.runtime.agent_socket(worker.pid)
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()
    assert not stack_path(worker.runtime, worker.pid).exists()


def test_servers_and_conns(agent) -> None:
    worker, _, caller = agent
    assert caller.call("servers") == [{
        "name": "echo", "protocol": "tcp", "address": "tcp://127.0.0.1:9000", "connections": 0,
        "accepted": 5, "refused": 1, "state": "accepting", "options": "idle=60",
        "worker": "1.1",
    }]
    left, right = socket.socketpair()
    with left, right:
        handed = TrackedSocket(left.family, left.detach())
        conn = worker.connections.add(handed, "echo", "tcp", ("127.0.0.1", 99))
        (row,) = caller.call("conns")
        assert row["id"] == "1.1-1" and row["peer"] == "127.0.0.1:99" and row["worker"] == "1.1"
        assert caller.call("servers")[0]["connections"] == 1
        assert caller.call("kick", arguments={"connections": ["1.1-1"]})[0]["id"] == "1.1-1"
        assert conn.state == "closing: kicked"
        assert right.recv(1) == b""


def test_long_lists_come_in_many_frames_and_leave_room_for_others(agent) -> None:
    worker, _, caller = agent
    pairs = [socket.socketpair() for _ in range(2)]
    for number in range(3000):
        worker.connections.add(pairs[0][0], "echo", "tcp", ("127.0.0.1", number))
    number = caller.send("conns")
    other = caller.send("pulse")
    order: list[int] = []
    rows, over = 0, False
    while not over:
        reply = caller.receive()
        order.append(reply["id"])
        over = reply["id"] == number and "end" in reply
        if reply["id"] == number:
            rows += len(reply.get("item", ()))
    assert rows == 3000
    assert order.index(other) < len(order) - 10, "the short request waited for the long one"
    for left, right in pairs:
        left.close()
        right.close()


def test_role_is_checked_again(agent) -> None:
    _, _, caller = agent
    reply = caller.call("kick", role="observer", arguments={"connections": ["1.1-1"]})
    assert reply["kind"] == "role" and "operator" in reply["error"]
    assert caller.call("kick", role="emperor")["error"].startswith("ValueError: role 'emperor'")


def test_unknown_command_and_wrong_arguments(agent) -> None:
    _, _, caller = agent
    assert caller.call("dance")["kind"] == "unknown"
    assert caller.call("where")["kind"] == "usage"
    assert caller.call("conns", arguments={"colour": 1})["kind"] == "usage"


def test_garbage_costs_only_its_own_connection(agent) -> None:
    worker, _, caller = agent
    with Caller(worker.runtime.agent_socket(worker.pid)) as other:
        other.sock.sendall(b"\xff" * 100)
        with pytest.raises(EOFError):
            other.receive()
    assert caller.call("pulse")


def test_application_commands(agent) -> None:
    _, _, caller = agent
    assert caller.call("greet", arguments={"name": "bo", "loud": True}) == [{"text": "BO"}]
    names = {record["name"] for record in caller.call("catalogue")}
    assert names == {"greet", "count", "broken", "hang"}
    reply = caller.call("broken")
    assert reply["error"] == "ValueError: no luck" and "raise ValueError" in reply["detail"]


def test_streaming_command_ends_with_a_cancel(agent) -> None:
    _, _, caller = agent
    number = caller.send("count")
    assert caller.receive()["item"] == [{"text": "1"}]
    caller.sock.sendall(encode({"id": number, "cancel": True}))
    while "error" not in (reply := caller.receive()):
        pass
    assert reply["error"] == "cancelled"
    wait_for(lambda: not [r for r in caller.call("tasks", arguments={"all_": True})
                          if r["coroutine"] == "LoopJob.main"])


def test_streaming_command_ends_with_its_caller(agent) -> None:
    worker, _, caller = agent
    with Caller(worker.runtime.agent_socket(worker.pid)) as other:
        other.send("count")
        other.receive()
    wait_for(lambda: not [r for r in caller.call("tasks", arguments={"all_": True})
                          if r["coroutine"] == "LoopJob.main"])


def test_a_command_whose_worker_ends_in_the_middle_may_have_been_done(agent) -> None:
    worker, _, caller = agent
    caller.send("hang")
    wait_for(lambda: [r for r in caller.call("tasks", arguments={"all_": True})
                      if r["coroutine"] == "LoopJob.main"])
    worker.call(lambda: [task.cancel() for task in asyncio.all_tasks()
                         if task.get_name().startswith("command ")])
    reply = caller.receive()
    assert (reply["error"], reply["kind"]) == ("cancelled", "lost")


def test_deadline_of_a_command_that_hangs(agent) -> None:
    _, _, caller = agent
    reply = caller.call("hang", deadline=0.2)
    assert reply["kind"] == "lost", "it has begun"
    assert "did not finish within 0.2 s" in reply["error"]


def sleep_in_the_loop(gate: threading.Event, seconds: float = 1.2) -> None:
    gate.set()
    time.sleep(seconds)


def spin_in_the_loop(gate: threading.Event, seconds: float = 1.2) -> None:
    gate.set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("stuck", [sleep_in_the_loop, spin_in_the_loop])
def test_answers_while_the_loop_is_blocked(agent, stuck) -> None:
    worker, _, caller = agent
    caller.call("greet", arguments={"name": "x"})
    gate = threading.Event()
    begun = time.monotonic()
    worker.call(stuck, gate, 3.0)
    assert gate.wait(5)
    assert caller.call("servers")
    stack = caller.call("stack")
    reply = caller.call("greet", arguments={"name": "x"}, deadline=0.3)
    assert time.monotonic() - begun < 2.9, "it waited for the loop"
    assert stack[0]["function"] == stuck.__name__
    assert stack[0]["file"] == __file__
    assert reply["kind"] == "timeout"
    assert stuck.__name__ in reply["error"] and "test_agent.py:" in reply["error"]
    assert "the loop has been blocked for" in reply["error"]


def test_blocks_are_remembered_and_followed(agent) -> None:
    worker, watching, caller = agent
    number = caller.send("slow", arguments={"follow": True})
    wait_for(lambda: watching.watch.followers)
    gate = threading.Event()
    worker.call(sleep_in_the_loop, gate)
    (row,) = caller.receive()["item"]
    assert 0.9 < row["seconds"] < 2.0
    assert "sleep_in_the_loop" in row["where"] and "sleep_in_the_loop" in row["stack"]
    caller.sock.sendall(encode({"id": number, "cancel": True}))
    caller.receive()
    wait_for(lambda: not watching.watch.followers)
    kinds = [one["kind"] for one in caller.call("slow")]
    assert kinds == ["request echo", "block"]


def test_a_block_before_the_application_is_up_is_a_line_without_a_stack(agent) -> None:
    worker, watching, caller = agent
    wait_for(lambda: watching.watch.base is not None)
    worker.row.state = WorkerState.STARTING
    caller.send("slow", arguments={"follow": True})
    wait_for(lambda: watching.watch.followers)
    worker.call(sleep_in_the_loop, threading.Event())
    (row,) = caller.receive()["item"]
    assert (row["kind"], row["stack"]) == ("start", "")
    assert "sleep_in_the_loop" in row["where"]


def test_idle_loop_is_called_idle(agent) -> None:
    _, watching, caller = agent
    wait_for(lambda: watching.watch.base is not None)
    wait_for(lambda: caller.call("stack")[0]["state"] == "idle")


def test_a_stack_ends_at_the_worker(agent) -> None:
    run = HostWorker.run.__code__
    below = [Place(run.co_filename, 9, run.co_qualname), Place("/x/cli.py", 3, "main")]
    above = [Place("/x/site.py", 1, "run"), Place("/x/apihour/app/target.py", 2, "load_target")]
    assert of_worker([*above, *below]) == [*above, below[0]]
    assert of_worker(above) == above


async def test_the_workers_main_task_is_known_for_what_it_is(agent) -> None:
    coroutine = HostWorker._live(None, object, {})  # fails at once: there is no worker
    task, other = asyncio.ensure_future(coroutine), asyncio.ensure_future(asyncio.sleep(0))
    assert is_the_workers(task) and not is_the_workers(other)
    await asyncio.wait({task, other})
    assert isinstance(task.exception(), AttributeError)


def test_a_loop_that_has_not_turned_yet_is_starting(agent) -> None:
    worker, watching, caller = agent
    loop, worker.loop = worker.loop, None

    def is_starting():
        watching.watch.base = None  # an answer may still have been under way
        return caller.call("stack")[0]["state"] == "starting"

    wait_for(is_starting)
    worker.loop = loop
    wait_for(lambda: caller.call("stack")[0]["state"] == "idle")


async def leaf() -> None:
    await asyncio.Event().wait()


async def middle() -> None:
    await leaf()


async def root() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(middle(), name="grouped")
        await asyncio.gather(asyncio.create_task(middle(), name="gathered"))


def test_tasks_where_and_cancel(agent) -> None:
    worker, _, caller = agent
    holder: list[asyncio.Task[None]] = []
    worker.call(lambda: holder.append(worker.loop.create_task(root(), name="root")))

    def named() -> dict[str, dict]:
        return {row["name"]: row for row in caller.call("tasks")}

    rows = wait_for(lambda: (found := named()) and "gathered" in found and found)
    assert rows["grouped"]["awaited_by"] == rows["gathered"]["awaited_by"] == rows["root"]["id"]
    assert "leaf" in rows["grouped"]["where"]
    functions = [r["function"] for r in caller.call(
        "where", arguments={"task": rows["grouped"]["id"]})]
    assert functions[-2:] == ["leaf", "middle"] or functions[-1] == "middle"
    done = caller.call("cancel", arguments={"tasks": [rows["root"]["id"]]})
    assert done[0]["name"] == "root"
    wait_for(lambda: "root" not in named())
    again = caller.call("cancel", arguments={"tasks": [rows["root"]["id"]]})
    assert again["kind"] == "gone"
    assert "no" in caller.call("where", arguments={"task": "1.1:0"})["error"]


def test_tasks_have_an_age_and_a_number_of_their_own(agent) -> None:
    worker, _, caller = agent

    def begin() -> None:
        worker.call(lambda: worker.loop.create_task(asyncio.sleep(60), name="sleeper"))

    def sleeper() -> dict | None:
        found = [row for row in caller.call("tasks") if row["name"] == "sleeper"]
        return found[0] if found else None

    begin()
    first = wait_for(sleeper)
    assert wait_for(lambda: (row := sleeper()) and row["age"] > first["age"] + 0.1)
    caller.call("cancel", arguments={"tasks": [first["id"]]})
    wait_for(lambda: sleeper() is None)
    begin()
    assert wait_for(sleeper)["id"] != first["id"]


def test_tasks_leave_out_what_apihour_lives_by(agent) -> None:
    worker, _, caller = agent
    ours = {"__name__": "apihour_mine.lane", "asyncio": asyncio}
    exec("async def serve(waited):\n    await waited", ours)
    for name, waited in (("idle", asyncio.Event().wait()), ("busy", leaf())):
        worker.call(lambda n=name, w=waited: worker.loop.create_task(ours["serve"](w), name=n))
    worker.call(lambda: worker.loop.create_task(asyncio.Event().wait(), name="anybodys"))

    def names(**arguments: bool) -> set[str]:
        return {row["name"] for row in caller.call("tasks", arguments=arguments)}

    wait_for(lambda: {"busy", "anybodys"} <= names())
    assert "idle" not in names() and "idle" in names(all_=True)


def test_of_several_those_that_are_gone_are_left_out(agent) -> None:
    worker, _, caller = agent
    left, right = socket.socketpair()
    with left, right:
        handed = TrackedSocket(left.family, left.detach())
        worker.connections.add(handed, "echo", "tcp", ("127.0.0.1", 99))
        closed = caller.call("kick", arguments={"connections": ["1.1-1", "1.1-7", "nonsense"]})
        assert [row["id"] for row in closed] == ["1.1-1"]
    assert caller.call("cancel", arguments={"tasks": ["1.1:99", "x", "2.1:1"]}) == []


def test_log_level_for_a_while(agent) -> None:
    _, _, caller = agent
    logger = logging.getLogger("shop.orders")
    logger.setLevel(logging.WARNING)
    arguments = {"logger": "shop.orders", "level": "debug", "for_": 0.2}
    assert caller.call("log", role="observer", arguments=arguments)["kind"] == "role"
    assert caller.call("log", arguments=arguments)[0]["level"] == "debug"
    wait_for(lambda: logger.level == logging.WARNING)
    assert "shop.orders" in {row["logger"] for row in caller.call("log", role="observer")}
    answer = caller.call("log", role="observer", arguments={"logger": "shop.typo"})
    assert answer["error"] == "logger 'shop.typo': there is none; log lists those there are"
    assert "shop.typo" not in logging.root.manager.loggerDict


def test_logs_past_and_followed(agent) -> None:
    _, listening, caller = agent
    listening.listen()
    logger = logging.getLogger("shop")
    logger.warning("first %d", 1)
    number = caller.send("logs", arguments={"follow": True, "logger": "shop"})
    assert caller.receive()["item"][-1]["message"] == "first 1"
    logger.error("second")
    (row,) = caller.receive()["item"]
    assert (row["message"], row["level"], row["logger"]) == ("second", "error", "shop")
    caller.sock.sendall(encode({"id": number, "cancel": True}))


def test_config_and_env_hide_secrets(agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "abc123")
    worker, _, caller = agent
    worker.cfg.settings = {
        name: SimpleNamespace(get=lambda value=value: value, default=[])
        for name, value in (("raw_env", ["TOKEN=hunter2"]), ("bind", ["auth=127.0.0.1:80"]))}
    rows = {row["name"]: row["value"] for row in caller.call("config")}
    assert rows["db.password"] == "********" and rows["size"] == 3
    assert rows["db.url"] == "pg://joe:********@db/x"
    assert rows["other.url"] == "postgresql:///x?host=/run/pg&password=********"
    assert rows["raw_env"] == "['TOKEN=********']"
    assert rows["bind"] == "['auth=127.0.0.1:80']"  # a bind of that name
    environment = {row["name"]: row["value"] for row in caller.call("env")}
    assert environment["API_TOKEN"] == "********"


def test_memory(agent) -> None:
    _, _, caller = agent
    assert "mem --start" in caller.call("mem")["error"]
    caller.call("mem", arguments={"start": True})
    kept = [bytearray(100_000) for _ in range(20)]
    rows = caller.call("mem", arguments={"diff": True, "top": 500}, deadline=30)
    assert sum(len(one) for one in kept) == 2_000_000
    assert any("test_agent.py" in r["where"] and r["change"] > 1_900_000 for r in rows)
    caller.call("mem", arguments={"stop": True})
    assert "mem --start" in caller.call("mem")["error"]


def test_profile_finds_the_busy_function(agent) -> None:
    worker, watching, caller = agent
    wait_for(lambda: watching.watch.base is not None)
    worker.call(spin_in_the_loop, threading.Event())
    rows = caller.call("profile", arguments={"what": "wall", "seconds": 0.6, "interval": 0.01})
    busy = [row for row in rows if "spin_in_the_loop" in row["stack"]]
    assert sum(row["samples"] for row in busy) > 10
    assert "run (" not in busy[0]["stack"].split(";")[0]


def python(caller: Caller, source: str, **options):
    (row,) = caller.call("python", arguments={"worker": "1.1", "source": source, **options})
    return row


def test_python_with_await_state_and_completion(agent) -> None:
    worker, _, caller = agent
    assert python(caller, "x = 20", session="s")["output"] == ""
    assert python(caller, "x + 1", session="s")["output"] == "21\n"
    assert python(caller, "await asyncio.sleep(0, x)", session="s")["output"] == "20\n"
    assert python(caller, "for i in range(3):", session="s")["more"]
    assert python(caller, "async with x:", session="s")["more"]
    source = "print('hé'); container.config['size']"
    assert python(caller, source, session="s")["output"] == "hé\n3\n"
    failed = python(caller, "1/0", session="s")
    assert failed["failed"] and "ZeroDivisionError" in failed["output"]
    assert "apihour" not in failed["output"]
    assert python(caller, "contain", session="s", complete=True)["completions"] == ["container"]
    assert "NameError" in python(caller, "x", session="other")["output"]
    assert caller.call("python", role="operator", arguments={"worker": "1.1"})["kind"] == "role"
    worker.cfg.shell_python = False
    assert "--shell-python" in caller.call("python", arguments={"worker": "1.1"})["error"]


def test_stack_signal_writes_the_stack_without_the_agent(agent) -> None:
    worker, _, _ = agent
    path = stack_path(worker.runtime, worker.pid)
    os.kill(os.getpid(), STACK_SIGNAL)
    text = wait_for(path.read_text)
    assert "most recent call first" in text


def test_thread_takes_no_signals(agent) -> None:
    task = Path(f"/proc/self/task/{agent[1]._thread.native_id}/status").read_text()
    blocked = next(line for line in task.splitlines() if line.startswith("SigBlk"))
    assert int(blocked.split()[1], 16) & 1 << (signal.SIGTERM - 1)


def test_command_before_there_is_a_loop(tmp_path: Path) -> None:
    with running_agent(tmp_path) as (worker, _):
        loop, worker.loop = worker.loop, None
        try:
            with Caller(worker.runtime.agent_socket(worker.pid)) as caller:
                assert "there is no loop" in caller.call(
                    "kick", arguments={"connections": ["1.1-1"]})["error"]
                assert caller.call("tasks") == []
        finally:
            worker.loop = loop


def test_name_of_a_built_in_command_is_taken(tmp_path: Path) -> None:
    class Bad:
        @command()
        def conns(self) -> None:
            """Not yours."""

    from apihour.errors import ConfigurationError
    from apihour.ipc.runtime import Runtime
    from apihour.ops.agent import Agent

    worker = FakeWorker(Runtime(tmp_path))
    with pytest.raises(ConfigurationError, match="conns"):
        Agent(worker).adopt(Bad())
    worker.loop.close()


async def test_what_was_given_up_before_it_began_does_not_begin() -> None:
    class Client:
        is_full = False
        create_task = staticmethod(lambda work, name: asyncio.create_task(work, name=name))
        in_loop = staticmethod(lambda call: call())

        def post(self, job: LoopJob, reply: dict[str, Any]) -> None:
            raise AssertionError("who asked was answered before")

    begun: list[int] = []
    job = LoopJob(Client(), 1, 1.0, lambda: begun.append(1))
    job.begin()  # as in the loop, just when its time is over in the agent's thread
    job.over = True
    assert job.task is not None
    await job.task
    assert begun == []

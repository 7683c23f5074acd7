from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Scoreboard
from apihour.ipc.wire import Framer, encode
from apihour.ops.container_ops import Operations
from apihour.ops.model import CommandFailed


class Console:
    """Answers as told, remembers what it was asked."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.replies: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for message in Framer().feed(await reader.read(65536)):
            self.words = message["arguments"]["words"]
            for reply in self.replies:
                writer.write(encode({"id": message["id"], **reply}))
        writer.close()


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    made = Console()
    server = await asyncio.start_unix_server(made.serve, str(Runtime(tmp_path).console_socket))
    async with server:
        yield made


async def test_names_and_options_become_words(console: Console, tmp_path: Path) -> None:
    console.replies = [{"item": {"out": '[{"id": "1.1-1"},'}}, {"item": {"out": ' {"id": "2"}]'}},
                       {"result": {"status": 0}}]
    rows = await Operations(Runtime(tmp_path)).log("shop", "debug", for_=60, sort="-age", x=False)
    assert console.words == ["log", "--json", "--for=60", "--sort=-age", "--", "shop", "debug"]
    assert rows == [{"id": "1.1-1"}, {"id": "2"}] and rows.missing == ()


async def test_partial_answers_say_who_is_missing(console: Console, tmp_path: Path) -> None:
    console.replies = [{"item": {"out": "[]"}}, {"item": {"err": "worker 1.1: stuck\n"}},
                       {"result": {"status": 75}}]
    assert (await Operations(Runtime(tmp_path)).greet_all()).missing == ("worker 1.1: stuck",)
    assert console.words[0] == "greet-all"


async def test_failures_are_raised(console: Console, tmp_path: Path) -> None:
    ops = Operations(Runtime(tmp_path))
    console.replies = [{"item": {"err": "reload failed\nTraceback"}}, {"result": {"status": 1}}]
    with pytest.raises(CommandFailed, match=r"^reload failed$"):
        await ops.reload()
    console.replies = []
    with pytest.raises(CommandFailed, match="went away"):
        await ops.reload()


async def test_rows_of_a_stream(console: Console, tmp_path: Path) -> None:
    console.replies = [{"item": {"out": '{"id": 1}\n'}}, {"item": {"out": '{"id": 2}\n'}},
                       {"result": {"status": 0}}]
    assert await Operations(Runtime(tmp_path)).logs(follow=True, limit=2) == [
        {"id": 1}, {"id": 2}]
    console.replies = [{"item": {"out": '{"id": 1}\n'}}, {"result": {"status": 0}}]
    assert await Operations(Runtime(tmp_path)).watch(2, "conns", limit=1) == [{"id": 1}]
    console.replies = [{"result": {"status": 0}}]
    assert await Operations(Runtime(tmp_path)).logs() == []


async def test_a_console_that_is_being_replaced_is_waited_for(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path)
    runtime.write_instance({"pid": os.getpid()})
    board = Scoreboard.create(str(runtime.scoreboard(os.getpid())))
    asked = asyncio.create_task(Operations(runtime).workers())
    await asyncio.sleep(0.1)
    assert not asked.done()
    made = Console()
    made.replies = [{"item": {"out": "[]"}}, {"result": {"status": 0}}]
    async with await asyncio.start_unix_server(made.serve, str(runtime.console_socket)):
        assert await asyncio.wait_for(asked, 5) == []
    board.close()


async def test_one_that_is_left_out_is_not_waited_for(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path)
    runtime.write_instance({"pid": os.getpid(), "console": False})
    with pytest.raises(CommandFailed, match="console does not answer"):
        await asyncio.wait_for(Operations(runtime).workers(), 1)


async def test_no_console(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="console does not answer"):
        await Operations(Runtime(tmp_path)).workers()

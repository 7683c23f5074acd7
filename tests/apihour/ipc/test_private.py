"""The private names of dependencies are still where they were."""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import inspect
import logging
import os
import socket
import ssl
import subprocess
from asyncio.sslproto import SSLProtocol
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.config import KNOWN_SETTINGS
from gunicorn.workers.base import Worker

from apihour.arbiter.arbiter import HostArbiter
from apihour.ipc.private import (
    accept_descriptor,
    context_of,
    opened_again,
    parser_options,
    set_process_title,
)
from apihour.ops.private import awaiters, pool_processes
from apihour.tls.libssl import shrink_tls_buffers


def test_accepting_a_bare_descriptor() -> None:
    with (socket.create_server(("127.0.0.1", 0)) as listener,
          socket.create_connection(listener.getsockname()) as client):
        descriptor, peer = accept_descriptor(listener)
        with socket.socket(fileno=descriptor) as sock:
            assert peer == client.getsockname() == sock.getpeername()


async def test_the_buffers_of_asyncios_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SSLProtocol, "max_size", SSLProtocol.max_size)  # put back afterwards
    shrink_tls_buffers(5000)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    loop = asyncio.get_running_loop()
    made = SSLProtocol(loop, asyncio.Protocol(), context, loop.create_future(), server_side=True)
    assert len(made.get_buffer(-1)) == len(made.get_buffer(100_000)) == 5000


async def test_the_context_of_a_handle() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    variable.set(5)
    context = context_of(asyncio.get_running_loop().call_later(0, lambda: None))
    assert context is not None and context[variable] == 5
    assert context_of(None) is None


async def test_who_waits_for_whom() -> None:
    end = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await end

    async def in_a_group() -> None:
        async with asyncio.TaskGroup() as group:
            tasks["grouped"] = group.create_task(wait())

    async def gathering() -> None:
        await asyncio.gather(tasks["plain"])

    async def waiting() -> None:
        await asyncio.wait({tasks["plain"]})

    tasks = {"plain": asyncio.create_task(wait())}
    above = {one.__name__: asyncio.create_task(one()) for one in (in_a_group, gathering, waiting)}
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert set(awaiters(end)) == {tasks["plain"], tasks["grouped"]}
    assert set(awaiters(tasks["grouped"])) == {above["in_a_group"]}
    assert above["gathering"] in set(awaiters(tasks["plain"]))
    end.set_result(None)
    await asyncio.gather(*above.values())


def test_the_options_of_a_parser() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    made = parser.add_argument("--size")
    assert parser_options(parser) == [made]


def test_a_log_file_is_opened_again(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    (tmp_path / "log").rename(tmp_path / "old")
    with opened_again(handler) as fresh:
        fresh.write("new")
        assert not handler.stream.closed
    assert (tmp_path / "log").read_text() == "new"
    handler.close()


def test_the_processes_of_a_pool() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pid = pool.submit(os.getpid).result(20)
        assert [process.pid for process in pool_processes(pool)] == [pid]


def test_the_process_title() -> None:
    assert callable(set_process_title)
    assert list(inspect.signature(set_process_title).parameters) == ["title"]


def test_the_interpreters_options() -> None:
    assert isinstance(subprocess._args_from_interpreter_flags(), list)  # type: ignore[attr-defined]


def test_what_is_overridden_exists_in_gunicorns_arbiter() -> None:
    for name in ("start", "setup", "reload", "reexec", "stop", "signal", "run", "halt",
                 "handle_hup", "handle_ttin", "handle_ttou", "handle_usr1", "handle_winch",
                 "handle_chld"):
        assert name in vars(HostArbiter), name
        assert callable(getattr(Arbiter, name)), name


def test_what_is_used_of_gunicorns_arbiter() -> None:
    for name in ("SIGNALS", "SIG_NAMES", "init_signals", "handle_int", "handle_quit",
                 "handle_term", "handle_usr2", "num_workers"):
        assert hasattr(Arbiter, name), name
    source = inspect.getsource(Arbiter.__init__)
    for name in ("self.pidfile", "self.START_CTX", "self.log", "self.setup("):
        assert name in source or name in inspect.getsource(Arbiter), name


def test_what_is_used_of_gunicorns_worker() -> None:
    for name in ("SIGNALS", "handle_abort"):
        assert hasattr(Worker, name), name


def test_settings_have_the_parts_the_table_needs() -> None:
    for cls in KNOWN_SETTINGS:
        for part in ("name", "cli", "validator", "default", "desc", "action"):
            assert hasattr(cls, part), (cls.name, part)

"""The shell from a worker's loop: the server that the plugin's ``Shell(in_worker=True)`` gets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest

from apihour.ipc.runtime import Runtime
from apihour.plugins import Server
from apihour_console.faces.in_worker import WorkerShell, make_server
from tests.apihour_console.support import Typist, run, ssh_command, wait_until


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[WorkerShell, int, Path]]:
    keys = tmp_path / "keys"
    keys.mkdir()
    key = asyncssh.generate_private_key("ssh-ed25519", comment="me")
    private = tmp_path / "id"
    private.write_bytes(key.export_private_key("openssh"))
    private.chmod(0o600)
    (keys / "authorized_keys").write_bytes(b'role="admin" ' + key.export_public_key("openssh"))
    runtime = Runtime(tmp_path / "run")
    runtime.path.mkdir(mode=0o700)
    worker = SimpleNamespace(
        runtime=runtime, cfg=SimpleNamespace(keys=str(keys), ssh_strict=False), name="1.1"
    )
    context = SimpleNamespace(
        name="shell", container=SimpleNamespace(worker=worker), logger=logging.getLogger("tests")
    )
    shell = make_server(context, {"idle_timeout": 60})
    await shell.start(context)
    listener = await asyncio.get_running_loop().create_server(
        lambda: shell.stream(Row()), "127.0.0.1", 0
    )
    yield shell, listener.sockets[0].getsockname()[1], private
    listener.close()
    await shell.stop()


class Row:
    """The core's row of a connection, from behind a proxy."""

    peer_address: Any = ("203.0.113.9", 4711)
    state = "open"


async def test_commands_and_true_peers(served: tuple[WorkerShell, int, Path]) -> None:
    shell, port, key = served
    assert isinstance(shell, Server)
    status, out, _ = await run(ssh_command(port, key, "version"))
    assert status == 0 and "gunicorn" in out
    status, out, _ = await run(ssh_command(port, key, "sessions", "--csv"))
    assert status == 0 and "203.0.113.9:4711" in out
    await wait_until(lambda: shell.statistics()["connections"] == 0)


async def test_draining_waits_for_the_operator(
    served: tuple[WorkerShell, int, Path], typist: Typist
) -> None:
    shell, port, key = served
    await typist.start(ssh_command(port, key, options=["-tt"]))
    await typist.expect("in worker 1.1: me is admin")
    await typist.expect("shell>")
    assert shell.statistics()["open_sessions"] == 1
    loop = asyncio.get_running_loop()
    drained = asyncio.create_task(shell.drain(loop.time() + 30))
    await typist.expect("this worker is going")
    assert not drained.done()
    await typist.type("\x04")
    assert await typist.ended() == 0
    await asyncio.wait_for(drained, 10)


async def test_without_keys_clients_are_told(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path / "run")
    runtime.path.mkdir(mode=0o700)
    worker = SimpleNamespace(runtime=runtime, cfg=SimpleNamespace(keys=str(tmp_path / "keys"),
                                                                  ssh_strict=True))
    context = SimpleNamespace(name="shell", container=SimpleNamespace(worker=worker),
                              logger=logging.getLogger("tests"))
    shell = make_server(context, {})
    await shell.start(context)
    listener = await asyncio.get_running_loop().create_server(
        lambda: shell.stream(None), "127.0.0.1", 0
    )
    port = listener.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert b"no key is authorised" in await asyncio.wait_for(reader.read(), 5)
    writer.close()
    listener.close()
    await shell.stop()
    assert not (tmp_path / "keys").exists()

"""What the ssh plugin takes, what it imports, and the declaration of the console."""

import asyncio
import subprocess
import sys
import types

import asyncssh
import pytest

import apihour_ssh
from apihour.plugins import Server, is_server
from apihour_ssh import Shell, SSHServer
from apihour_ssh.adapter import plugin
from tests.apihour_tcp.minicore import context


class Users(asyncssh.SSHServer):
    pass


@pytest.mark.parametrize(("obj", "taken"), [
    (Users, True), (asyncssh.SSHServer, True), (Shell(), True),
    (SSHServer(Users), True), (Users(), False), (asyncssh.SSHClient, False),
    (asyncio.Protocol, False), (lambda: Users(), False), (None, False),
])
def test_accepts(obj, taken):
    assert plugin.accepts(obj, "stream") is taken
    assert plugin.accepts(obj, "datagram") is False


def test_adapt():
    server = plugin.adapt(Users, "stream")
    assert isinstance(server, Server) and server.protocol == "ssh"
    shell = Shell()
    assert plugin.adapt(shell, "stream") is shell and is_server(shell, "stream")


def test_exports():
    assert apihour_ssh.__all__ == [
        "COMPATIBLE", "STRICT", "Admission", "Algorithms", "Limits", "SSHServer", "Shell",
        "TokenBucket"]


async def test_a_shell_serves_nothing_by_itself():
    shell = Shell(strict=True)
    assert (shell.protocol, shell.is_shell, shell.options) == ("ssh", True, {"strict": True})
    await shell.start(context())
    with pytest.raises(RuntimeError, match="belong to the console process"):
        shell.stream(None)
    await shell.drain(0.0)
    await shell.stop()
    assert shell.statistics() == {}


async def test_a_shell_in_the_worker_is_made_by_the_console(monkeypatch):
    seen = []

    class Served:
        async def start(self, ctx):
            seen.append("start")

        def stream(self, conn):
            return f"protocol of {conn}"

        async def drain(self, deadline):
            seen.append(deadline)

        async def stop(self):
            seen.append("stop")

        def statistics(self):
            return {"sessions": 1}

    def make_server(ctx, options):
        seen.append((ctx.name, dict(options)))
        return Served()

    module = types.ModuleType("apihour_console.faces.in_worker")
    module.make_server = make_server
    monkeypatch.setitem(sys.modules, "apihour_console.faces.in_worker", module)
    shell = Shell(in_worker=True, strict=True)
    await shell.start(context("console"))
    assert shell.stream("row") == "protocol of row" and shell.statistics() == {"sessions": 1}
    await shell.drain(7.0)
    await shell.stop()
    assert seen == [("console", {"strict": True}), "start", 7.0, "stop"]
    with pytest.raises(RuntimeError, match="expected an SSHServer"):
        await Shell(in_worker=True).start()


@pytest.mark.parametrize("code", [
    "import sys, apihour_ssh, apihour_ssh.adapter as a\n"
    "apihour_ssh.Shell(); assert not a.plugin.accepts(int, 'stream')\n"
    "assert not {'apihour', 'asyncssh', 'apihour_console'} & set(sys.modules), 'too much'\n"
    "a.plugin.adapt(apihour_ssh.SSHServer(authorized_keys='x'), 'stream')\n"
    "assert 'apihour' not in sys.modules",
    "import sys; sys.modules['asyncssh'] = None\n"
    "import apihour_ssh\n"
    "try: apihour_ssh.SSHServer()\n"
    "except ImportError as error: assert 'pip install asyncssh' in str(error), error\n"
    "else: raise SystemExit('no ImportError')",
], ids=["isolated", "without asyncssh"])
def test_imports(code):
    subprocess.run([sys.executable, "-c", code], check=True)

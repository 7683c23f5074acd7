"""examples/chat: the room by SSH, WebSocket, TCP and MQTT; on one host, on three, through reloads.

A line is acknowledged when he who said it sees it in the room.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import itertools
import re
import shutil
from pathlib import Path

import pytest

from tests.nats_server import nats_server
from tests.system.shell_support import needs_ssh

__all__ = ["nats_server"]

CHAT = Path(__file__).parents[2] / "examples" / "chat"
PATIENCE = 60.0
pytestmark = [needs_ssh, pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("amqtt", "websockets"))),
    reason="needs amqtt and websockets: pip install '.[hosted]'")]


class Visitor:
    """Somebody who comes back whenever he is parted, as the page does, and reads everything."""

    def __init__(self, daemon, name):
        self.daemon, self.name = daemon, name
        self.lines = []
        self.heard = asyncio.Event()
        self.visits = 0
        self.task = asyncio.create_task(self.stay())

    async def stay(self):
        while True:
            self.visits += 1
            with contextlib.suppress(OSError, EOFError, *self.parted()):
                await self.visit()
            await asyncio.sleep(0.1)

    def parted(self):
        return ()

    def hear(self, line):
        self.lines.append(line.rstrip("\r\n"))
        self.heard.set()

    async def until(self, seen):
        """Return when `seen` is true of what was heard."""
        async with asyncio.timeout(PATIENCE):
            while not seen():
                self.heard.clear()
                await self.heard.wait()

    async def sees(self, *lines):
        try:
            await self.until(lambda: set(lines) <= set(self.lines))
        except TimeoutError:
            missing = sorted(set(lines) - set(self.lines))
            raise AssertionError(f"{self.name}: not seen: {missing}; {self.lines[-20:]}") from None

    async def comes_back(self, before):
        """Return when he was parted since his visit `before`."""
        ends = asyncio.get_running_loop().time() + PATIENCE
        while self.visits == before:
            assert asyncio.get_running_loop().time() < ends, f"{self.name} is not parted"
            assert not self.task.done(), self.task
            await asyncio.sleep(0.05)

    async def say(self, text):
        """Return once it is acknowledged; it is said again when it is not."""
        line = f"{self.name}: {text}"
        async with asyncio.timeout(PATIENCE):
            while line not in self.lines:
                with contextlib.suppress(OSError, AttributeError, *self.parted()):
                    async with asyncio.timeout(3):  # amqtt's client waits, when it is parted
                        await self.send(text)
                        await self.until(lambda: line in self.lines)
                await asyncio.sleep(0.02)  # who is parted is so at once, and has to come back
        return line

    async def leave(self):
        self.task.cancel()
        await asyncio.wait({self.task})


class ByTCP(Visitor):
    async def visit(self):
        reader, self.writer = await asyncio.open_connection("127.0.0.1", self.daemon.port("tcp"))
        try:
            self.writer.write(f"{self.name}\n".encode())
            async for line in reader:
                self.hear(line.decode())
        finally:
            self.writer.close()

    async def send(self, text):
        self.writer.write(f"{text}\n".encode())
        await self.writer.drain()


class BySSH(Visitor):
    async def visit(self):
        self.process = await asyncio.create_subprocess_exec(
            "ssh", "-T", "-F", "none", "-p", str(self.daemon.port("ssh")), "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            f"{self.name}@127.0.0.1", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
        try:
            async for line in self.process.stdout:
                self.hear(line.decode())
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    async def send(self, text):
        self.process.stdin.write(f"{text}\n".encode())
        await self.process.stdin.drain()


class ByWebSocket(Visitor):
    def parted(self):
        from websockets.exceptions import WebSocketException

        return (WebSocketException,)

    async def visit(self):
        from websockets.asyncio.client import connect

        url = f"ws://{self.daemon.address('http')}/chat?name={self.name}"
        async with connect(url, open_timeout=PATIENCE) as self.socket:
            async for line in self.socket:
                self.hear(line)

    async def send(self, text):
        await self.socket.send(text)


class ByMQTT(Visitor):
    def parted(self):
        from amqtt.errors import AMQTTError, ClientError, MQTTError

        return (AMQTTError, ClientError, MQTTError)

    async def visit(self):
        from amqtt.client import MQTTClient

        client = MQTTClient(client_id=self.name, config={"auto_reconnect": False})
        await client.connect(f"mqtt://{self.daemon.address('mqtt')}/")
        self.client = client
        try:
            await client.subscribe([("chat/#", 0)])
            while (message := await client.deliver_message()) is not None:
                for line in bytes(message.publish_packet.payload.data).decode().splitlines():
                    self.hear(line)
        except asyncio.CancelledError:  # which is also how amqtt tells who waits that it is parted
            if asyncio.current_task().cancelling():
                raise
        finally:
            with contextlib.suppress(*self.parted()):
                await client.disconnect()

    async def send(self, text):
        await self.client.publish("say", text.encode(), qos=1)


async def all_talk(visitors, numbers, pause=0.05):
    """Each says some lines, one after another; returns those that were acknowledged."""
    async def talk(visitor):
        said = []
        for number in numbers:
            said.append(await visitor.say(f"line {number}"))
            await asyncio.sleep(pause)
        return said

    return list(itertools.chain(*await asyncio.gather(*map(talk, visitors))))


async def all_are_here(visitors):
    """Return when the first is told that all are."""
    first, wanted = visitors[0], [f"{one.name} (" for one in visitors]
    async with asyncio.timeout(PATIENCE):
        while not any(line.startswith("* here: ") and all(name in line for name in wanted)
                      for line in first.lines):
            with contextlib.suppress(AttributeError):  # he has no connection yet
                await first.send("/who")
            await asyncio.sleep(0.2)


async def all_have_left(daemon):
    """Return when no name is taken any more: whoever comes while one is would be tom2."""
    last = ByTCP(daemon, "last")
    async with asyncio.timeout(PATIENCE):
        while not any(re.fullmatch(r"\* here: last\d* \([^)]*\)", line) for line in last.lines):
            with contextlib.suppress(AttributeError, OSError):  # no connection yet, or any more
                await last.send("/who")
            await asyncio.sleep(0.1)
    await last.leave()


@contextlib.asynccontextmanager
async def room(*places):
    """A visitor for each of (kind, daemon), who have all come in; they have left afterwards."""
    names = {ByTCP: "tom", BySSH: "sue", ByWebSocket: "wendy", ByMQTT: "mike"}
    visitors = [kind(daemon, names[kind]) for kind, daemon in places]
    try:
        await all_are_here(visitors)
        yield visitors
    finally:
        for visitor in visitors:
            await visitor.leave()
    await all_have_left(visitors[0].daemon)


@pytest.fixture(scope="module")
def chat(apihour_module_daemon, tmp_path_factory):
    """The example, as it stands; and how to start it for a host of a fleet."""
    def start(name, config=""):
        directory = tmp_path_factory.mktemp(name) / "chat"
        shutil.copytree(CHAT, directory, ignore=shutil.ignore_patterns("keys", "__pycache__"))
        if config:
            (directory / "etc" / "main").mkdir(parents=True)
            (directory / "etc" / "main" / "main.yaml").write_text(config)
        binds = [word for bind in ("http", "ssh", "tcp", "mqtt")
                 for word in ("-b", f"{bind}=127.0.0.1:0")]
        return apihour_module_daemon(
            "chat:Container", *binds, *(["--config_dir", "etc"] if config else []),
            "--graceful-timeout", "3", cwd=directory, workers=1 if config else 2,
            env={"APIHOUR_HOST": name})
    return start


@pytest.fixture(scope="module")
def alone(chat):
    return chat("alone")


async def test_each_door_sees_the_others_through_a_reload(alone):
    async with room(*((kind, alone) for kind in (ByTCP, BySSH, ByWebSocket, ByMQTT))) as visitors:
        tom = visitors[0]
        said = await all_talk(visitors, ["first"])
        for visitor in visitors:
            await visitor.sees(*said)
        assert any("sue (ssh, alone)" in line for line in tom.lines)
        reloading = asyncio.create_task(asyncio.to_thread(alone.reload))
        said += await all_talk(visitors, range(12), 0.2)
        assert (await reloading).ok
        for visitor in visitors:
            await visitor.comes_back(1)
        said += await all_talk(visitors, ["last"])
        for visitor in visitors:
            await visitor.sees(*said)


async def test_what_a_peer_sends_is_bounded_and_harms_no_terminal(alone):
    async with room((ByTCP, alone), (ByWebSocket, alone)) as (tom, wendy):
        await wendy.send("\x1b[2J\x1b]0;owned\x07\u202eabc\r\ndef")
        await tom.sees("wendy: [2J ]0;owned  abc  def")
        await wendy.send("x" * 1000)
        await tom.sees("wendy: " + "x" * 400)
        before = tom.visits
        await tom.send("y" * 100_000)
        await tom.comes_back(before)
        assert not any("yy" in line for line in wendy.lines)
        twin = ByTCP(alone, "wendy")
        await twin.sees("* you are wendy2; /who tells who else is here")
        for number in range(80):
            await twin.send(f"flood {number}")
        await twin.sees("* not said: slower, please")
        await twin.leave()
        await wendy.sees("* wendy2 has left (tcp)")


async def test_who_was_on_a_killed_worker_has_left(alone):
    async with room((ByTCP, alone), (ByWebSocket, alone)) as (tom, wendy):
        await wendy.leave()
        await tom.sees("* wendy has left (web)")
        said = await tom.say("before")
        del tom.lines[:]
        for worker in alone.workers("serving"):
            alone.kill(worker)
        await tom.sees(said, "* tom has left (tcp)")  # the name is taken until then
        await tom.until(lambda: any(line.startswith("* you are tom2") for line in tom.lines))


@pytest.mark.timeout(300)  # three daemons, each started and reloaded
async def test_three_hosts_are_one_room_while_each_is_reloaded(chat, nats_server):
    config = f"bus: {nats_server.url}\nshared: {nats_server.url}\n"
    hosts = [await asyncio.to_thread(chat, name, config) for name in ("web-1", "web-2", "web-3")]
    places = zip((ByTCP, BySSH, ByWebSocket, ByMQTT), [*hosts, hosts[0]], strict=True)
    async with room(*places) as visitors:
        said = await all_talk(visitors, ["first"])
        for visitor in visitors:
            await visitor.sees(*said)
        for number, host in enumerate(hosts):
            reloading = asyncio.create_task(asyncio.to_thread(host.reload))
            said += await all_talk(visitors, [f"{number}.{one}" for one in range(5)], 0.2)
            assert (await reloading).ok
        said += await all_talk(visitors, ["last"])
        for visitor in visitors:
            await visitor.sees(*said)
        assert any("wendy (web, web-3)" in line for line in visitors[0].lines)


async def test_who_reads_slowly_is_told_what_he_missed(monkeypatch):
    monkeypatch.syspath_prepend(str(CHAT))
    room = importlib.import_module("room")
    seat = room.Seat(["first"])
    for number in range(500):
        seat.give(f"line {number}")
    reading = aiter(seat)
    lines = [await anext(reading) for _ in range(room.WAITING + 1)]
    assert lines[0] == "first" and lines[-2] == f"line {room.WAITING - 2}"
    assert lines[-1] == f"* you read too slowly, and missed {501 - room.WAITING} lines"
    waiting = asyncio.ensure_future(anext(reading))
    await asyncio.sleep(0)
    seat.give("again")
    assert await waiting == "again"

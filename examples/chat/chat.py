"""One room for SSH, WebSockets, plain TCP and MQTT, on any number of machines.

    pip install 'apihour[hosted]'          # for amqtt, the broker
    apihour chat:Container

    ssh ada@127.0.0.1 -p 8023              nc 127.0.0.1 9000
    http://127.0.0.1:8000/ in a browser    mosquitto_sub -t 'chat/#'; mosquitto_pub -t say

On several machines nothing changes but etc/main/main.yaml, which says ``bus:`` and ``shared:``
(docs/presence.rst).
"""

import asyncio
import contextlib
from pathlib import Path

import asyncssh
from broker import make_broker
from room import Room

import apihour
from apihour_http import HTML, HTTPServer, Routes
from apihour_ssh import SSHServer
from apihour_tcp import LibraryServer, TCPServer

SLOW = 20.0  # seconds to say a name, and that a line may take to one who does not read
routes = Routes()


@routes.get("/")
async def page(request):
    return HTML(Path(__file__).with_name("page.html").read_text())


@routes.websocket("/chat", max_size=4096)
async def websocket(request, websocket):
    await websocket.accept()
    texts = (message async for message in websocket if isinstance(message, str))
    await request.container.visit(request.query.get("name", ""), "web", texts, websocket.send)


class Guest(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False  # nobody is asked who he is: it is a public room


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:8000", "ssh": "127.0.0.1:8023", "tcp": "127.0.0.1:9000",
             "mqtt": "127.0.0.1:1883"}
    single = {"mqtt"}  # its clients meet in one broker

    def make_servers(self):
        self.room = Room(self)
        return {
            "http": HTTPServer(routes),
            "ssh": SSHServer(Guest, self.by_ssh, host_keys="keys/chat_host_key"),
            "tcp": TCPServer(self.by_tcp, limit=1000),
            "mqtt": LibraryServer(lambda: make_broker(self.room),
                                  stop=lambda broker: broker.shutdown()),
        }

    async def start(self):
        self.running = asyncio.create_task(self.room.run())

    async def cleanup(self):
        self.running.cancel()
        await asyncio.wait({self.running})

    async def by_tcp(self, reader, writer):
        async def tell(line):
            if writer.is_closing():
                raise ConnectionResetError  # uvloop's write() would say RuntimeError
            writer.write(f"{line}\n".encode())
            await writer.drain()

        async def texts():
            with contextlib.suppress(ValueError):  # longer than the limit: no line of a chat
                async for line in reader:
                    yield line.decode(errors="replace")

        lines = texts()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SLOW):
                await tell("* your name?")
                name = await anext(lines, "")
            await self.visit(name, "tcp", lines, tell)
        writer.close()

    async def by_ssh(self, process):
        async def tell(line):
            process.stdout.write(f"{line}\n")
            await process.stdout.drain()

        async def texts():
            with contextlib.suppress(asyncssh.BreakReceived, asyncssh.SignalReceived):
                while True:
                    with contextlib.suppress(asyncssh.TerminalSizeChanged):
                        if not (line := await process.stdin.readline()):
                            return
                        yield line

        await self.visit(process.get_extra_info("username"), "ssh", texts(), tell)
        process.exit(0)

    async def visit(self, wish, door, texts, tell):
        """Somebody is here, until he leaves, or does not read what he is told."""
        try:
            entry = await self.room.claim(wish, door)
        except apihour.ApihourError as error:  # the store is away
            return await tell(f"* {error}")
        try:
            with self.room.seat() as seat:
                seat.give(f"* you are {entry.who}; /who tells who else is here")
                await either(self.hear(entry.who, texts, seat), self.show(seat, tell))
        finally:
            await self.presence.leave(entry)

    async def hear(self, who, texts, seat):
        async for text in texts:
            if answer := await self.room.say(who, text):
                seat.give(answer)

    async def show(self, seat, tell):
        async for line in seat:
            async with asyncio.timeout(SLOW):
                await tell(line)


async def either(*works):
    """Do both until one has ended; a connection that is gone, or too slow, is an end too."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, (OSError, asyncssh.Error)):
                raise ended

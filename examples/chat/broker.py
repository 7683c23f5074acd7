"""The room's door for MQTT: say to ``say``, hear on ``chat/#``.

``chat/lobby`` has each line, ``chat/recent`` the last ones, for who subscribes, and
``chat/told/ID`` what is for the client of that id alone.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Any

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin

import apihour

LARGEST = 4096  # bytes of a payload, and of each other part of a packet
PACE = 0.001  # seconds between two parts: amqtt has a task for each packet
SLOW = 5.0  # seconds to say CONNECT, and that a line may take to one who does not read
SAY, HEAR, RECENT, TOLD = "say", "chat/lobby", "chat/recent", "chat/told"


async def make_broker(room):
    logging.getLogger("amqtt").setLevel(logging.WARNING)  # else a line for each that is not told
    broker = Bounded({"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:1883"}},
                     "plugins": {"broker.Door": {"room": room}}})
    await broker.start()
    return broker


class Bounded(Broker):
    """amqtt bounds neither what comes, nor who reads nothing; its adapters can."""

    async def stream_connected(self, reader, writer, listener_name):
        peer = Peer(reader, writer)
        try:
            await self.external_connected(peer, peer, listener_name)
        finally:
            writer.transport.abort()


class Peer(StreamReaderAdapter, StreamWriterAdapter):
    """One connection, both ways. What it raises amqtt takes for the end of it."""

    def __init__(self, reader, writer):
        StreamReaderAdapter.__init__(self, reader)
        StreamWriterAdapter.__init__(self, writer)
        self.until = asyncio.get_running_loop().time() + SLOW

    async def read(self, n=-1):
        await asyncio.sleep(PACE)
        await self.drain()  # who does not read is not heard
        try:
            if self.is_closed or not 0 <= n <= LARGEST:
                raise TimeoutError
            async with asyncio.timeout_at(self.until):
                return await super().read(n)
        except TimeoutError:
            self.end()

    def write(self, data):
        self.until = None
        if not self._writer.is_closing():
            super().write(data)

    async def drain(self):
        try:
            async with asyncio.timeout(SLOW):
                await super().drain()
        except TimeoutError:
            self.end()

    async def close(self):
        with contextlib.suppress(OSError):  # a TimeoutError, too
            async with asyncio.timeout(SLOW):
                await super().close()

    def end(self):
        self.is_closed = True
        self._writer.transport.abort()
        raise ConnectionResetError


class Door(BaseAuthPlugin, BaseTopicPlugin):
    """Whoever connects is in the room, by his client id."""

    @dataclass
    class Config:
        room: Any

    def __init__(self, context):
        super().__init__(context)
        self.room = self.config.room
        self.entries = {}  # by client id; None: not in the room yet
        self.lock = asyncio.Lock()  # events are heeded in order

    async def authenticate(self, *, session):
        session.clean_session = True  # nothing is kept for who is away: he sees the last lines
        session.will_flag = False  # amqtt would send it past topic_filtering()
        return not set(session.client_id or "") & set("+#/")  # it is a level of a topic

    async def topic_filtering(self, *, session=None, topic=None, action=None):
        if action == Action.PUBLISH:
            return topic == SAY
        own = f"{TOLD}/{session.client_id}"
        return topic in (HEAR, RECENT, own) or (topic == "chat/#" and action == Action.SUBSCRIBE)

    async def on_broker_post_start(self):
        self.showing = asyncio.create_task(self.show())

    async def show(self):
        with self.room.seat() as seat:
            async for line in seat:
                await self.context.retain_message(RECENT, "\n".join(self.room.recent).encode())
                await self.context.broadcast_message(HEAR, line.encode())

    async def on_broker_client_connected(self, *, client_id, client_session):
        async with self.lock:
            await self.leave(client_id)  # one of that id was here before
            self.entries[client_id] = None
            await self.claim(client_id)

    async def on_broker_message_broadcast(self, *, client_id, message):
        async with self.lock:
            entry = await self.claim(client_id)
        text = bytes(message.data).decode(errors="replace")
        answer = await self.room.say(entry.who, text) if entry else "* not said: no name yet"
        if answer:
            await self.context.broadcast_message(f"{TOLD}/{client_id}", answer.encode())

    async def on_broker_client_disconnected(self, *, client_id, client_session):
        async with self.lock:
            await self.leave(client_id)

    async def claim(self, client_id):
        """Who that client is in the room; None while the store is away."""
        if self.entries.get(client_id) is None:
            with contextlib.suppress(apihour.ApihourError):
                self.entries[client_id] = await self.room.claim(client_id, "mqtt")
        return self.entries.get(client_id)

    async def leave(self, client_id):
        if entry := self.entries.pop(client_id, None):
            await self.room.presence.leave(entry)

    async def close(self):
        self.showing.cancel()
        for client_id in list(self.entries):
            await self.leave(client_id)

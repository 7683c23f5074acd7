"""The room's door for MQTT: say to ``say``, hear on ``chat/#``.

``chat/lobby`` has each line, ``chat/recent`` the last ones, for who subscribes, and
``chat/told/ID`` what is for the client of that id alone.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin

import apihour

SAY, HEAR, RECENT, TOLD = "say", "chat/lobby", "chat/recent", "chat/told"


async def make_broker(room):
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:1883"}},
                     "plugins": {"broker.Door": {"room": room}}})
    await broker.start()
    return broker


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

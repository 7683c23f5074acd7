"""A job and a service that one worker of all daemons has; what they write, with their tokens."""

import asyncio
import os

import apihour


class Container(apihour.Container):
    binds = None
    single = {"lead"}

    def __init__(self, config, worker, loop):
        store = {"url": os.environ["FLEET_STORE"], "deadline": 0.5}
        super().__init__({**config, "shared": store, "jobs": {"lease": 1}}, worker, loop)

    async def note(self, what, run):
        """What a resource sees that does not look at tokens."""
        await self.shared.append(f"seen/{what}", b"%d %d\n" % (os.getpid(), run.token))

    async def lead(self, run):
        while True:
            await self.note("lead", run)
            await asyncio.sleep(0.05)

    @apihour.every("0.1s")
    async def work(self, run):
        for _ in range(20):
            await self.note("work", run)
            await asyncio.sleep(0.05)

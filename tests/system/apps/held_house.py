"""The application to look into, whose workers do not begin to serve while a file is there."""

import asyncio
import os
from pathlib import Path

import shell_house


class Container(shell_house.Container):
    async def start(self):
        await super().start()
        while Path(os.environ["HOLD"]).exists():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)

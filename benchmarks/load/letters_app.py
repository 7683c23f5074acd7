"""What ``letters.py`` runs on each host: what it is told to do it writes down, a line a deed."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import apihour

DEEDS = Path(os.environ.get("APIHOUR_DEEDS", "deeds"))


def note(what):
    """A line with one write: what a killed worker has done is there."""
    fd = os.open(DEEDS, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, f"{what} {time.time():.3f} {os.getpid()}\n".encode())
    finally:
        os.close(fd)


class Container(apihour.Container):
    binds = None

    async def start(self):
        await asyncio.sleep(random.choice((0.0, 0.2, 1.0)))

    @apihour.every("1d")
    async def tick(self, run):
        note("tick")

    @apihour.command(role="operator")
    async def bump(self, token: str):
        """Write that token down, and go on for a moment."""
        note(token)
        await asyncio.sleep(random.choice((0.0, 0.3, 2.0)))
        return token

    @apihour.command(role="operator", deadline=1.5)
    async def quick(self, token: str):
        """The same, in less time."""
        note(token)
        await asyncio.sleep(random.choice((0.0, 0.3, 1.0)))
        return token

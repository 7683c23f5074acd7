"""Long output one screen at a time: space, enter, ``a`` for all, ``q`` to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from apihour_console.terminal import Terminal

__all__ = ["page"]

_PROMPT = "-- more: space, enter, a(ll), q(uit) --"
_CLEAR = "\r\x1b[K"


async def page(
    text: str, terminal: Terminal, write: Callable[[str], Awaitable[None]]
) -> None:
    """Show `text` on `terminal`; what fits the screen is simply written.

    `write` sends text and waits for a slow reader.
    """
    lines = text.splitlines(keepends=True)
    if len(lines) < terminal.rows or terminal.is_dumb:
        await write(text)
        return
    keys: asyncio.Queue[str] = asyncio.Queue()

    def received(typed: str) -> None:
        for key in typed[:100]:
            keys.put_nowait(key)

    step = terminal.rows - 1
    while lines:
        await write("".join(lines[:step]))
        del lines[:step]
        if not lines:
            return
        terminal.write(_PROMPT)
        terminal.attach(received)
        try:
            key = await keys.get()
            while key not in " \r\njaqQfG":
                key = await keys.get()
        finally:
            terminal.detach()
            terminal.write_raw(_CLEAR)
        if key in "qQ":
            return
        if key in "aG":
            await write("".join(lines))
            return
        step = terminal.rows - 1 if key in " f" else 1

"""Long output one screen at a time: space, enter, ``a`` for all, ``q`` to stop."""

from __future__ import annotations

import asyncio

from apihour_console.terminal import Terminal

__all__ = ["page"]

_PROMPT = "-- more: space, enter, a(ll), q(uit) --"
_CLEAR = "\r\x1b[K"


async def page(text: str, terminal: Terminal) -> None:
    """Show `text` on `terminal`; what fits the screen is simply written."""
    lines = text.splitlines(keepends=True)
    if len(lines) < terminal.rows or terminal.is_dumb:
        await _write_all(lines, terminal)
        return
    keys: asyncio.Queue[str] = asyncio.Queue()

    def received(typed: str) -> None:
        for key in typed[:100]:
            keys.put_nowait(key)

    step = terminal.rows - 1
    while lines:
        terminal.write("".join(lines[:step]))
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
            await _write_all(lines, terminal)
            return
        step = terminal.rows - 1 if key in " f" else 1


async def _write_all(lines: list[str], terminal: Terminal) -> None:
    for start in range(0, len(lines), 500):
        terminal.write("".join(lines[start : start + 500]))
        await asyncio.sleep(0)

"""Silences of a stream are broken, by less and less, and never inside a row."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from apihour_console.calls.call import Call
from apihour_console.text import silence
from apihour_console.text.silence import SilenceBreaker
from tests.apihour_console.support import make_catalogue, wait_until


class Sink:
    width: int | None = None
    colour = False

    def __init__(self, unnoticed: bool = True) -> None:
        self.leaves_unnoticed = unnoticed
        self.text = ""
        self.broken = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def out(self, text: str) -> None:
        if self.broken:
            raise BrokenPipeError("gone")
        half = len(text) // 2
        self.text += text[:half]
        await self.gate.wait()  # a reader that takes a long row by parts
        self.text += text[half:]

    err = out


def a_call(**facts: Any) -> Call:
    command = make_catalogue().get("workers")
    assert command is not None
    return Call(command, {}, **facts)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "_FIRST", 0.01)


@pytest.mark.parametrize(("facts", "nothing"), [
    ({}, "\r"), ({"json": True}, " "), ({"csv": True}, "\n")])
async def test_silence_is_broken_by_what_means_nothing(
    facts: dict[str, bool], nothing: str
) -> None:
    sink = Sink()
    async with SilenceBreaker(sink, a_call(**facts)) as out:
        await out.out("1\n")
        await wait_until(lambda: sink.text == "1\n" + 3 * nothing)
        await out.out("2\n")
        await wait_until(lambda: sink.text == "1\n" + 3 * nothing + "2\n" + 2 * nothing)
    if "json" in facts:
        assert [json.loads(line) for line in sink.text.splitlines()[:2]] == [1, 2]


async def test_nothing_goes_before_the_header_of_csv() -> None:
    sinks = [Sink(), Sink()]
    async with (SilenceBreaker(sinks[0], a_call(csv=True)),
                SilenceBreaker(sinks[1], a_call())):
        await wait_until(lambda: sinks[1].text == "\r\r")
    assert sinks[0].text == ""


async def test_a_row_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "_LONGEST", 0.01)
    sink = Sink()
    async with SilenceBreaker(sink, a_call()) as out:
        sink.gate.clear()
        row = asyncio.create_task(out.out("abcd\n"))
        await asyncio.sleep(0.1)
        assert sink.text == "ab"
        sink.gate.set()
        await row
        await wait_until(lambda: sink.text.startswith("abcd\n\r"))


async def test_a_sink_that_notices_is_left_alone() -> None:
    sink, other = Sink(unnoticed=False), Sink()
    async with SilenceBreaker(sink, a_call()) as out, SilenceBreaker(other, a_call()):
        await out.out("1\n")
        await wait_until(lambda: len(other.text) > 2)
    assert sink.text == "1\n"


async def test_a_reader_that_is_gone_fails_the_next_row_only() -> None:
    sink = Sink()
    async with SilenceBreaker(sink, a_call()) as out:
        sink.broken = True
        await asyncio.sleep(0.05)
        with pytest.raises(BrokenPipeError):
            await out.out("1\n")

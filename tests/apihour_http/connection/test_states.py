"""The table of states: its moves, and that a connection's readiness follows from it."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import pytest

from apihour_http import HTTPServer
from apihour_http.connection import states
from apihour_http.connection.states import (
    CLOSED,
    DISCARDING,
    HOLDING,
    PARSING,
    STATES,
    UPGRADED,
    UPGRADING,
    State,
)

from ..support import get
from ..test_corpus import Recorder, everything

POST = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nabcde"
CHUNKED = (b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
           b"3\r\nabc\r\n0\r\n\r\n")
ASKS = b"GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
SOCKET = ASKS.replace(b"h2c", b"websocket")
LAST = b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
BROKEN = b"GET / HTTP/9.9\r\nHost: t\r\n\r\n"


def test_an_end_is_an_end() -> None:
    for state in STATES:
        assert DISCARDING.after(state) is (CLOSED if state is CLOSED else DISCARDING)
        assert CLOSED.after(state) is CLOSED
        assert state.after(CLOSED) is CLOSED
        assert state.after(state) is state


@pytest.mark.parametrize(("state", "wrong"), [
    (UPGRADED, PARSING), (UPGRADED, UPGRADING), (UPGRADING, HOLDING), (UPGRADED, HOLDING),
])
def test_a_move_that_is_not_in_the_table_is_refused(state: State, wrong: State) -> None:
    with pytest.raises(RuntimeError, match=f"is {state} cannot be {wrong}: expected "):
        state.after(wrong)


def test_the_table_that_is_read_is_the_one_that_is_meant() -> None:
    rows = re.findall(r"^    ([A-Z]+) {2,}(\S.*?) {2,}(\S+) +(\S+) +(\S.*?) {2,}(\S.*)$",
                      states.__doc__ or "", re.MULTILINE)
    assert [name for name, *_ in rows] == [state.name for state in STATES]
    for state, (_, bytes_go, starts, _, end, moves) in zip(STATES, rows, strict=True):
        assert state.parses is (bytes_go == "the parser")
        assert state.starts is (starts == "yes")
        assert state.half_closes is (end == "answers still go")
        known = {"all": {one.name for one in STATES}, "-": set(), "(the end)": set()}
        expected = known.get(moves, set(moves.split())) - {state.name}
        ends = {"DISCARDING", "CLOSED"} - {state.name} if state is not CLOSED else set()
        assert set(state.moves) == expected | ends


def follows(lane: Any) -> bool:
    """The rule of the table, in full."""
    answers = lane.answers
    return bool(lane.state.starts and answers.current is None and not answers.queue
                and not lane.intake.held and not lane.write_paused)


@pytest.mark.parametrize("kind", ["direct", "app", "asgi"])
@pytest.mark.parametrize("seed", range(8))
async def test_ready_follows_from_the_state(kind: str, seed: int) -> None:
    chance = random.Random(f"{kind} {seed}")
    messages = [get(), POST, CHUNKED, ASKS, get() * 5, b"\r\n" + get(), get() * 1000]
    server = HTTPServer(**everything(kind))
    await server.start()
    met = set()
    try:
        for last in (get(), BROKEN, SOCKET, LAST):
            lane: Any = server.stream()
            lane.connection_made(Recorder())
            data = b"".join(chance.choices(messages, k=12)) + last
            while data and lane.transport is not None:
                size = chance.choice((1, 20, 100, 2000, 40_000))
                lane.data_received(data[:size])
                data = data[size:]
                assert lane.ready == follows(lane), lane.state
                met.add(lane.state)
                if chance.random() < 0.7:
                    await asyncio.sleep(0)
                    assert not lane.ready or follows(lane), lane.state
                if chance.random() < 0.2:
                    lane.pause_writing()
                    assert not lane.ready
                    await asyncio.sleep(0)
                    lane.resume_writing()
                    assert not lane.ready or follows(lane), lane.state
            async with asyncio.timeout(30):
                while lane.in_flight() or lane.intake.held:
                    await asyncio.sleep(0)
                    assert not lane.ready or follows(lane), lane.state
            lane.connection_lost(None)
            assert (lane.ready, lane.state) == (False, CLOSED)
    finally:
        await server.stop()
    assert PARSING in met and (DISCARDING in met or HOLDING in met)


async def test_nothing_starts_while_the_client_does_not_read() -> None:
    # The application's handlers wait for the client themselves.
    server = HTTPServer(**everything("direct"))
    await server.start()
    try:
        lane: Any = server.stream()
        lane.connection_made(Recorder())
        lane.data_received(get())
        lane.pause_writing()
        async with asyncio.timeout(30):
            while lane.in_flight():  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert not lane.ready
        lane.resume_writing()
        assert lane.ready and follows(lane)
        lane.connection_lost(None)
    finally:
        await server.stop()

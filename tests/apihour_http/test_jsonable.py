"""What endpoints return that JSON has no form for."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import re
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web

from apihour_http import JSON, Request, Routes
from apihour_http.jsonable import to_plain

from .support import get, serving


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date


class Struct(msgspec.Struct):
    path: pathlib.PurePosixPath
    colour: Colour


ID = uuid.UUID(int=7)
DAY = datetime.date(2026, 11, 26)
# As jsonable_encoder of FastAPI 0.115 answers them.
FORMS: list[tuple[Any, Any]] = [
    (datetime.datetime(2026, 11, 26, 1, 2, 3), "2026-11-26T01:02:03"),
    (datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC), "2026-11-26T00:00:00+00:00"),
    (DAY, "2026-11-26"), (datetime.time(1, 2), "01:02:00"),
    (datetime.timedelta(seconds=90), 90.0),
    (ID, "00000000-0000-0000-0000-000000000007"),
    (decimal.Decimal("1.5"), 1.5), (decimal.Decimal("10"), 10),
    (Colour.RED, "red"), (Level.LOW, 1),
    ({1}, [1]), (frozenset(["a"]), ["a"]), (deque([1, 2]), [1, 2]), (range(3), [0, 1, 2]),
    ((n for n in (1, 2)), [1, 2]),
    (b"text", "text"), (pathlib.PurePosixPath("/a/b"), "/a/b"),
    (ipaddress.ip_address("::1"), "::1"), (re.compile("a+"), "a+"),
    (Point(1, DAY), {"x": 1, "when": "2026-11-26"}),
    (Struct(pathlib.PurePosixPath("/a"), Colour.RED), {"path": "/a", "colour": "red"}),
]


@pytest.mark.parametrize("value, form", FORMS, ids=[type(value).__name__ for value, _ in FORMS])
@pytest.mark.parametrize("place", ["member", "deep", "bare", "hosted"])
async def test_forms(value: Any, form: Any, place: str) -> None:
    if place == "bare" and isinstance(value, bytes):
        return  # those are a body of their own
    if hasattr(value, "__next__"):
        value = iter(list(form))  # one for each time it is asked
    data = {"member": {"v": value}, "deep": [{"a": [value]}], "bare": value,
            "hosted": {"v": value}}[place]
    routes, app = Routes(), web.Application()
    routes.get("/member")(lambda request: data)
    routes.get("/deep")(lambda request: data)
    routes.get("/bare")(lambda request: data)

    async def hosted(request: web.Request) -> web.Response:
        return JSON(data)

    app.router.add_get("/hosted", hosted)
    async with serving(routes, app) as served:
        peer = await served.connect()
        peer.send(get(f"/{place}"))
        answer = await peer.answer()
        peer.close()
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    expected = {"member": {"v": form}, "deep": [{"a": [form]}], "bare": form,
                "hosted": {"v": form}}[place]
    assert json.loads(answer.body) == expected


def test_what_has_no_form_is_named() -> None:
    with pytest.raises(TypeError, match=r"object <object .*: has no form in JSON, expected a dict"):
        to_plain(object())


async def test_what_has_no_form_is_500_and_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    routes = Routes()

    @routes.get("/")
    async def bad(request: Request) -> dict[str, object]:
        return {"a": object()}

    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get())
        assert (await peer.answer()).status == 500
        peer.close()
    assert "has no form in JSON" in caplog.text and "bad failed on GET '/'" in caplog.text


def test_without_ujson_and_msgspec() -> None:
    script = (
        "import sys; sys.modules['ujson'] = sys.modules['msgspec'] = None\n"
        "import dataclasses, datetime\nDAY = datetime.date(2026, 11, 26)\n"
        "Point = dataclasses.make_dataclass('Point', ['x', 'when'])\n"
        "from apihour_http.options import default_dumps\n"
        "from apihour_http.response import Renderer\n"
        "print(Renderer(default_dumps()).encode_json([Point(1, DAY)]).decode())\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert output.stdout == '[{"x":1,"when":"2026-11-26"}]\n'


async def test_another_encoder_is_its_owners(caplog: pytest.LogCaptureFixture) -> None:
    routes = Routes()
    routes.get("/")(lambda request: {"id": ID})
    async with serving(routes, dumps=lambda data: json.dumps(data, default=repr)) as served:
        raw = await served.ask(get("/", "Connection: close"))
        assert b"UUID('" in raw
    async with serving(routes, dumps=json.dumps) as served:
        assert b" 500 " in await served.ask(get("/", "Connection: close"))


NO_NUMBER = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("number", NO_NUMBER)
@pytest.mark.parametrize("shape", [
    lambda number: {"x": number}, lambda number: [1.5, [number]],
    lambda number: {"x": number, "day": datetime.date(2026, 11, 26)},
])
async def test_a_float_that_is_no_number_is_refused(
    number: float, shape: Any, caplog: pytest.LogCaptureFixture
) -> None:
    routes = Routes()
    routes.get("/")(lambda request: shape(number))
    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get())
        answer = await peer.answer()
        peer.close()
    assert answer.status == 500
    assert "NaN" not in answer.body.decode() and "expected a finite number" in caplog.text


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "I am No one"])
async def test_a_text_may_say_what_no_number_is(text: str) -> None:
    routes = Routes()
    routes.get("/")(lambda request: {"name": text})
    routes.get("/day")(lambda request: {text: datetime.date(2026, 11, 26)})
    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get())
        assert json.loads((await peer.answer()).body) == {"name": text}
        peer.send(get("/day"))
        assert json.loads((await peer.answer()).body) == {text: "2026-11-26"}
        peer.close()


async def test_what_was_not_awaited_or_is_a_stream_says_so() -> None:
    async def later() -> int:
        return 1

    async def rows() -> AsyncIterator[int]:
        yield 1

    coroutine, step = later(), rows().__anext__()
    for value, message in ((coroutine, "expected it awaited"), (step, "expected it awaited"),
                           (rows(), r"expected Stream\(…\) or SSE")):
        with pytest.raises(TypeError, match=message):
            to_plain(value)
    assert (await coroutine, await step) == (1, 1)

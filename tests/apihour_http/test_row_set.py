"""The rows of one statement: what is sent is what is sent for a dictionary of each."""

from __future__ import annotations

import datetime
import decimal
import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import ujson

from apihour_http import Request, Response, Routes, RowSet
from apihour_http.jsonable import encoder, to_plain
from apihour_http.response import Renderer
from apihour_http.row_set import takes_structs

from .support import get, serving


class Row(tuple[Any, ...]):
    """As a driver's: values by iteration, columns by keys()."""

    columns: tuple[str, ...] = ("id", "two words", "class", "?column?")

    def keys(self) -> Iterator[str]:
        return iter(self.columns)


class Other(Row):
    columns = ("a", "b", "c", "d")


class Twice(Row):
    columns = ("a", "a")


DAY = datetime.date(2026, 11, 27)
ROWS = [Row((1, "ü", None, [1, {"a": 2}])), Row((2, decimal.Decimal("1.10"), DAY, 0.5))]
DICTS = [dict(zip(Row.columns, row, strict=True)) for row in ROWS]
EASY = [Row((number, "x", True, None)) for number in range(3)]


def hooked(data: Any) -> bytes:
    return msgspec.json.encode(data, enc_hook=to_plain)


@pytest.mark.parametrize("dumps", [encoder(), msgspec.json.encode, hooked, ujson.dumps, json.dumps])
def test_they_are_what_dictionaries_are(dumps: Callable[[Any], Any]) -> None:
    renderer = Renderer(dumps)
    for rows in (EASY, ROWS, []):
        dicts = [dict(zip(Row.columns, row, strict=True)) for row in rows]
        try:
            expected = renderer.encode_json(dicts)
        except (TypeError, ValueError) as error:  # none of the plain encoders takes a date
            with pytest.raises(type(error)):
                renderer.encode_json(RowSet(rows))
        else:
            assert renderer.encode_json(RowSet(rows)) == expected


def test_only_encoders_that_take_them_have_structs() -> None:
    assert takes_structs(msgspec.json.encode) and takes_structs(msgspec.json.Encoder().encode)
    assert takes_structs(hooked)
    assert not takes_structs(json.dumps) and not takes_structs(ujson.dumps)
    assert not takes_structs(repr)  # takes them, and makes something else of them


def test_columns_with_one_name_are_as_in_a_dictionary() -> None:
    rows = RowSet([Twice((1, 2))])
    assert rows.structs() == rows.plain() == [{"a": 2}]


def test_rows_of_sqlite() -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.row_factory = sqlite3.Row
        rows = RowSet(connection.execute("SELECT 1 AS a, 'x' AS b UNION SELECT 2, 'y'").fetchall())
    connection.close()
    assert Renderer(msgspec.json.encode).encode_json(rows) == b'[{"a":1,"b":"x"},{"a":2,"b":"y"}]'
    assert len(rows) == 2 and repr(rows) == "<RowSet: 2 of a, b>"


@pytest.mark.parametrize(("rows", "said"), [
    ([(1, 2)], "RowSet: a tuple: expected rows that have keys"),
    ([{"a": 1}], "RowSet: a dict: expected rows that have keys"),
    ([EASY[0], Other((1, 2, 3, 4))], "RowSet: columns .* expected the rows of one statement"),
])
def test_what_is_no_row_is_refused(rows: list[Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        RowSet(rows)


def test_a_row_of_another_length_is_refused() -> None:
    for length in (3, 5):
        rows = RowSet([EASY[0], Row((0,) * length), EASY[0]])
        with pytest.raises(TypeError):
            rows.structs()
        with pytest.raises(ValueError, match="argument 2"):
            rows.plain()


@pytest.mark.parametrize("dumps", [None, msgspec.json.encode])
async def test_endpoints_return_them(dumps: Any) -> None:
    routes = Routes()
    routes.get("/")(lambda request: RowSet(EASY))
    routes.get("/nothing")(lambda request: RowSet([]))
    routes.get("/own")(lambda request: Response(201, {"X-A": "b"}, RowSet(EASY)))

    @routes.get("/within", compress=True)
    async def within(request: Request) -> Any:
        return {"rows": RowSet(ROWS)}

    async with serving(routes=routes, **({} if dumps is None else {"dumps": dumps})) as served:
        for path, status in (("/", b"200"), ("/own", b"201")):
            head, _, body = (await served.ask(get(path, "Connection: close"))).partition(
                b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
            assert b"\r\nContent-Type: application/json" in head
            assert json.loads(body) == [dict(zip(Row.columns, row, strict=True)) for row in EASY]
        assert (await served.ask(get("/nothing", "Connection: close"))).endswith(b"\r\n\r\n[]")
        if dumps is None:
            answer = await served.ask(get("/within", "Connection: close"))
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["rows"][1]["class"] == "2026-11-27"

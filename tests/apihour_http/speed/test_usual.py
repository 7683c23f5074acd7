"""The usual answer, data as JSON: made the short way whatever the encoder gives, text or bytes."""

from __future__ import annotations

import gzip
import json
from typing import Any

import msgspec
import pytest

from apihour_http import HTTPServer, Routes
from apihour_http.connection.connection import HTTPConnection
from apihour_http.speed import compiled

from . import streams

GET = b"GET /%d HTTP/1.1\r\nHost: t\r\n"
PLAIN: list[Any] = [{}, {"a": "ü"}, [{"a": 1}, {"b": [None]}], {"long": "x" * 40_000}]
OTHERS: list[Any] = [[], [1, {}], "täxt", b"bytes", None]


class Struct(msgspec.Struct):
    a: int


def utf8(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)


async def answers(
    results: list[Any], monkeypatch: pytest.MonkeyPatch, fields: bytes = b"",
    compress: bool = False, **options: Any
) -> tuple[list[tuple[bytes, bytes]], list[Any]]:
    """Head and body of each answer, and the results that were no usual ones."""
    general: list[Any] = []
    found = HTTPConnection.answer_any

    def answer_any(lane: Any, request: Any, result: Any) -> Any:
        general.append(result)
        return found(lane, request, result)

    monkeypatch.setattr(HTTPConnection, "answer_any", answer_any)
    monkeypatch.setattr("apihour_http.connection.lane.answer_any", answer_any)
    routes = Routes()
    for number, result in enumerate(results):
        routes.get(f"/{number}", compress=compress)(lambda request, result=result: result)
    server = HTTPServer(routes, **options)
    await server.start()
    lane, wire = server.stream(), streams.Wire()
    lane.connection_made(wire)
    made = []
    for number in range(len(results)):
        wire.sent.clear()
        lane.data_received(GET % number + fields + b"\r\n")
        head, _, body = bytes(wire.sent).partition(b"\r\n\r\n")
        made.append((head, body))
    assert lane.conn.requests == server.statistics()["requests"] == len(results)
    lane.connection_lost(None)
    await server.stop()
    return made, general


@pytest.mark.parametrize("dumps", [None, msgspec.json.encode, json.dumps, utf8])
async def test_data_is_sent_the_short_way_and_the_same(
    dumps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {} if dumps is None else {"dumps": dumps}
    made, general = await answers(PLAIN, monkeypatch, **options)
    for result, (head, body) in zip(PLAIN, made, strict=True):
        assert json.loads(body) == result
        assert head.startswith(b"HTTP/1.1 200 OK\r\nDate: ")
        assert b"\r\nContent-Type: application/json\r\n" in head
        assert head.endswith(b"\r\nContent-Length: %d" % len(body))
    # A text with letters beyond ASCII has fewer characters than bytes.
    assert general == (PLAIN if dumps is utf8 else [])


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"])
async def test_texts_are_sent_the_short_way(
    fields: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["text"] if fields else ["text", "", "x" * 40_000]
    made, general = await answers(texts, monkeypatch, fields)
    for text, (head, body) in zip(texts, made, strict=True):
        assert body.decode() == text
        assert head.split(b"\r\n")[2:] == [
            b"Content-Type: text/plain; charset=utf-8", b"Content-Length: %d" % len(text),
            *fields.strip().splitlines()]
    assert len(general) == (0 if compiled is not None else len(texts))


async def test_what_is_not_plain_data_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [*OTHERS, [Struct(1)], {"a": {1, 2}}]
    made, general = await answers(results, monkeypatch, dumps=msgspec.json.encode)
    assert general == results[:-1]
    assert made[0][1] == b"[]" and made[2][1] == "täxt".encode() and made[5][1] == b'[{"a":1}]'
    assert json.loads(made[6][1]) == {"a": [1, 2]}


async def test_what_the_encoder_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, general = await answers([[{"a": object()}]], monkeypatch, dumps=msgspec.json.encode)
    assert len(general) == 1 and made[0][0].startswith(b"HTTP/1.1 500 ")
    assert "Encoding objects of type object is unsupported" in caplog.text


@pytest.mark.parametrize("accepted", [b"", b"Accept-Encoding: gzip\r\n"])
@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"])
async def test_compressed_data_is_sent_the_short_way(
    accepted: bytes, last: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [{"a": "ü"}] if last else [{"a": "ü"}, [{"a": 1}] * 400]
    made, general = await answers(
        results[-1:], monkeypatch, accepted + last, compress=True, dumps=msgspec.json.encode)
    head, body = made[0]
    is_coded = bool(accepted) and not last
    assert json.loads(gzip.decompress(body) if is_coded else body) == results[-1]
    lines = [b"Vary: Accept-Encoding", *[b"Content-Encoding: gzip"] * is_coded,
             *last.strip().splitlines()]
    assert head.split(b"\r\n")[2:] == [
        b"Content-Type: application/json", b"Content-Length: %d" % len(body), *lines]
    assert len(general) == (0 if compiled is not None else 1)

"""Answers of ASGI on streams of HTTP/2: what is declared, how they end, what cannot be sent."""

from __future__ import annotations

import asyncio
import gc

import pytest

from apihour_asgi.stream_exchange import DeclaredFields, StreamExchange
from apihour_http.http2.fieldblocks import field
from tests.apihour_asgi.support import http, served
from tests.apihour_http.http2.support import connected
from tests.apihour_http.support import wait_until

START = {"type": "start", "status": 200}


def start(*fields, **more):
    return {**START, "headers": [*fields], **more}


def body(data=b"", more=False):
    return {"type": "body", "body": data, "more_body": more}


async def asked(messages, *fields, method="GET"):
    """What a client gets of an application that sends these messages, with the server's record."""
    async with served(http(*messages)) as s, connected(s) as client:
        reply = await client.get("/", *fields, method=method)
        await wait_until(lambda: s.record["tasks"] == 0, 30)
        return reply


async def test_fields_in_whatever_form_they_are_declared():
    reply = await asked([start(
        [b"X-List", b" padded\t"], (b"x-array", bytearray(b"of bytes")), (b"Connection", b"close"),
        (b"Keep-Alive", b"5"), (b"upgrade", b"h2c"), (b"Proxy-Connection", b"close"),
        (b"transfer-encoding", b"chunked"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d"),
    ), body(b"abc", True), body(bytearray(b"def"))])
    date = reply.fields[b"date"]
    assert reply.head == [
        (b":status", b"200"), (b"x-list", b"padded"), (b"x-array", b"of bytes"),
        (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d"), (b"date", date)]
    assert (reply.body, reply.ended) == (b"abcdef", True)


async def test_a_date_of_its_own():
    reply = await asked([start((b"date", b"today")), body(b"a")])
    assert reply.head == [(b":status", b"200"), (b"date", b"today"), (b"content-length", b"1")]


@pytest.mark.parametrize(("status", "method", "fields", "length"), [
    (200, "HEAD", [(b"content-length", b"5")], b"5"), (200, "HEAD", [], None),
    (304, "GET", [(b"content-length", b"5")], b"5"),
    (204, "GET", [(b"content-length", b"5")], None),
    (200, "GET", [(b"content-length", b"0")], b"0"), (200, "GET", [], b"0"),
])
async def test_answers_without_a_body(status, method, fields, length):
    said = b"hello" if status != 200 or method == "HEAD" else b""
    reply = await asked([start(*fields, status=status), body(said)], method=method)
    assert (reply.status, reply.body, reply.ended, reply.fields.get(b"content-length")) == (
        status, b"", True, length)


async def test_a_length_that_was_told_ends_the_answer():
    reply = await asked([
        start((b"content-length", b"6")), body(b"", True), body(b"abc", True), body(b"def", True),
        body()])
    assert (reply.body, reply.ended, reply.reset) == (b"abcdef", True, None)


@pytest.mark.parametrize("fields", [[], [(b"content-length", b"3")]])
@pytest.mark.parametrize("given", [[(b"X-Sum", b"4 "), (b"Content-Length", b"9")], []])
async def test_trailers_behind_a_body_of_either_kind(fields, given):
    reply = await asked([start(*fields, trailers=True), body(b"abc"), {
        "type": "trailers", "headers": given}])
    assert (reply.body, reply.ended) == (b"abc", True)
    assert reply.trailers == ([(b"x-sum", b"4")] if given else None)


async def test_trailers_of_an_answer_without_a_body():
    reply = await asked([start(trailers=True), body(b"abc"), {
        "type": "trailers", "headers": [(b"x", b"y")]}], method="HEAD")
    assert (reply.body, reply.ended, reply.trailers) == (b"", True, None)


@pytest.mark.parametrize("messages", [
    [start((b"a b", b"c"))], [start(("a", b"c"))], [start((b"a", "c"))], [start((b"a", b"c\r\nd"))],
    [start((b"a", b"c"), status=99)], [start((b"content-length", b"x"))],
    [start((b"content-length", b"1"), (b"Content-Length", b"1"))], [start((b"a",))],
    [start((b"transfer-encoding", b"gzip"))], [start((b"content-length", b"2")), body(b"a")],
    [start((b"content-length", b"2")), body(b"abc")], [body(b"a")], [start()],
])
async def test_what_cannot_be_sent_is_a_500(messages):
    reply = await asked(messages)
    assert (reply.status, reply.ended) == (500, True)


@pytest.mark.parametrize("messages", [
    [start((b"content-length", b"9")), body(b"abc", True), body(b"def")],
    [start((b"content-length", b"4")), body(b"abc", True), body(b"def")],
    [start(), body(b"abc", True)],
])
async def test_what_is_broken_off_is_reset(messages):
    reply = await asked(messages)
    assert (reply.status, reply.body[:3], reply.ended, reply.reset) == (200, b"abc", False, 2)


async def test_a_head_that_is_longer_than_a_frame():
    fields = [(b"x-%d" % number, b"v" * 1000) for number in range(45)]
    async with served(http(start(*fields), body(b"ab"))) as s, connected(s) as client:
        client.h2.max_inbound_frame_size = 16384
        client.h2.decoder.max_header_list_size = 1 << 20
        reply = await client.get()
        assert (len(reply.head), reply.body) == (48, b"ab")


def test_what_is_remembered_of_fields_is_bounded():
    known = DeclaredFields(field)
    for number in range(2000):
        pair = (b"x", b"%d" % number)
        assert known[pair] == known[pair]
    assert len(known) <= 512
    known.clear()
    assert known[b"x", b"y" * 300][1] is None
    assert not known


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nothing_of_a_stream_is_left_to_the_collector(method):
    async def app(scope, receive, send):
        await asyncio.sleep(0)
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"abc"})

    async with served(app) as s, connected(s) as client:
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                await client.get("/", method=method, body=b"ab" if method == "POST" else None)
            await wait_until(lambda: not [
                one for one in gc.get_objects() if type(one) is StreamExchange], 30)
        finally:
            gc.enable()

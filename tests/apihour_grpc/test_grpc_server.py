"""grpcio's client calls services of grpcio's and of grpclib's generated code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from apihour_grpc import GRPCServer
from apihour_grpc.adapter import plugin
from tests.apihour_http.http2.support import connected
from tests.apihour_http.support import context, wait_until

PATIENCE = 30.0
state = SimpleNamespace()


async def hello(request, context):
    sent = dict(context.invocation_metadata())
    await context.send_initial_metadata((("x-init", "1"), ("b-bin", b"\0\1")))
    context.set_trailing_metadata((("x-trail", "t"),))
    return request + b" " + sent.get("x-name", "").encode()


async def count(request, context):
    for number in range(int(request)):
        yield b"%d" % number


async def total(requests, context):
    return b"%d" % sum([len(request) async for request in requests])


async def twice(requests, context):
    async for request in requests:
        yield request * 2


async def reads(requests, context):
    while (request := await context.read()) is not grpc.aio.EOF:
        await context.write(request)


async def ends(request, context):
    if request == b"set":
        context.set_code(grpc.StatusCode.ALREADY_EXISTS)
        context.set_details("as said")
        return b""
    if request == b"split":
        context.set_trailing_metadata((("x", "a\r\nb"),))
        return b""
    await context.abort(grpc.StatusCode.NOT_FOUND, "not here: ü % \n", (("x-why", "1"),))


async def fails(request, context):
    raise RuntimeError("of the service, with a secret")


async def waits(request, context):
    state.left, state.peer = context.time_remaining(), context.peer()
    state.begun = True
    try:
        await state.go.wait()
    except asyncio.CancelledError:
        state.cancelled = True
        raise
    return b"done"


def handlers():
    kinds = {
        "unary_unary": {"Hello": hello, "Ends": ends, "Fails": fails, "Waits": waits},
        "unary_stream": {"Count": count},
        "stream_unary": {"Total": total},
        "stream_stream": {"Twice": twice, "Reads": reads},
    }
    return {name: getattr(grpc, f"{kind}_rpc_method_handler")(function)
            for kind, functions in kinds.items() for name, function in functions.items()}


class Text:
    """A message that is its bytes, with what generated classes have."""

    def __init__(self, data=b""):
        self.data = data

    @classmethod
    def FromString(cls, data):
        if data == b"bad":
            raise ValueError("no message")
        return cls(data)

    def SerializeToString(self):
        return self.data


class Lib:
    """As grpclib's generated code has it."""

    async def hello(self, stream):
        request = await stream.recv_message()
        assert stream.deadline is None or stream.deadline.time_remaining() > 0
        if request.data == b"error":
            raise GRPCError(Status.PERMISSION_DENIED, "not you")
        if request.data == b"nothing":
            return
        await stream.send_initial_metadata(metadata={"x-init": "1"})
        name = stream.metadata.get("x-name", "")
        await stream.send_message(Text(request.data + b" " + name.encode()))
        await stream.send_trailing_metadata(metadata={"x-trail": "t"})

    async def twice(self, stream):
        async for request in stream:
            await stream.send_message(Text(request.data * 2))

    def __mapping__(self):
        return {
            "/test.Lib/Hello": Handler(self.hello, Cardinality.UNARY_UNARY, Text, Text),
            "/test.Lib/Twice": Handler(self.twice, Cardinality.STREAM_STREAM, Text, Text),
        }


@contextlib.asynccontextmanager
async def served(told=None, **options):
    server = GRPCServer(Lib(), **options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
        "test.Generic", handlers()),))
    server.add_registered_method_handlers("test.Service", handlers())
    state.__dict__.clear()
    state.go = asyncio.Event()
    await server.start(told)
    listener = await asyncio.get_running_loop().create_server(server.stream, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield SimpleNamespace(server=server, channel=channel, port=port)
    finally:
        listener.close()
        await server.stop()


def call(s, path, request, kind="unary_unary", **options):
    options.setdefault("timeout", PATIENCE)
    return getattr(s.channel, kind)(path)(request, **options)


async def status_of(s, path, request, **options):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(s, path, request, **options)
    return caught.value


@pytest.mark.parametrize("path", ["/test.Service/Hello", "/test.Generic/Hello", "/test.Lib/Hello"])
async def test_a_call_and_its_metadata(path):
    async with served() as s:
        made = call(s, path, b"hello", metadata=(("x-name", "you"),))
        assert await made == b"hello you"
        assert ("x-init", "1") in list(await made.initial_metadata())
        assert list(await made.trailing_metadata()) == [("x-trail", "t")]
        assert await made.code() is grpc.StatusCode.OK
        if "Lib" not in path:
            assert ("b-bin", b"\0\1") in list(await made.initial_metadata())


async def test_streams():
    async with served() as s:
        assert [m async for m in call(s, "/test.Service/Count", b"3", "unary_stream")] == [
            b"0", b"1", b"2"]
        parts = [bytes(100_000)] * 30
        assert await call(s, "/test.Service/Total", iter(parts), "stream_unary") == b"3000000"
        for path in ("/test.Service/Twice", "/test.Lib/Twice"):
            made = call(s, path, iter([b"a", b"b"]), "stream_stream")
            assert [m async for m in made] == [b"aa", b"bb"]
        made = call(s, "/test.Service/Reads", iter([b"a", b"b"]), "stream_stream")
        assert [m async for m in made] == [b"a", b"b"]


async def test_a_conversation():
    async with served() as s:
        made = s.channel.stream_stream("/test.Service/Twice")(timeout=PATIENCE)
        for number in range(20):
            await made.write(b"%d" % number)
            assert await made.read() == b"%d%d" % (number, number)
        await made.done_writing()
        assert await made.read() is grpc.aio.EOF
        assert await made.code() is grpc.StatusCode.OK


async def test_how_calls_end(caplog):
    async with served() as s:
        error = await status_of(s, "/test.Service/Ends", b"")
        assert (error.code(), error.details()) == (
            grpc.StatusCode.NOT_FOUND, "not here: ü % \n")
        assert list(error.trailing_metadata()) == [("x-why", "1")]
        error = await status_of(s, "/test.Service/Ends", b"set")
        assert (error.code(), error.details()) == (grpc.StatusCode.ALREADY_EXISTS, "as said")
        for path, request in (("/test.Service/Fails", b""), ("/test.Service/Ends", b"split")):
            error = await status_of(s, path, request)
            assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN,
                                                       "the service failed")
        error = await status_of(s, "/test.Service/None", b"")
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        error = await status_of(s, "/test.Lib/Hello", b"error")
        assert (error.code(), error.details()) == (
            grpc.StatusCode.PERMISSION_DENIED, "not you")
        assert (await status_of(s, "/test.Lib/Hello", b"bad")).code() is grpc.StatusCode.INTERNAL
        assert (await status_of(s, "/test.Lib/Hello", b"nothing")).code() is (
            grpc.StatusCode.UNKNOWN)
    assert "the service failed on '/test.Service/Fails'" in caplog.text


async def test_a_deadline():
    async with served() as s:
        error = await status_of(s, "/test.Service/Waits", b"", timeout=0.5)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await wait_until(lambda: getattr(state, "cancelled", False), PATIENCE)
        assert 0 < state.left <= 0.5
        assert state.peer.startswith("ipv4:127.0.0.1:")


async def test_a_client_that_sends_no_more_has_given_its_call_up():
    async with served() as s, connected(s) as client:
        client.ask("POST", "/test.Service/Waits", (b"content-type", b"application/grpc"),
                   (b"te", b"trailers"), body=bytes(5))
        await wait_until(lambda: getattr(state, "begun", False), PATIENCE)
        client.end()
        await wait_until(lambda: getattr(state, "cancelled", False), PATIENCE)
        await client.closed()


async def test_a_call_that_is_cancelled():
    async with served() as s:
        made = call(s, "/test.Service/Waits", b"")
        await wait_until(lambda: getattr(state, "begun", False), PATIENCE)
        assert s.server.statistics()["calls"] == 1
        made.cancel()
        await wait_until(lambda: getattr(state, "cancelled", False), PATIENCE)
        await wait_until(lambda: s.server.statistics()["calls"] == 0, PATIENCE)


async def test_sizes_and_compression():
    async with served(max_message=100_000) as s:
        assert len(await call(s, "/test.Service/Hello", bytes(90_000))) == 90_001
        error = await status_of(s, "/test.Service/Hello", bytes(200_000))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await call(s, "/test.Service/Hello", b"a" * 5000,
                          compression=grpc.Compression.Gzip) == b"a" * 5000 + b" "


async def test_a_client_that_does_not_read_stops_the_service():
    async with served() as s:
        made = call(s, "/test.Service/Count", b"2000000", "unary_stream")
        assert await made.read() == b"0"
        # The rest waits for the client's window: it is not in our memory.
        (connection,) = s.server._http.connections
        lane = next(iter(connection.streams.values()))
        await wait_until(lambda: lane.write_paused, PATIENCE)
        assert lane.waiting < 200_000
        assert await made.read() == b"1"
        made.cancel()


async def test_a_drain_serves_what_has_begun():
    async with served(context()) as s:
        made = call(s, "/test.Service/Waits", b"")
        await wait_until(lambda: getattr(state, "begun", False), PATIENCE)
        draining = asyncio.create_task(s.server.drain(asyncio.get_running_loop().time() + 60))
        (connection,) = s.server._http.connections
        await wait_until(lambda: connection.farewell.is_said, PATIENCE)
        assert not draining.done()
        state.go.set()
        assert await made == b"done"
        await asyncio.wait_for(draining, PATIENCE)


async def test_what_is_no_call():

    async with served() as s, connected(s) as client:
        assert (await client.get("/test.Service/Hello")).status == 405
        assert (await client.get("/test.Service/Hello", method="POST", body=b"{}")).status == 415
        grpc_type = (b"content-type", b"application/grpc")
        for fields in ([(b"grpc-timeout", b"soon")], [(b"a-bin", b"A")]):
            reply = await client.get("/test.Service/Hello", grpc_type, *fields, method="POST",
                                     body=bytes(5))
            assert reply.fields[b"grpc-status"] == b"13"
        reply = await client.get("/test.Service/Hello", grpc_type, method="POST", body=b"\0\0\0")
        assert dict(reply.trailers or reply.head)[b"grpc-status"] == b"13"
        reader, writer = await asyncio.open_connection("127.0.0.1", s.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), PATIENCE)).startswith(b"HTTP/1.1 426 ")
        writer.close()


async def test_it_is_logged():
    records = []
    logger = logging.getLogger("test.grpc.access")
    logger.propagate = False
    logger.setLevel("INFO")
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger.addHandler(handler)
    async with served(context(access_log=logger)) as s:
        await status_of(s, "/test.Service/Ends", b"")
        await wait_until(lambda: records, PATIENCE)
    assert '"POST /test.Service/Ends?grpc-status=5 HTTP/2.0" 200' in records[0]


def test_what_is_refused():
    with pytest.raises(TypeError, match=r"expected a service of grpclib's generated code"):
        GRPCServer(object())
    with pytest.raises(TypeError, match=r"option 'max_body': expected one of access_log"):
        GRPCServer(max_body=1)
    with pytest.raises(ValueError, match="option max_message=0: expected bytes"):
        GRPCServer(max_message=0)
    plain = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    with pytest.raises(TypeError, match=r"/a\.B/C: .*expected async def, as with grpc\.aio"):
        GRPCServer().add_registered_method_handlers("a.B", {"C": plain})


async def test_without_the_extra(monkeypatch):
    monkeypatch.setattr("apihour_http.http2.speaker.is_installed", lambda: False)
    with pytest.raises(ImportError, match=r"pip install 'apihour\[http2\]'"):
        await GRPCServer(Lib()).start()


def test_plugin():
    server = GRPCServer(Lib())
    assert plugin.accepts(server, "stream") and not plugin.accepts(server, "datagram")
    assert plugin.accepts(Lib(), "stream") and not plugin.accepts(Lib, "stream")
    assert plugin.adapt(server, "stream") is server
    assert isinstance(plugin.adapt(Lib(), "stream"), GRPCServer)
    assert server.alpn == ("h2",)

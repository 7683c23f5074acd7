"""A client of HTTP/2 for tests: the library h2 on a real socket, and frames by hand."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import Any

import h2.config
import h2.connection
import h2.events

PATIENCE = 30.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Reply:
    """What came on one stream."""

    def __init__(self):
        self.head = None
        self.interim = []
        self.body = b""
        self.trailers = None
        self.ended = False
        self.reset = None

    @property
    def status(self):
        return int(dict(self.head)[b":status"])

    @property
    def fields(self):
        return dict(self.head)


class Client:
    """One connection; what comes is read while something is waited for."""

    def __init__(self, reader, writer, authority, acknowledges=True):
        self.reader, self.writer = reader, writer
        self.authority = authority
        self.acknowledges = acknowledges
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=True, header_encoding=None))
        self.replies: dict[int, Reply] = {}
        self.goaways: list[Any] = []
        self.is_closed = self.has_ended = False
        self.settings = {}
        self._held = b""
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if not self.has_ended:
            self.writer.write(data)

    def end(self):
        """Send no more."""
        self.has_ended = True
        self.writer.write_eof()

    def raw(self, data):
        """Send frames by hand."""
        self.writer.write(data)

    def ask(self, method="GET", path="/", *fields, body=None, ends=True):
        """Begin a request; its number is returned."""
        number = self.h2.get_next_available_stream_id()
        head = [(b":method", method.encode()), (b":scheme", b"http"),
                (b":authority", self.authority), (b":path", path.encode()), *fields]
        self.replies[number] = Reply()
        self.h2.send_headers(number, head, end_stream=ends and body is None)
        if body is not None:
            self.h2.send_data(number, body, end_stream=ends)
        self.flush()
        return number

    def reset(self, number, code=8):
        self.h2.reset_stream(number, code)
        self.flush()

    async def read(self, timeout=PATIENCE):
        """Take what comes next."""
        data = await asyncio.wait_for(self.reader.read(65536), timeout)
        if not data:
            self.is_closed = True
            return
        self._held += data
        while len(self._held) >= 9 and len(self._held) >= 9 + int.from_bytes(self._held[:3], "big"):
            size = 9 + int.from_bytes(self._held[:3], "big")
            whole, self._held = self._held[:size], self._held[size:]
            if whole[3] == 7:
                # The library takes nothing behind a GOAWAY, not even what it is for (6.8).
                self.goaways.append(struct.unpack(">LL", whole[9:17]))
                continue
            for event in self.h2.receive_data(whole):
                self._take(event)
        with contextlib.suppress(ConnectionError):
            self.flush()

    def _take(self, event):
        reply = self.replies.get(getattr(event, "stream_id", None) or 0)
        match event:
            case h2.events.ResponseReceived():
                reply.head = list(event.headers)
            case h2.events.InformationalResponseReceived():
                reply.interim.append(dict(event.headers)[b":status"])
            case h2.events.DataReceived():
                reply.body += event.data
                if self.acknowledges and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                reply.trailers = list(event.headers)
            case h2.events.StreamEnded():
                reply.ended = True
            case h2.events.StreamReset():
                reply.reset = event.error_code
            case h2.events.RemoteSettingsChanged():
                self.settings.update(
                    {int(k): v.new_value for k, v in event.changed_settings.items()})

    async def until(self, condition, timeout=PATIENCE):
        """Read until `condition()` holds."""
        async with asyncio.timeout(timeout):
            while not condition():
                if self.is_closed:
                    raise ConnectionError(f"closed; goaways {self.goaways}")
                await self.read()

    async def reply(self, number):
        """The whole answer of a request, or its reset."""
        reply = self.replies[number]
        await self.until(lambda: reply.ended or reply.reset is not None)
        return reply

    async def get(self, path="/", *fields, method="GET", body=None):
        return await self.reply(self.ask(method, path, *fields, body=body))

    async def closed(self):
        """Read until the server closes; the last GOAWAY is returned."""
        async with asyncio.timeout(PATIENCE):
            while not self.is_closed:
                try:
                    await self.read()
                except ConnectionError:
                    self.is_closed = True
        return self.goaways[-1] if self.goaways else None

    def close(self):
        self.writer.close()


@contextlib.asynccontextmanager
async def connected(served, **options):
    """A client of `served`, closed at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1 << 22)
    client = Client(reader, writer, b"127.0.0.1:%d" % served.port, **options)
    try:
        yield client
    finally:
        client.close()


class Raw:
    """A connection of bytes: what no library would send."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, *frames):
        self.writer.write(b"".join(frames))

    async def frames(self, until=None, timeout=PATIENCE):
        """The frames that come until one of the type `until`, or the end."""
        found = []
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            async with asyncio.timeout(timeout):
                while not found or found[-1][0] != until:
                    head = await self.reader.readexactly(9)
                    size = int.from_bytes(head[:3], "big")
                    payload = await self.reader.readexactly(size)
                    found.append((head[3], head[4], int.from_bytes(head[5:], "big"), payload))
        return found

    async def goaway(self):
        """The code of the GOAWAY that ends the connection; None without one."""
        for kind, _, _, payload in await self.frames(until=7):
            if kind == 7:
                return int.from_bytes(payload[4:8], "big")
        return None


@contextlib.asynccontextmanager
async def raw(served, settle=True):
    """A connection of bytes to `served`, its preface and SETTINGS sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1 << 22)
    peer = Raw(reader, writer)
    if settle:
        peer.send(PREFACE, frame(4, 0, 0))
    try:
        yield peer
    finally:
        writer.close()


def frame(kind, flags, number, payload=b""):
    return struct.pack(">L", len(payload))[1:] + bytes((kind, flags)) + struct.pack(
        ">L", number) + payload


# :method GET, :scheme http, :path /, :authority x
BLOCK = b"\x82\x86\x84\x41\x01x"


def head(number, block=BLOCK, flags=5):
    return frame(1, flags, number, block)

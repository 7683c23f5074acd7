"""What goes through a Proxy: bytes both ways, ends, resets, pressure; and what is counted."""

import asyncio
import contextlib
import errno
import hashlib
import logging
import socket
import ssl
import struct
from types import SimpleNamespace

import pytest
from apihour_mux import Mux, MuxEntry
from apihour_proxy import Proxy, dial, flow, looking
from apihour_proxy.adapter import plugin

from apihour.plugins import Server
from tests.apihour_proxy.support import (
    PATIENCE,
    Serving,
    Upstream,
    dead_port,
    proxied,
    until,
)
from tests.certificates import Authority


async def whole(reader):
    return await asyncio.wait_for(reader.read(), PATIENCE)


def test_it_is_a_server_of_a_plugin():
    proxy = Proxy("127.0.0.1:1")
    assert isinstance(proxy, Server)
    assert plugin.accepts(proxy, "stream") and not plugin.accepts(proxy, "datagram")
    assert plugin.adapt(proxy, "stream") is proxy
    assert not plugin.accepts(object(), "stream")


@pytest.mark.parametrize(("arguments", "options", "said"), [
    ("nowhere", {}, "upstream 'nowhere': expected HOST:PORT"),
    ("::1:80", {}, "upstream '::1:80': expected HOST:PORT"),
    ("a:0", {}, "port '0': expected 1 to 65535"),
    ("a:x", {}, "port 'x': expected 1 to 65535"),
    ("srv:web.example", {}, "expected HOST:PORT, srv:_SERVICE._tcp.DOMAIN"),
    (5, {}, "upstreams 5: expected HOST:PORT, or a list of them"),
    ([1], {}, "upstream 1: expected HOST:PORT"),
    ("a:1", {"idle": 0}, "option idle=0: expected seconds, more than 0"),
    ("a:1", {"retries": True}, "option retries=True: expected a whole number"),
    ("a:1", {"retries": -1}, "option retries=-1: expected a whole number, at least 0"),
    ("a:1", {"proxy_protocol": 3}, "option proxy_protocol=3: expected 1, 2 or None"),
])
def test_what_cannot_be_is_refused_by_name(arguments, options, said):
    with pytest.raises((TypeError, ValueError)) as caught:
        Proxy(arguments, **options)
    assert said in str(caught.value)
    with pytest.raises((TypeError, ValueError)) as caught:
        Proxy("b:2").examine({}, {"upstreams": arguments, **options})
    assert said in str(caught.value)


@pytest.mark.parametrize("start", [Proxy().examine, lambda _, told: asyncio.run(
    Proxy([]).start(SimpleNamespace(options=told)))])
def test_a_configuration_that_cannot_be_is_refused(start):
    with pytest.raises(ValueError, match="no upstream: expected at least one"):
        start({}, {})
    with pytest.raises(ValueError, match="option 'upstream': expected one of upstreams, connect_t"):
        start({}, {"upstream": "a:1"})


async def test_the_configuration_goes_before_the_constructor():
    async with Upstream(b"a") as first, Upstream(b"b") as second:
        proxy = Proxy(first.address, retries=1)
        assert repr(proxy) == f"Proxy({first.address})"
        await proxy.start(SimpleNamespace(options={"upstreams": [second.address], "idle": None}))
        try:
            assert repr(proxy) == f"Proxy({second.address})"
            assert proxy.statistics()["upstream_up"] == {second.address: 1}
        finally:
            await proxy.stop()


async def test_bytes_go_both_ways_and_are_counted():
    async with Upstream(b"hello\n") as upstream, proxied(upstream.address) as (proxy, address):
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.readline() == b"hello\n"
        for number in range(50):
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"%d\n" % number
        figures = proxy.statistics()
        assert (figures["accepted"], figures["connections"], figures["unserved"]) == (1, 1, 0)
        name = upstream.address
        assert figures["upstream_up"] == {name: 1}
        assert figures["upstream_connections"] == {name: 1}
        sent = sum(len(b"%d\n" % number) for number in range(50))
        assert figures["upstream_bytes_out"] == {name: sent}
        assert figures["upstream_bytes_in"] == {name: sent + 6}
        writer.close()
        await until(lambda: not proxy.statistics()["connections"], "the connection to go")
        await until(lambda: not upstream.open, "the upstream to be told")
        assert proxy.statistics()["upstream_connections"] == {name: 0}


@pytest.mark.parametrize("splice", [True, False])
async def test_much_comes_through_whole_by_the_kernel_and_by_copying(splice, monkeypatch):
    if not splice:
        monkeypatch.setattr("apihour_proxy.pipes._MOST", 0)
    piece = bytes(range(256)) * 4096
    digest = hashlib.sha256(piece * 32).hexdigest()
    seen = []

    async def talk(reader, writer):
        hashed = hashlib.sha256()
        while data := await reader.read(1 << 20):
            hashed.update(data)
        seen.append(hashed.hexdigest())
        for _ in range(32):
            writer.write(piece)
            await writer.drain()

    async with Serving(talk) as upstream, proxied(upstream.address) as (proxy, address):
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(32):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
        hashed = hashlib.sha256()
        while data := await asyncio.wait_for(reader.read(1 << 20), PATIENCE):
            hashed.update(data)
        assert seen == [digest] and hashed.hexdigest() == digest
        assert bool(proxy._service.shared.pipes._made) == splice
        writer.close()


async def test_the_end_of_one_direction_is_not_the_end_of_the_other():
    async def upstream_first(reader, writer):
        writer.write(b"all I have")
        writer.write_eof()
        heard.set_result(await reader.read())

    async def client_first(reader, writer):
        asked = await reader.read()
        await asyncio.sleep(0.05)
        writer.write(b"answer to " + asked)

    heard = asyncio.get_running_loop().create_future()
    async with Serving(upstream_first) as upstream, proxied(upstream.address) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        assert await whole(reader) == b"all I have"
        await asyncio.sleep(0.05)
        writer.write(b"still ")
        await asyncio.sleep(0.05)
        writer.write(b"here")
        writer.write_eof()
        assert await asyncio.wait_for(heard, PATIENCE) == b"still here"
        writer.close()
    async with Serving(client_first) as upstream, proxied(upstream.address) as (proxy, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"question")
        writer.write_eof()
        assert await whole(reader) == b"answer to question"
        await until(lambda: not proxy.statistics()["connections"], "the connection to go")
        writer.close()


def reset(writer):
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_reset_is_passed_on_as_one_behind_what_came_before_it():
    async def talk(reader, writer):
        if await reader.readline() == b"cut\n":
            writer.write(b"half of an ans")
            await asyncio.sleep(0.1)
            reset(writer)
        else:
            try:
                await reader.read()
                heard.set_result("an end")
            except ConnectionResetError:
                heard.set_result("a reset")

    heard = asyncio.get_running_loop().create_future()
    async with Serving(talk) as upstream, proxied(upstream.address) as (proxy, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"cut\n")
        assert await reader.readexactly(14) == b"half of an ans"
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"go on\n")
        await until(lambda: upstream.open == 1, "the upstream to have it")
        await asyncio.sleep(0.05)
        reset(writer)
        assert await asyncio.wait_for(heard, PATIENCE) == "a reset"
        await until(lambda: not proxy.statistics()["connections"], "the connection to go")


async def test_an_answer_that_comes_before_the_question_is_whole_arrives():
    async def talk(reader, writer):
        await reader.readexactly(1000)
        writer.write(b"413 too much")
        await writer.drain()  # and closes, with bytes unread: its socket resets

    async with Serving(talk) as upstream, proxied(upstream.address) as (proxy, address):
        reader, writer = await asyncio.open_connection(*address)
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                writer.write(b"x" * 65536)
                await writer.drain()
        assert await whole(reader) == b"413 too much"
        writer.close()
        await until(lambda: not proxy.statistics()["connections"], "the connection to go")


async def test_who_does_not_read_is_not_read_for():
    stuck, most = asyncio.Event(), 400

    async def talk(reader, writer):
        for number in range(most):
            writer.write(b"y" * 65536)
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                stuck.number = number
                stuck.set()
                await writer.drain()

    async with Serving(talk) as upstream, proxied(upstream.address) as (_, address):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
        await asyncio.wait_for(stuck.wait(), PATIENCE)
        assert stuck.number < most - 1
        size = 0
        while data := await asyncio.wait_for(reader.read(1 << 20), PATIENCE):
            size += len(data)
        assert size == most * 65536
        writer.close()


async def test_when_nothing_moves_for_long_it_ends():
    async with Upstream() as upstream, proxied(upstream.address, idle=0.4) as (proxy, address):
        silent, _ = await asyncio.open_connection(*address)
        reader, writer = await asyncio.open_connection(*address)

        async def talk():
            while True:
                writer.write(b"x")
                await reader.readexactly(1)
                await asyncio.sleep(0.05)

        talking = asyncio.ensure_future(talk())
        assert await whole(silent) == b""
        await until(lambda: proxy.statistics()["idled"] == 1, "it to be counted")
        await asyncio.sleep(0.5)
        assert not talking.done() and proxy.statistics()["connections"] == 1
        talking.cancel()
        writer.close()


async def test_another_upstream_is_tried_before_the_first_byte(caplog):
    kept, port = dead_port()
    with contextlib.closing(kept):
        async with Upstream(b"ok") as upstream, proxied(
                [f"127.0.0.1:{port}", upstream.address], check=3600, fails=3) as (proxy, address):
            for _ in range(40):
                reader, writer = await asyncio.open_connection(*address)
                assert await reader.readexactly(2) == b"ok"
                writer.close()
            figures = proxy.statistics()
            assert figures["upstream_up"] == {f"127.0.0.1:{port}": 0, upstream.address: 1}
            assert figures["upstream_failed"][f"127.0.0.1:{port}"] == figures["retries"] == 3
            assert figures["unserved"] == 0
            lines = [line for line in caplog.messages if "is down" in line]
            assert lines == [f"server 'proxy': upstream 127.0.0.1:{port} is down: "
                             "Connection refused"]


async def test_one_that_restarts_is_waited_for_and_is_up_when_it_is_back(caplog):
    caplog.set_level(logging.INFO)
    async with Upstream(b"ok") as upstream, proxied(
            upstream.address, check=0.05, fails=2, retries=100) as (proxy, address):
        upstream.server.close()
        await until(lambda: not proxy.statistics()["upstream_up"][upstream.address],
                    "a check to fail")
        reader, writer = await asyncio.open_connection(*address)
        await until(lambda: proxy.statistics()["upstream_failed"][upstream.address] >= 2,
                    "the client's connection to be tried")
        async with upstream:
            assert await asyncio.wait_for(reader.readexactly(2), PATIENCE) == b"ok"
            await until(lambda: proxy.statistics()["upstream_up"][upstream.address], "it up")
        writer.close()
    assert any("is up again" in line for line in caplog.messages)


async def test_without_any_the_client_is_closed_and_one_line_says_so(caplog):
    kept, port = dead_port()
    with contextlib.closing(kept):
        async with proxied(f"127.0.0.1:{port}", retries=1, check=3600) as (proxy, address):
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*address)
                with contextlib.suppress(ConnectionError):
                    assert await whole(reader) == b""
                writer.close()
            assert proxy.statistics()["unserved"] == 3
    lines = [line for line in caplog.messages if "no upstream took" in line]
    assert len(lines) == 1 and lines[0].endswith(
        f"127.0.0.1:{port}: Connection refused (1 so far)")


async def test_one_that_does_not_answer_is_left_in_time():
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = []
    for _ in range(3):  # until its backlog is: further SYNs are dropped
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        fillers.append(filler)
    name = f"127.0.0.1:{full.getsockname()[1]}"
    async with Upstream(b"ok") as upstream, proxied(
            [name, upstream.address], connect_timeout=0.2, fails=1, check=3600) as (proxy, address):
        for _ in range(20):
            reader, writer = await asyncio.open_connection(*address)
            assert await asyncio.wait_for(reader.readexactly(2), PATIENCE) == b"ok"
            writer.close()
        assert proxy.statistics()["upstream_failed"][name] == 1
    for sock in (full, *fillers):
        sock.close()


async def test_what_is_lacking_here_is_no_fault_of_an_upstream(monkeypatch):
    def lacking(upstream):
        raise OSError(errno.EMFILE, "Too many open files")

    async with Upstream(b"ok") as upstream, proxied(
            upstream.address, retries=0, fails=1, check=0.05) as (proxy, address):
        for module in (dial, looking):
            monkeypatch.setattr(module, "open_socket", lacking)
        reader, writer = await asyncio.open_connection(*address)
        assert await whole(reader) == b""
        await asyncio.sleep(0.15)
        figures = proxy.statistics()
        assert figures["unserved"] == 1 and figures["upstream_up"] == {upstream.address: 1}
        monkeypatch.undo()
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.readexactly(2) == b"ok"
        writer.close()


@pytest.mark.parametrize("pieces", [[b"one"], [b"o", b"ne"]])
async def test_behind_a_mux(pieces):
    async with Upstream(b"") as echo, Upstream(b"220 hello\n") as greeter:
        mux = Mux({"one": MuxEntry(lambda data: data.startswith(b"one") if len(data) > 2 else None,
                                   Proxy(echo.address)),
                   "default": Proxy(greeter.address)}, timeout=0.2)
        await mux.start()
        listener = await asyncio.get_running_loop().create_server(mux.stream, "127.0.0.1", 0)
        address = listener.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.02)
        assert await asyncio.wait_for(reader.readexactly(3), PATIENCE) == b"one"
        writer.write(b"more" * 100_000)
        assert await asyncio.wait_for(reader.readexactly(400_000), PATIENCE) == b"more" * 100_000
        silent, other = await asyncio.open_connection(*address)
        assert await asyncio.wait_for(silent.readline(), PATIENCE) == b"220 hello\n"
        writer.write_eof()
        assert await whole(reader) == b""
        reader, ending = await asyncio.open_connection(*address)
        ending.write(b"one, and that is all")
        ending.write_eof()
        assert await whole(reader) == b"one, and that is all"
        for each in (writer, other, ending):
            each.close()
        listener.close()
        await mux.stop()


async def test_the_one_with_the_fewest_connections_is_next():
    async with Upstream(b"a") as one, Upstream(b"b") as other, proxied(
            [one.address, other.address]) as (proxy, address):
        ends = [await asyncio.open_connection(*address) for _ in range(10)]
        names = [await reader.readexactly(1) for reader, _ in ends]
        assert names.count(b"a") == names.count(b"b") == 5
        for name, (_, writer) in zip(names, ends, strict=True):
            if name == b"a":
                writer.close()
        await until(lambda: proxy.statistics()["upstream_connections"][one.address] == 0, "them")
        more = [await asyncio.open_connection(*address) for _ in range(5)]
        assert [await reader.readexactly(1) for reader, _ in more] == [b"a"] * 5
        for _, writer in (*ends, *more):
            writer.close()


async def test_upstreams_on_unix_sockets(tmp_path):
    path = str(tmp_path / "x")
    server = await asyncio.start_unix_server(Upstream(b"unix\n").serve, path)
    async with proxied(f"unix:{path}") as (proxy, address):
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.readline() == b"unix\n"
        writer.write(b"there")
        writer.write_eof()
        assert await whole(reader) == b"there"
        writer.close()
        assert proxy.statistics()["upstream_bytes_out"] == {f"unix:{path}": 5}
    server.close()


async def test_drain_waits_for_the_last_and_no_longer_than_told():
    async with Upstream() as upstream, proxied(upstream.address) as (proxy, address):
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"x")
        await reader.readexactly(1)
        began = loop.time()
        await proxy.drain(began + 0.1)
        assert loop.time() - began > 0.09
        draining = asyncio.ensure_future(proxy.drain(loop.time() + PATIENCE))
        writer.write(b"y")
        assert await reader.readexactly(1) == b"y" and not draining.done()
        writer.close()
        await asyncio.wait_for(draining, PATIENCE)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


async def test_tls_that_ends_here(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue("proxy")[0])
    size = 8 << 20

    async def talk(reader, writer):
        assert await reader.readexactly(size) == b"z" * size
        for _ in range(16):
            writer.write(b"w" * (size // 16))
            await writer.drain()

    async with Serving(talk) as upstream:
        proxy = Proxy(upstream.address)
        await proxy.start()
        listener = await asyncio.get_running_loop().create_server(
            proxy.stream, "127.0.0.1", 0, ssl=context)
        reader, writer = await asyncio.open_connection(
            *listener.sockets[0].getsockname(), ssl=authority.client())
        writer.write(b"z" * size)
        assert await whole(reader) == b"w" * size
        writer.close()
        await until(lambda: not proxy.statistics()["connections"], "the connection to go")
        await until(lambda: not upstream.open, "the upstream to be told")
        assert proxy.statistics()["upstream_bytes_in"] == {upstream.address: size}
        listener.close()
        await proxy.stop()


async def test_nothing_is_left_of_clients_that_leave_at_any_time():
    async with Upstream(b"x" * 300_000) as upstream, proxied(upstream.address) as (proxy, address):
        loop = asyncio.get_running_loop()
        for turns in range(60):
            sock = socket.socket()
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            if turns % 3:
                await loop.sock_sendall(sock, b"y" * (flow.BUFFER if turns % 2 else 10))
            for _ in range(turns % 7):
                await asyncio.sleep(0)
            if turns % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        await until(lambda: proxy.statistics()["accepted"] == 60, "all to be there")
        await until(lambda: not proxy.statistics()["connections"], "all to be gone")
        await until(lambda: not upstream.open, "the upstream to be told")
        pipes = proxy._service.shared.pipes
        assert len(pipes._free) == pipes._made
        assert proxy.statistics()["upstream_connections"] == {upstream.address: 0}

"""A Proxy in a daemon of two workers: TLS, PROXY headers, what the shell shows, and a reload."""

import asyncio
import contextlib
import json
import threading
import time

import pytest

from tests.certificates import Authority
from tests.system.shell_support import ctl

PATIENCE = 30
APPLICATION = '''
import apihour
from apihour_proxy import Proxy


class Container(apihour.Container):
    binds = {name: "127.0.0.1:0" for name in ("plain", "tls", "told")}

    def make_servers(self):
        return {"plain": Proxy("127.0.0.1:PORT"), "tls": Proxy("127.0.0.1:PORT"),
                "told": Proxy("127.0.0.1:PORT", proxy_protocol=1)}
'''


@pytest.fixture(scope="module")
def echo():
    """The port of an upstream in a thread: it gives back what it gets."""
    ready, stop = threading.Event(), None

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def main():
        nonlocal stop
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        ready.port = server.sockets[0].getsockname()[1]
        ready.end = lambda: loop.call_soon_threadsafe(stop.set)
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(PATIENCE)
    yield ready.port
    ready.end()
    thread.join(PATIENCE)


@pytest.fixture(scope="module")
def house(apihour_module_daemon, tmp_path_factory, echo):
    directory = tmp_path_factory.mktemp("proxy")
    authority = Authority(directory)
    authority.issue("server")
    (directory / "proxy_app.py").write_text(APPLICATION.replace("PORT", str(echo)))
    daemon = apihour_module_daemon(
        "proxy_app:Container", "--certfile", "server.pem", "-b", "tls=127.0.0.1:0?tls",
        "-b", "told=127.0.0.1:0?proxy=127.0.0.1", cwd=directory, console=True, workers=2)
    daemon.authority = authority
    return daemon


def test_tls_ends_at_the_bind(house):
    with house.authority.client().wrap_socket(
            house.connect("tls", PATIENCE), server_hostname="127.0.0.1") as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"


def test_the_client_that_a_proxy_names_is_named_to_the_upstream(house):
    with house.connect("told", PATIENCE) as sock:
        sock.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\nhello")
        got = b""
        while not got.endswith(b"hello"):
            got += sock.recv(1000)
        assert got == b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\nhello"


def test_a_reload_under_load_loses_nothing_and_figures_say_where_it_went(house, echo):
    stop, lost, done = threading.Event(), [], []

    def client(number):
        while not stop.is_set():
            try:
                with house.connect("plain", PATIENCE) as sock:
                    sock.settimeout(PATIENCE)
                    for turn in range(5):
                        text = b"%d/%d " % (number, turn) * 100
                        sock.sendall(text)
                        got = b""
                        while len(got) < len(text):
                            got += sock.recv(65536) or pytest.fail("cut")
                        assert got == text
                        time.sleep(0.01)
                done.append(number)
            except BaseException as error:
                lost.append(error)
                return

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    with house.connect("plain", PATIENCE) as held:
        held.sendall(b"before")
        assert held.recv(6) == b"before"
        shown = json.loads(ctl(house, "conns", "--json").stdout)
        assert [row["path"] for row in shown if row["server"] == "plain"] == [f"127.0.0.1:{echo}"]
        for thread in threads:
            thread.start()
        assert house.reload().ok
        began = len(done)
        deadline = time.monotonic() + PATIENCE
        while len(done) < began + 20 and not lost and time.monotonic() < deadline:
            time.sleep(0.02)
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert not lost and len(done) >= 20
        held.sendall(b"behind")
        assert held.recv(6) == b"behind"
    figures = json.loads(ctl(house, "metrics", "--json").stdout)
    assert {row["value"] for row in figures if row["name"] == "apihour_server_upstream_up"} == {2.0}

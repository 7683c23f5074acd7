"""Two clients behind a proxy, and strangers beside it, on two workers."""

import contextlib
import json
import socket
import struct
import threading

import pytest

from tests.system.shell_support import ctl

CLIENTS = "127.0.0.81", "127.0.0.82"
PROXY, STRANGER = "127.0.0.80", "127.0.0.83"


@pytest.fixture(scope="module")
def house(apihour_module_daemon, system_apps, tmp_path_factory):
    directory = tmp_path_factory.mktemp("proxied")
    log = directory / "access.log"
    daemon = apihour_module_daemon(
        "proxied:Container", "--pythonpath", str(system_apps),
        "-b", f"local=unix:{directory}/local.sock",
        *(word for bind in (f"http=127.0.0.1:0?proxy={PROXY}", "http=127.0.0.1:0",
                            f"asgi=127.0.0.1:0?proxy={PROXY}", "asgi=127.0.0.1:0")
          for word in ("-b", bind)),
        "--access-logfile", str(log), "--access-logformat", "json",
        "--forwarded-allow-ips", f"{PROXY},127.0.0.96/28",
        console=True, cwd=directory, workers=2)
    daemon.access_log = log
    return daemon


def dial(address, source):
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(30)
        sock.connect(address.removeprefix("unix:"))
        return sock
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 30, source_address=(source, 0))


def ask(sock, path, *lines):
    sock.sendall("\r\n".join(
        [f"GET {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode())
    with contextlib.closing(sock.makefile("rb")) as file:
        assert file.readline().startswith(b"HTTP/1.1 200 ")
        lines = iter(file.readline, b"\r\n")
        fields = dict(line.rstrip().lower().split(b": ", 1) for line in lines)
        return json.loads(file.read(int(fields[b"content-length"])))


class Proxy:
    """A proxy as small as one can be: one head a connection, with the client's address added."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, (host, _) = self.listener.accept()
                threading.Thread(target=self._pass_on, args=(client, host), daemon=True).start()

    def _pass_on(self, client, host):
        client.settimeout(30)
        with contextlib.suppress(OSError), client, dial(self.upstream, PROXY) as server:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(65536) or b"\r\n\r\n"
            added = f"X-Forwarded-For: {host}\r\nX-Forwarded-Proto: https\r\n\r\n"
            server.sendall(head[:-2] + added.encode())
            while data := server.recv(65536):
                client.sendall(data)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture(scope="module")
def proxies(house):
    found = {name: Proxy(house.address(name)) for name in ("http", "asgi")}
    yield found
    for one in found.values():
        one.close()


def asked(address, source, path, *lines):
    with dial(address, source) as sock:
        return ask(sock, path, *lines)


SPOOFED = "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https"


def test_each_worker_sees_each_client_whatever_it_says_of_itself(house, proxies):
    met = {client: set() for client in CLIENTS}
    for _ in range(100):
        for client in CLIENTS:
            found = asked(proxies["http"].address, client, "/who", *SPOOFED)
            assert (found["remote"], found["scheme"]) == (client, "https")
            met[client].add(found["pid"])
        if all(len(pids) == 2 for pids in met.values()):
            break
    assert met[CLIENTS[0]] == met[CLIENTS[1]] == {worker.pid for worker in house.workers()}


def test_the_other_lanes_see_it_too(house, proxies):
    for client in CLIENTS:
        for name, path in (("http", "/hosted"), ("asgi", "/")):
            found = asked(proxies[name].address, client, path, *SPOOFED)
            assert found == {"remote": client, "scheme": "https"}


def test_a_stranger_is_who_it_is(house):
    for name, path in (("http", "/who"), ("http", "/hosted"), ("asgi", "/")):
        found = asked(house.address(name), STRANGER, path, *SPOOFED)
        assert (found["remote"], found["scheme"]) == (STRANGER, "http")
    # The list says nothing of unix sockets, and replaces the default; this server has its own.
    found = asked(house.address("local"), "", "/who", *SPOOFED)
    assert (found["remote"], found["scheme"]) == ("203.0.113.7", "https")
    assert asked(house.address("local"), "", "/who")["remote"] is None
    assert asked(house.address("http"), "127.0.0.100", "/who", *SPOOFED)["remote"] == "203.0.113.7"


def test_the_access_log_has_the_clients(house, proxies):
    for client in CLIENTS:
        asked(proxies["http"].address, client, f"/who?logged={client}", *SPOOFED)

    def logged():
        lines = map(json.loads, house.access_log.read_text().splitlines())
        return {line["target"]: line["remote"] for line in lines if "logged" in line["target"]}

    house.wait(lambda: len(logged()) == 2, "both lines")
    assert logged() == {f"/who?logged={client}": client for client in CLIENTS}


def test_conns_shows_the_proxy_and_the_client(house, proxies):
    with contextlib.ExitStack() as stack:
        for client in CLIENTS:
            sock = stack.enter_context(dial(proxies["http"].address, client))
            sock.sendall(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")

        def seen():
            rows = [row for worker in house.workers()
                    for row in house.ask(worker, "conns").rows]
            return sorted((row["client"], row["peer"].partition(":")[0]) for row in rows
                          if row["path"] == "/hold")

        expected = [(client, PROXY) for client in CLIENTS]
        house.wait(lambda: seen() == expected, "both clients", timeout=30)


def status(address, source, path, *lines):
    with dial(address, source) as sock:
        sock.sendall("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode())
        with sock.makefile("rb") as file:
            return int(file.readline().split()[1])


def test_a_ban_of_a_client_holds_behind_the_proxy(house, proxies):
    """On every lane of both workers, and for what is under way; neighbours notice nothing."""
    banned, other = CLIENTS
    kinds = ("http", "/who"), ("http", "/hosted"), ("asgi", "/")
    with contextlib.ExitStack() as stack:
        holding = {}
        for client in CLIENTS:
            holding[client] = sock = stack.enter_context(dial(proxies["http"].address, client))
            sock.sendall(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
        house.wait(lambda: set(CLIENTS) <= {
            row["client"] for worker in house.workers()
            for row in house.ask(worker, "conns").rows}, "both clients", timeout=30)
        [row] = json.loads(ctl(house, "ban", banned, "--for", "1h", "--json").stdout)
        stack.callback(ctl, house, "unban", "all")
        assert row["network"] == f"{banned}/32" and row["closed"] >= 1
        assert holding[banned].recv(1) == b""
        for name, path in kinds:
            seen = {status(proxies[name].address, banned, path) for _ in range(12)}
            assert seen == {403}, (name, path, seen)
            assert status(proxies[name].address, other, path) == 200
        local = house.address("local")
        assert status(local, "", "/who", f"X-Forwarded-For: {banned}") == 403
        assert asked(local, "", "/who", f"X-Forwarded-For: {other}")["remote"] == other
        holding[other].settimeout(0.05)
        with pytest.raises(TimeoutError):
            holding[other].recv(1)
        [row] = json.loads(ctl(house, "bans", "--json").stdout)
        assert row["refused"] == 37
    for name, path in kinds:
        assert status(proxies[name].address, banned, path) == 200


# -- by the PROXY protocol


def proxied(house, name):
    """Where the server of that name expects PROXY headers: its first bind."""
    return next(line for line in house.log.splitlines()
                if f"at: {name}=" in line).partition(f"{name}=")[2]


def header(client, tls=b""):
    body = socket.inet_aton(client) + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 4711, 443)
    if tls:
        inner = struct.pack("!BI", 1, 0) + struct.pack("!BH", 0x21, len(tls)) + tls
        body += struct.pack("!BH", 0x20, len(inner)) + inner
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(body)) + body


WHO = [("http", "/who"), ("http", "/hosted"), ("asgi", "/")]


@pytest.mark.parametrize(("name", "path"), WHO)
def test_a_proxy_header_says_who_the_client_is_to_every_lane(house, name, path):
    for client, tls in (("192.0.2.7", b"TLSv1.3"), ("192.0.2.8", b"")):
        with dial(proxied(house, name), PROXY) as sock:
            sock.sendall(header(client, tls))
            for _ in range(2):  # the second on the same connection
                found = ask(sock, path, *SPOOFED)
                assert (found["remote"], found["scheme"]) == (client, "https" if tls else "http")


@pytest.mark.parametrize("name", ["http", "asgi"])
def test_strangers_are_not_heard_behind_a_proxy_header(house, name):
    with dial(proxied(house, name), STRANGER) as sock:
        sock.sendall(header("192.0.2.7") + b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""
    with dial(proxied(house, name), PROXY) as sock:
        sock.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""


def test_conns_show_both_and_a_reload_loses_none(house):
    with contextlib.ExitStack() as stack:
        held = []
        for client in ("192.0.2.21", "192.0.2.22"):
            sock = stack.enter_context(dial(proxied(house, "http"), PROXY))
            sock.sendall(header(client))
            held.append((client, sock, ask(sock, "/who")))
        waiting = stack.enter_context(dial(proxied(house, "http"), PROXY))
        rows = json.loads(ctl(house, "conns", "--json").stdout)
        shown = {row["peer"]: row["via"].rpartition(":")[0] for row in rows if row["via"]}
        assert shown == {f"{client}:4711": PROXY for client, *_ in held}
        assert any(row["state"] == "proxy" for row in rows)
        waiting.close()
        assert house.reload().ok
        for client, sock, _ in held:
            assert ask(sock, "/who")["remote"] == client


def test_a_ban_of_a_client_leaves_its_proxy_alone(house):
    assert ctl(house, "ban", "192.0.2.31", "--for", "60s").returncode == 0
    house.wait(lambda: refuses(house, "192.0.2.31"), "the ban in both workers")
    with dial(proxied(house, "http"), PROXY) as sock:
        sock.sendall(header("192.0.2.32"))
        assert ask(sock, "/who")["remote"] == "192.0.2.32"


def refuses(house, client):
    """Whether four connections in a row are closed."""
    for _ in range(4):
        with dial(proxied(house, "http"), PROXY) as sock, contextlib.suppress(OSError):
            sock.sendall(header(client) + b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
            if sock.recv(10):
                return False
    return True

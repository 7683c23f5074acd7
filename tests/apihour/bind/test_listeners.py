"""Opening listening sockets, all or none."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apihour.bind.addresses import parse_address
from apihour.bind.inherited import systemd_sockets
from apihour.bind.listeners import Listener, open_listeners
from apihour.cli.dry_run import try_bind
from apihour.errors import BindError, one_line


class Opener:
    """Opens by texts and closes at the end of the test."""

    def __init__(self) -> None:
        self.made: list[Listener] = []

    def __call__(self, *texts: str, **named: list[socket.socket]) -> list[Listener]:
        wanted = [(f"s{n}", parse_address(text), 0) for n, text in enumerate(texts, 1)]
        found = open_listeners(wanted, 16, named)
        self.made += found
        return found


@pytest.fixture
def opener() -> Iterator[Opener]:
    opener = Opener()
    yield opener
    for listener in opener.made:
        listener.close()


def refusal(opener: Opener, *texts: str) -> str:
    with pytest.raises(BindError) as caught:
        opener(*texts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_port_0_becomes_a_real_port_that_accepts(opener: Opener) -> None:
    (listener,) = opener("127.0.0.1:0")
    host, port = listener.getsockname()
    assert port != 0
    assert listener.url == f"127.0.0.1:{port}"
    assert str(listener) == f"s1=127.0.0.1:{port}"
    assert listener.kind == "stream"
    with socket.create_connection((host, port), timeout=5):
        pass


def test_sockets_neither_block_nor_pass_through_exec(opener: Opener) -> None:
    for listener in opener("127.0.0.1:0", "udp://127.0.0.1:0", "unix:@apihour-test-exec"):
        assert not listener.sock.getblocking()
        assert not os.get_inheritable(listener.fileno())


def test_ipv6_is_ipv6_only(opener: Opener) -> None:
    try:
        (listener,) = opener("[::1]:0")
    except BindError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert listener.url == f"[::1]:{listener.getsockname()[1]}"
    assert listener.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_udp(opener: Opener) -> None:
    (listener,) = opener("udp://127.0.0.1:0")
    assert listener.kind == "datagram"
    assert listener.url.startswith("udp://127.0.0.1:")


def test_a_port_in_use_names_bind_and_address(opener: Opener) -> None:
    (first,) = opener("127.0.0.1:0")
    port = first.getsockname()[1]
    assert refusal(opener, f"127.0.0.1:{port}") == (
        f"bind s1=127.0.0.1:{port}: address in use; expected a free one: -b s1=ADDRESS")


@pytest.mark.parametrize(("name", "said"), [
    ("1", "bind 127.0.0.1:{}: address in use; expected a free one: -b ADDRESS"),
    ("@health", "--health 127.0.0.1:{}: address in use; expected a free one: --health ADDRESS"),
])
def test_a_port_in_use_names_the_option_that_gives_another(name: str, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BindError) as caught:
            open_listeners([(name, parse_address(f"127.0.0.1:{port}"), 0)], 16, {})
    assert str(caught.value) == said.format(port)


def test_all_or_none(opener: Opener, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refusal(opener, f"unix:{tmp_path}/a.sock", f"127.0.0.1:{taken.getsockname()[1]}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [
    "no-such-host.invalid:1", "unix:/no/such/directory/x.sock", "192.0.2.1:1",
    "x" * 80 + ":1", "unix:/tmp/a\0b",
])
def test_what_the_system_refuses_is_one_line(opener: Opener, text: str) -> None:
    said = refusal(opener, text)
    assert said.startswith(f"bind s1={one_line(text)}: ")
    assert "; expected" in said or ": expected" in said


@pytest.mark.parametrize(("address", "what"), [
    ("fd://9999", "no descriptor of that number is open"), ("systemd:x", "systemd passed no"),
])
def test_a_bind_of_the_daemon_itself_is_called_by_its_option(address: str, what: str) -> None:
    with pytest.raises(BindError) as caught:
        open_listeners([("@health", parse_address(address), 0)], 16, {})
    assert str(caught.value).startswith(f"--health {address}: {what}")


def test_unix_mode_and_removal(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    (listener,) = opener(f"unix:{path}?mode=640")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert listener.url == f"unix:{path}"
    listener.unlink()
    assert not path.exists()
    listener.unlink()


def test_a_path_somebody_else_made_since_is_left_alone(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    (listener,) = opener(f"unix:{path}")
    other = tmp_path / "other"
    other.write_text("")
    other.rename(path)
    listener.unlink()
    assert path.exists()


def test_a_unix_path_that_answers_is_in_use(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    opener(f"unix:{path}")
    assert refusal(opener, f"unix:{path}").endswith(
        "address in use; expected a free one: -b s1=ADDRESS")
    assert path.exists()


def test_a_unix_path_that_does_not_answer_is_replaced(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    opener(f"unix:{path}")[0].close()
    assert path.exists()
    opener(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_directory_or_file_in_the_way_is_left_alone(opener: Opener, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    assert "is a directory; expected a socket" in refusal(opener, f"unix:{tmp_path}")
    assert "is no socket; expected a socket" in refusal(opener, f"unix:{file}")
    assert file.read_text() == "precious"


def test_trying_an_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not try_bind("echo", parse_address(f"127.0.0.1:{port}"))
        assert try_bind("echo", parse_address("127.0.0.1:0"))
        taken.settimeout(0.05)
        with pytest.raises(TimeoutError):
            taken.accept()  # and nobody was connected to
    assert try_bind("echo", parse_address("fd://97"))
    assert try_bind("echo", parse_address("systemd:web"))
    assert try_bind("echo", parse_address(f"unix:{tmp_path}/s"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "message"), [
    ("192.0.2.1:0", "bind echo=192.0.2.1:0: expected an address of this machine"),
    ("unix:/nowhere/x", "bind echo=unix:/nowhere/x: no such directory; expected one that exists"),
    ("unix:/tmp", "bind echo=unix:/tmp: the path is a directory; expected a socket or nothing"),
])
def test_trying_what_the_system_refuses(text: str, message: str) -> None:
    with pytest.raises(BindError) as caught:
        try_bind("echo", parse_address(text))
    assert str(caught.value) == message


def test_abstract(opener: Opener) -> None:
    name = f"apihour-test-{os.getpid()}"
    (listener,) = opener(f"unix:@{name}")
    assert listener.url == f"unix:@{name}"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"\0{name}")
    listener.unlink()  # nothing in the file system to remove


def test_an_inherited_descriptor(opener: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        (listener,) = opener(f"fd://{given.fileno()}")
        assert listener.getsockname() == given.getsockname()
        listener.close()
        assert given.fileno() >= 0


def test_a_descriptor_that_is_no_socket(opener: Opener, tmp_path: Path) -> None:
    with open(tmp_path / "x", "w") as file:
        assert "is no socket; expected one" in refusal(opener, f"fd://{file.fileno()}")
    assert refusal(opener, "fd://9999") == (
        "bind s1=fd://9999: no descriptor of that number is open; expected an inherited socket")


def test_systemd_by_name(opener: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        (listener,) = opener("systemd:http", http=[given])
        assert listener.getsockname() == given.getsockname()
        with pytest.raises(BindError, match=r"no socket of that name; it passed \['http'\]"):
            opener("systemd:echo", http=[given])


SYSTEMD = """
import os, sys
from apihour.bind.inherited import systemd_sockets
os.environ["LISTEN_PID"] = str(os.getpid())
found = systemd_sockets(os.environ, os.getpid())
print({name: [sock.getsockname()[1] for sock in socks] for name, socks in found.items()},
      [os.get_inheritable(sock.fileno()) for socks in found.values() for sock in socks])
"""


def test_systemd_sockets_of_this_process_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(
        ("127.0.0.1", 0)
    ) as two:
        names = {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "http:", "LISTEN_PID": "1"}
        assert systemd_sockets(names, os.getpid()) == {}
        shell = f'exec "$0" -c "$1" 3<&{one.fileno()} 4<&{two.fileno()}'
        done = subprocess.run(
            ["bash", "-c", shell, sys.executable, SYSTEMD], capture_output=True, text=True,
            env={**os.environ, **names}, pass_fds=[one.fileno(), two.fileno()], timeout=30,
        )
        ports = {"http": [one.getsockname()[1]], "unknown": [two.getsockname()[1]]}
        assert done.stdout == f"{ports} [False, False]\n", done.stderr


def test_slots_of_one_address_share_the_chosen_port() -> None:
    address = parse_address("127.0.0.1:0?reuse_port")
    found = open_listeners([("http", address, 1), ("http", address, 2)], 16, {})
    try:
        assert [listener.slot for listener in found] == [1, 2]
        assert len({listener.getsockname() for listener in found}) == 1
        assert {listener.address for listener in found} == {address}
    finally:
        for listener in found:
            listener.close()


def test_backlog_of_a_bind_counts_over_the_daemons(opener: Opener) -> None:
    (listener,) = opener("127.0.0.1:0?backlog=1")
    # Linux takes backlog + 1 connections before it makes clients wait (listen(2)).
    waiting = []
    try:
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            waiting.append(client)
            client.connect_ex(listener.getsockname())
        connected = [c for c in waiting if _is_connected(c)]
        assert len(connected) == 2
    finally:
        for client in waiting:
            client.close()


def _is_connected(client: socket.socket) -> bool:
    try:
        client.getpeername()
    except OSError:
        return False
    return True

"""After the arbiter was killed: what is left finishes, and lets go of the binds at once."""

import contextlib
import os
import signal
import socket
import time

import pytest

from tests.system.support import deploy

UDP = ("-b", "udp=udp://127.0.0.1:{port}", "-b", "http=127.0.0.1:{tcp}")
ANSWERS_LATE = '''
import asyncio

from house import Container as House, Datagrams


class Late(Datagrams):
    def datagram_received(self, data, address):
        asyncio.get_running_loop().call_later(30, self.transport.sendto, data, address)

    async def on_drain(self):
        await asyncio.sleep(30)


class Container(House):
    def make_servers(self):
        return {**super().make_servers(), "udp": Late}
'''


def free_both():
    """A port that is free for TCP and one for UDP, kept for nobody."""
    ports = []
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.bind(("127.0.0.1", 0))
            ports.append(sock.getsockname()[1])
    return ports


def seconds_until_bound(port, timeout=20.0):
    """How long a datagram port stays taken."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET,
                                                         socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", port))
            return time.monotonic() - began
        assert time.monotonic() - began < timeout, "still bound"
        time.sleep(0.01)


@pytest.mark.parametrize("target", ["house:Container", "late:Container"])
def test_a_datagram_bind_is_free_at_once_while_connections_drain(apihour_daemon, app, target):
    deploy(app, None, "late.py", ANSWERS_LATE)
    tcp, udp = free_both()
    binds = [word.format(port=udp, tcp=tcp) for word in UDP]
    first = apihour_daemon(target, *binds, "--graceful-timeout", "30", cwd=app)
    with first.connect("echo") as sock:
        sock.sendall(b"held\n")
        assert sock.recv(100) == b"held\n"
        os.kill(first.pid, signal.SIGKILL)
        assert seconds_until_bound(udp) < 5.0  # was 30; 0.1 on an idle machine, 0.5 for the late
        second = apihour_daemon(target, *binds, cwd=app)
        sock.sendall(b"still\n")
        assert sock.recv(100) == b"still\n"
    second.wait(lambda: not first.processes(), "the orphans' end")
    assert len(second.workers("serving")) == 2


@pytest.mark.parametrize("options", [(), ("--template",)], ids=["plain", "template"])
def test_an_import_that_outlives_the_arbiter_holds_no_bind(apihour_daemon, app, options):
    tcp, udp = free_both()
    binds = [word.format(port=udp, tcp=tcp) for word in UDP]
    first = apihour_daemon("house:Container", *binds, *options, cwd=app)
    deploy(app, None, text="import time\ntime.sleep(20)\nVERSION = '2'\n")
    before = first.processes()
    first.signal(signal.SIGHUP)
    first.wait(lambda: first.processes() - before, "a probe")
    if not options:
        first.kill(first.workers("serving")[0])
        first.wait(lambda: len(first.processes() - before) == 2, "a worker that starts")
    os.kill(first.pid, signal.SIGKILL)
    assert seconds_until_bound(udp) < 5.0
    deploy(app, "3")
    second = apihour_daemon("house:Container", *binds, *options, cwd=app)
    first.wait(lambda: not first.processes(), "the orphans' end", 15)
    assert len(second.workers("serving")) == 2

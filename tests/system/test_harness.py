"""The harness itself: a load that counts right, a daemon whose every process is ended."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import threading

import pytest

from apihour.testing import Daemon, Load
from apihour.testing.processes import is_running

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
RESET = struct.pack("ii", 1, 0)


class Server:
    """Answers each chunk it receives by the next of `answers` (the last one for ever)."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.connections = 0

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(
            asyncio.start_server(self.serve, "127.0.0.1", 0, family=socket.AF_INET))
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self

    def __exit__(self, *exc):
        async def end():
            self.server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    async def serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer == "reset":
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    break
                if answer == "eof":
                    break
                if answer == "nothing":
                    continue
                writer.write(answer.removeprefix(b"!"))
                await writer.drain()
                if answer.startswith(b"!"):
                    break
        writer.close()


def count(kind, *answers, requests=3, **options):
    with Server(*answers) as server:
        with Load(kind, server.address, connections=1, **options) as load:
            while load.report.total < requests:
                assert load._thread.is_alive()
        return load.report, server


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        (ANSWER, "ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "ok"),
        (b"!HTTP/1.1 200 OK\r\n\r\nuntil the end", "ok"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "error_5xx"),
        (b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n", "unexpected"),
        (b"SSH-2.0-surprise\r\n\r\n\r\n\r\n", "unexpected"),
        (b"!" + ANSWER[:-1], "partial"),
        (b"!HTTP/1.1 200", "partial"),
        ("eof", "eof"),
        ("reset", "reset"),
        ("nothing", "timeout"),
    ],
)
@pytest.mark.parametrize("kind", ["keep-alive", "connection"])
def test_fates(kind, answer, fate):
    report, _ = count(kind, answer, timeout=0.1 if fate == "timeout" else 5.0)
    assert getattr(report, fate) == report.total >= 3
    assert report.lost == (0 if fate == "ok" else report.total)
    if fate != "ok":
        assert report.failures[0].fate.value == fate
        assert report.failures[0].local.startswith("127.0.0.1:")


def test_refused():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        with Load("tcp", address, connections=2) as load:
            while not load.report.refused:
                assert load._thread.is_alive()
    assert load.report.lost == load.report.refused


def test_announced_close_is_obeyed_and_no_loss():
    closing = b"!HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    report, server = count("keep-alive", ANSWER, closing, ANSWER, requests=20)
    assert report.ok == report.total
    assert server.connections == report.connections == 2


def test_close_of_an_idle_connection_is_no_loss_but_a_race_is():
    report, _ = count("keep-alive", b"!" + ANSWER, think=0.02, requests=5)
    assert report.ok == report.total
    report, _ = count("tcp-session", b"!one half, and the other half\n", think=0.02, requests=5)
    assert report.lost


@pytest.mark.parametrize("payload", [b"\x03\xe9", b"\x03\xf4"])
def test_websocket_goodbye_is_told(payload):
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    echo = b"\x81\x0cnot one lost"
    report, _ = count("websocket", upgrade, echo, b"\x88\x02" + payload,
                      "nothing", upgrade, echo, requests=4)
    assert (report.told, report.lost) == (1, 0)
    report, _ = count("websocket", upgrade, echo, b"!", requests=3)
    assert report.eof == report.lost > 0


def test_every_process_is_ended_orphans_too(system_apps):
    with Daemon("echo:Container", "--graceful-timeout", "60", cwd=system_apps) as daemon:
        pids = daemon.processes()
        assert len(pids) == 3
        with daemon.connect("echo") as held:
            held.sendall(b"x")
            assert held.recv(1) == b"x"
            daemon.stop(daemon.workers()[0])
            os.kill(daemon.pid, signal.SIGKILL)
            daemon.process.wait(10)
    assert not [pid for pid in pids if is_running(pid)]
    assert not daemon.directory.exists()


def test_failure_to_start_is_told_with_its_log(system_apps):
    with pytest.raises(AssertionError, match=r"exit status 1:(.|\n)*apihour: error: .*'nothing'"):
        Daemon("echo:nothing", cwd=system_apps).__enter__()


def test_exit_status_and_log(apihour_daemon, system_apps):
    daemon = apihour_daemon("echo:Container", cwd=system_apps, workers=1)
    assert daemon.terminate() == 0
    assert "Shutting down" in daemon.log


@pytest.mark.parametrize(("kind", "answer", "message"), [
    ("keep-alive", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
     "load keep-alive: GET /nope on {}: status 404; expected a status below 400"),
    ("websocket", ANSWER, "load websocket: GET /nope on {}: status 200; expected status 101 and"),
    ("tcp-session", b"SSH-2.0-x\r\n" * 30, "load tcp-session: {}: not its echo: b'SSH-2.0-x"),
])
def test_what_no_repetition_mends_is_said_at_once(kind, answer, message):
    with Server(answer) as server, Load(kind, server.address, connections=2, path="/nope") as load:
        with pytest.raises(AssertionError) as caught:
            load.wait_answers(1, timeout=600)
        assert str(caught.value).startswith(message.format(server.address))
        assert "\n" not in str(caught.value)


def test_one_wrong_answer_among_good_ones_is_counted():
    wrong = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    with Server(ANSWER, wrong, ANSWER) as server, Load(
        "keep-alive", server.address, connections=1
    ) as load:
        load.wait_answers(3)
        load.stop()
    assert load.report.unexpected == 1

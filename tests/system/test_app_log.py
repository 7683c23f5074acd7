"""What an application logs, warns of and fails with: in the daemon's log, and nowhere bare."""

import signal
import socket

import pytest

from tests.system.support import echo

INI = """
[loggers]
keys=root
[handlers]
keys=own
[formatters]
keys=own
[logger_root]
level=DEBUG
handlers=own
[handler_own]
class=StreamHandler
formatter=own
args=(sys.stdout,)
[formatter_own]
format=MINE %(levelname)s %(name)s %(message)s
"""


def tell(daemon, word, port=None):
    """Have the application do that; returns the client's address."""
    port = port or daemon.port("echo")
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        echo(sock, word + b"\n")
        return "{}:{}".format(*sock.getsockname())


def make_it_fail(daemon):
    """Every kind of failure at once; returns who asked for which."""
    peers = {"task": tell(daemon, b"task")}
    with daemon.connect("echo") as sock:
        sock.sendall(b"raises\n")
        peers["raises"] = "{}:{}".format(*sock.getsockname())
        assert sock.recv(10) == b""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", daemon.port("clock")))
        peers["clock"] = f"127.0.0.1:{sock.getsockname()[1]}"
        daemon.wait_log("the datagram failed")
    return peers


@pytest.mark.parametrize("target", ["noisy:Container", "noisy:Plain"])
@pytest.mark.parametrize("console", [True, False])
def test_everything_is_in_the_log(apihour_daemon, system_apps, tmp_path, target, console):
    path = tmp_path / "error.log"
    shell = ["--console", "127.0.0.1:0", "--keys", tmp_path / "keys"] if console else []
    daemon = apihour_daemon(target, "--error-logfile", path, *shell, cwd=system_apps, workers=1,
                            console=console, log=path)
    for word in (b"say", b"thread", b"warn"):
        tell(daemon, word)
    peers = make_it_fail(daemon)
    told = r"\] \[{}\] Worker 1\.1: server '{}': {}"
    for level, server, text in [
        ("INFO", "echo", "shop.orders: an order came in"),
        ("WARNING", "echo", "by the root logger"),
        ("WARNING", "echo", r"py.warnings: \S*noisy.py:\d+: UserWarning: a thing of the past"),
        ("ERROR", "echo", peers["raises"] + r": \S*noisy.py:\d+: raise .*: the protocol failed"),
        ("ERROR", "clock", peers["clock"] + r": \S*noisy.py:\d+: raise .*: the datagram failed"),
        ("ERROR", "echo", r".*task 'Task-\d+' of Echo.fail: Task exception was never retrieved: "
                          r"\S*noisy.py:\d+: raise .*RuntimeError: a task failed"),
    ]:
        daemon.wait_log(told.format(level, server, text))
    daemon.wait_log(r"\[ERROR\] Worker 1\.1: thread '\S+ \(raises\)': \S*noisy.py:")
    assert "of no interest" not in daemon.log
    bare = set(daemon.lines) - set(path.read_text().splitlines())
    assert not bare
    # A rotation is followed by the application's lines too.
    port = daemon.port("echo")  # which only the old log tells
    path.rename(tmp_path / "rotated.log")
    daemon.signal(signal.SIGUSR1)
    daemon.wait(path.exists, "the new log")
    daemon.wait(lambda: tell(daemon, b"say", port) and "an order came in" in path.read_text(),
                "the application's line in the new log")


def test_the_level_is_the_daemons(apihour_daemon, system_apps):
    daemon = apihour_daemon("noisy:Container", "--log-level", "debug", cwd=system_apps, workers=1)
    tell(daemon, b"say")
    daemon.wait_log(r"\[DEBUG\] Worker 1\.1: server 'echo': shop.orders: of no interest")


@pytest.mark.parametrize("way", ["basicConfig", "logging.ini"])
def test_a_logging_configuration_of_the_application_wins(
    apihour_daemon, system_apps, tmp_path, way
):
    options = ["--console", "127.0.0.1:0", "--keys", tmp_path / "keys"]
    target = "noisy:Configured"
    if way == "logging.ini":
        (tmp_path / "logging.ini").write_text(INI)
        options += ["--log-config", tmp_path / "logging.ini"]
        target = "noisy:Container"
    daemon = apihour_daemon(target, *options, cwd=system_apps, workers=1, console=True)
    tell(daemon, b"say")
    daemon.wait_log("^MINE DEBUG shop.orders of no interest$")
    daemon.wait_log("^MINE INFO shop.orders an order came in$")
    assert "Worker 1.1: server 'echo': shop.orders" not in daemon.log
    peers = make_it_fail(daemon)  # said by the daemon's own logger
    daemon.wait_log(rf"Worker 1\.1: server 'echo': {peers['raises']}: ")


def test_a_block_of_the_loop_is_told_with_its_line(apihour_daemon, system_apps, tmp_path):
    daemon = apihour_daemon("noisy:Container", "--console", "127.0.0.1:0", "--keys",
                            tmp_path / "keys", cwd=system_apps, workers=1, console=True)
    tell(daemon, b"block")
    line = daemon.wait_log("its event loop was blocked for")
    assert "[WARNING] Worker 1.1: " in line
    assert "noisy.py:" in line and "time.sleep(0.7)" in line
    tell(daemon, b"block")
    tell(daemon, b"say")
    daemon.wait_log("an order came in")
    assert daemon.log.count("its event loop was blocked for") == 1


FAILING = """
import apihour
from aiohttp import web

async def asgi(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/half":
        return
    raise ValueError("asgi broke")

async def broken(request):
    raise ValueError("aiohttp broke")

async def callback(reader, writer):
    await reader.readline()
    raise ValueError("callback broke")

class Container(apihour.Container):
    binds = {"asgi": "127.0.0.1:0", "web": "127.0.0.1:0", "stream": "127.0.0.1:0"}
    def make_servers(self):
        app = web.Application()
        app.router.add_get("/{any}", broken)
        return {"asgi": asgi, "web": app, "stream": callback}
"""


def test_whatever_hosts_an_application_names_worker_server_peer_and_line(apihour_daemon, tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    daemon = apihour_daemon("failing:Container", cwd=tmp_path, workers=1)
    for name, sent, told in [
        ("asgi", b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
         r": the ASGI application failed on GET '/a': \S*failing.py:\d+: raise .*: asgi broke"),
        ("asgi", b"GET /half HTTP/1.1\r\nHost: x\r\n\r\n",
         r": the ASGI application returned from GET '/half' without"),
        ("web", b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n",
         r": the application failed on GET '/b': \S*failing.py:\d+: raise .*: aiohttp broke"),
        ("stream", b"x\n",
         r": callback .*callback failed, connection closed: \S*failing.py:\d+: raise .*: callback"),
    ]:
        with daemon.connect(name) as sock:
            sock.sendall(sent)
            peer = "{}:{}".format(*sock.getsockname())
            peer = peer if "half" not in told else "127.0.0.1"
            sock.recv(1000)
            daemon.wait_log(rf"\[ERROR\] Worker 1\.1: server '{name}': {peer}{told}")

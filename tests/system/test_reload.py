"""Gated reload: nothing is lost when it goes well, nothing changes when it does not."""

import os
import shutil
import signal
import socket
import time

import pytest

from apihour.testing import Load
from tests.ports import free_port, listeners_on
from tests.system.support import deploy, echo, get

CONF = "workers = {workers}\nbind = {binds!r}\n{more}\n"


def configure(app, *binds, workers=2, more=""):
    (app / "conf.py").write_text(CONF.format(workers=workers, binds=list(binds), more=more))
    return "-c", "conf.py"


def generations(daemon):
    return {worker.generation for worker in daemon.workers("serving")}


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def wait_closed(daemon, port):
    """Wait until nobody listens there; who does then is told."""
    try:
        daemon.wait(lambda: refuses(port), f"the end of port {port}")
    except AssertionError as error:
        error.add_note(f"arbiter {daemon.pid}; listening on {port}: {listeners_on(port)}")
        raise


@pytest.fixture
def house(apihour_daemon, app):
    return apihour_daemon("house:Container", cwd=app)


@pytest.mark.parametrize("kind", ["keep-alive", "connection", "connect-wait", "websocket", "tcp"])
def test_no_request_is_lost(house, app, kind):
    address = house.address("echo" if kind == "tcp" else "http")
    path = "/ws" if kind == "websocket" else "/"
    with Load(kind, address, path=path, connections=6, think=0.005) as load:
        for version in ("2", "3"):
            load.wait_answers(30)
            deploy(app, version)
            assert house.reload().ok
            # The old ones may take a last connection until they have read their signal.
            house.wait(lambda v=version: get(house)["version"] == v, "the new version")
        load.wait_answers(30)
    assert not load.report.lost, load.report


NAMED = """
from plain import Container as Plain, Echo

class Container(Plain):
    def make_servers(self):
        return {{"{name}": Echo}}
"""


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_bind_that_gets_another_name_is_served_throughout(apihour_daemon, app, kind):
    path = app / "echo.sock"
    bind = f"127.0.0.1:{free_port()}" if kind == "tcp" else f"unix:{path}"
    deploy(app, None, "named.py", NAMED.format(name="first"))
    options = configure(app, f"first={bind}")
    daemon = apihour_daemon("named:Container", *options, cwd=app, workers=None)
    daemon.wait_ready(2)
    with Load("tcp", bind, connections=4) as load:
        load.wait_answers(20)
        deploy(app, None, "named.py", NAMED.format(name="second"))
        configure(app, f"second={bind}")
        assert daemon.reload().ok
        daemon.wait(lambda: generations(daemon) == {2}, "the old workers to retire")
        load.wait_answers(20)
        configure(app, f"third={bind}")  # which the application does not have
        assert not daemon.reload().ok
        load.wait_answers(20)
    assert not load.report.lost, load.report
    assert daemon.terminate() == 0
    assert not path.exists()


ASGI = '''

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": STATUS,
                    "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})
'''


def test_a_canary_that_answers_500_is_refused_under_asgi_too(apihour_daemon, app):
    deploy(app, None, "web.py", ASGI.replace("STATUS", "200"))
    daemon = apihour_daemon("web:app", "-b", "127.0.0.1:0", "--canary", "1",
                            "--canary-time", "20", cwd=app)
    (name,) = {line.partition("Listening at: ")[2].partition("=")[0]
               for line in daemon.lines if "Listening at" in line}
    before = {worker.pid for worker in daemon.workers()}
    with Load("connection", daemon.address(name), connections=4, think=0.002) as load:
        load.wait_answers(20)
        deploy(app, None, "web.py", ASGI.replace("STATUS", "500"))
        began = time.monotonic()
        outcome = daemon.reload()
        assert not outcome.ok
        assert "responses were 5xx" in outcome.error
        assert time.monotonic() - began < 15  # at once, not at the end of the watch
    assert {worker.pid for worker in daemon.workers("serving")} == before


def test_answers_to_a_slow_handler_and_a_stream_finish(house):
    with house.connect("http") as sock, Load(
            "keep-alive", house.address("http"), path="/slow", connections=6) as load:
        sock.sendall(b"GET /stream?seconds=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
        load.wait_answers(20)
        assert house.reload().ok
        house.wait(lambda: generations(house) == {2}, "the old workers to retire")
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
        load.wait_answers(20)
    assert b"9\n" in data
    assert data.endswith(b"0\r\n\r\n")
    assert not load.report.lost, load.report


BROKEN = {
    "syntax": ("house.py", "def broken(:\n", "house.py:1"),
    "import": ("version.py", "import not_installed\n", "import not_installed"),
    "start": ("version.py", "VERSION = '2'\nimport apihour\nasync def start(self):\n"
              "    raise RuntimeError('no database')\napihour.Container.start = start\n",
              "start() failed"),
    "death": ("version.py", "import os, apihour\nVERSION = '2'\nasync def start(self):\n"
              "    os._exit(9)\napihour.Container.start = start\n", "exit status 9"),
    "slow": ("version.py", "import asyncio, apihour\nVERSION = '2'\nasync def start(self):\n"
             "    await asyncio.sleep(60)\napihour.Container.start = start\n", "--boot-timeout"),
    "hanging import": ("version.py", "import time\ntime.sleep(60)\n", "did not import within"),
    "missing server": ("version.py", "VERSION = '2'\nimport apihour\n"
                       "apihour.Container.binds = {}\nimport sys\n"
                       "def servers(self):\n    return {'web': 1}\n"
                       "async def pre_start(self):\n    type(self).make_servers = servers\n"
                       "apihour.Container.pre_start = pre_start\n", "'web'"),
}


def test_bad_deploys_change_nothing_and_are_reported(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", "--boot-timeout", "8", cwd=app)
    before = daemon.workers()
    originals = {name: (app / name).read_text() for name in ("house.py", "version.py")}
    with Load("keep-alive", daemon.address("http"), connections=4, think=0.005) as load, \
            daemon.connect("echo") as sock:
        for case, (module, text, words) in BROKEN.items():
            deploy(app, None, module, text)
            since = len(daemon.lines)
            outcome = daemon.reload()
            assert not outcome.ok, case
            assert words in outcome.error, (case, outcome)
            daemon.wait_log("Reload refused", since=since)
            if case in ("import", "start"):
                assert "Traceback" in outcome.detail
                daemon.wait_log("Traceback", since=since)
            deploy(app, None, module, originals[module])
            daemon.wait(lambda: [w.pid for w in daemon.workers()] == [w.pid for w in before],
                        f"the old workers alone after {case!r}")
            echo(sock)
        load.wait_answers(20)
        deploy(app, "good")
        assert daemon.reload().ok
        # An old worker may still take the connection that comes as it is told to leave.
        daemon.wait(lambda: get(daemon)["version"] == "good", "the new code")
    assert not load.report.lost, load.report


def test_changed_binds_open_before_anything_closes(apihour_daemon, app):
    first, second, echoes = free_port(), free_port(), free_port()
    options = configure(app, f"http=127.0.0.1:{first}", f"echo=127.0.0.1:{echoes}")
    daemon = apihour_daemon("house:Container", *options, cwd=app)
    configure(app, f"http=127.0.0.1:{second}", f"echo=127.0.0.1:{echoes}")
    with Load("tcp", f"127.0.0.1:{echoes}", connections=4) as load:
        load.wait_answers(10)
        assert daemon.reload().ok
        load.wait_answers(10)
    assert not load.report.lost, load.report
    assert get(f"127.0.0.1:{second}")["version"] == "1"
    wait_closed(daemon, first)
    # A bind that cannot be opened refuses the reload; what serves goes on.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        configure(app, f"http=127.0.0.1:{taken.getsockname()[1]}", f"echo=127.0.0.1:{free_port()}")
        outcome = daemon.reload()
    assert not outcome.ok
    assert "in use" in outcome.error
    assert get(f"127.0.0.1:{second}")["version"] == "1"
    # A wider address of the same port is refused by the kernel: one line, nothing changes.
    configure(app, f"http=0.0.0.0:{second}", f"echo=127.0.0.1:{echoes}")
    outcome = daemon.reload()
    assert not outcome.ok
    assert f"0.0.0.0:{second}" in outcome.error
    assert get(f"127.0.0.1:{second}")["version"] == "1"


def test_configuration_is_read_again_and_a_broken_one_refused(apihour_daemon, app):
    logging = app / "logging.ini"
    good = ("[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=f\n[logger_root]\n"
            "level=INFO\nhandlers=h\n[handler_h]\nclass=StreamHandler\nformatter=f\n"
            "args=(sys.stdout,)\n[formatter_f]\nformat=%(message)s\n")
    logging.write_text(good)
    options = configure(app, workers=1)
    daemon = apihour_daemon(
        "house:Container", *options, "--log-config", "logging.ini", cwd=app)
    before = [worker.pid for worker in daemon.workers()]
    broken = {
        "conf.py": ["workers = 'lots'\n", "syntax error here\n", "1 / 0\n",
                    "worker_class = 'gevent'\n"],
        "logging.ini": ["nonsense\n", good.replace("StreamHandler", "NoSuchHandler")],
    }
    originals = {name: (app / name).read_text() for name in broken}
    for name, texts in broken.items():
        for text in texts:
            (app / name).write_text(text)
            outcome = daemon.reload()
            assert not outcome.ok, text
            assert name in outcome.error, (text, outcome)
            assert "\n" not in outcome.error
            (app / name).write_text(originals[name])
    (app / "logging.ini").unlink()
    assert not daemon.reload().ok
    logging.write_text(good)
    assert [worker.pid for worker in daemon.workers()] == before
    configure(app, workers=1, more="proc_name = 'renamed'\ntimeout = 77")
    assert daemon.reload().ok
    # The command line says two workers, so the file's one does not count.
    daemon.wait(lambda: len(daemon.workers("serving")) == 2, "two workers")


def test_operators_worker_count_survives_configured_one_does_not(apihour_daemon, app):
    options = configure(app, workers=1)
    daemon = apihour_daemon("echo:Container", *options, cwd=app, workers=None)
    assert len(daemon.workers()) == 1
    configure(app, workers=2)
    assert daemon.reload().rows[0]["workers"] == 2
    daemon.scale(3)
    configure(app, workers=1)
    assert daemon.reload().rows[0]["workers"] == 3
    assert daemon.upgrade().ok
    assert len(daemon.workers("serving")) == 3


def test_hups_during_a_reload_become_one_more(apihour_daemon, app):
    deploy(app, None, text="import time\ntime.sleep(0.5)\nVERSION = 'slow'\n")
    daemon = apihour_daemon("house:Container", cwd=app, workers=1)
    for _ in range(10):
        daemon.signal(signal.SIGHUP)
        time.sleep(0.05)
    daemon.wait(lambda: daemon.log.count("Reload done") == 2, "two reloads")
    daemon.wait(lambda: generations(daemon) == {3}, "one worker")


@pytest.mark.parametrize("hups", [1, 4])
def test_sigterm_during_a_reload_is_obeyed_at_once(apihour_daemon, app, hups):
    daemon = apihour_daemon("house:Container", cwd=app)
    deploy(app, None, text="import time\ntime.sleep(5)\nVERSION = 'slow'\n")
    for _ in range(hups):
        daemon.signal(signal.SIGHUP)
        time.sleep(0.05)
    began = time.monotonic()
    since = len(daemon.lines)
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("Handling signal: term", since=since)
    assert time.monotonic() - began < 0.5
    assert daemon.wait_exit() == 0
    assert time.monotonic() - began < 2


def test_sigterm_while_new_workers_start(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", cwd=app)
    deploy(app, None, text=BROKEN["slow"][1])
    daemon.reload(wait=False)
    daemon.wait(lambda: len(daemon.workers("starting")) == 2, "new workers")
    began = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - began < 2


def test_surge_never_has_more_workers_than_allowed(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", "--surge", "1", workers=3, cwd=app)
    most = 0
    with Load("keep-alive", daemon.address("http"), connections=4, think=0.005) as load:
        load.wait_answers(10)
        daemon.reload(wait=False)

        def is_done():
            nonlocal most
            most = max(most, len(daemon.workers("starting")))
            return "Reload done" in daemon.log

        daemon.wait(is_done, "the reload")
        load.wait_answers(10)
    # One at a time: the next one starts when an old one was told to leave.
    assert most == 1
    daemon.wait(lambda: generations(daemon) == {2}, "the old ones' retreat")
    assert not load.report.lost, load.report


def test_canary_that_serves_well_and_one_that_does_not(apihour_daemon, app):
    daemon = apihour_daemon(
        "house:Container", "--canary", "1", "--canary-time", "1", cwd=app, workers=2)
    with Load("connection", daemon.address("http"), connections=4, think=0.005) as load:
        load.wait_answers(10)
        deploy(app, "good")
        outcome = daemon.reload()
        assert outcome.ok
        assert outcome.rows[0]["seconds"] >= 1
    assert not load.report.lost, load.report
    house = (app / "house.py").read_text()
    deploy(app, None, "house.py", house.replace(
        '    return {"pid": os.getpid(), "version": VERSION}', "    return Response(503)"))
    with Load("connection", daemon.address("http"), connections=4, think=0.005) as load:
        outcome = daemon.reload()
        assert not outcome.ok
        assert "canary" in outcome.error
        assert "5xx" in outcome.error
        daemon.wait(lambda: generations(daemon) == {2}, "the old workers alone")
    assert load.report.error_5xx == load.report.lost > 0
    # An old worker may still take the connection that comes as it is told to leave.
    daemon.wait(lambda: get(daemon)["version"] == "good", "the new code")


def test_canary_that_dies(apihour_daemon, app):
    daemon = apihour_daemon(
        "house:Container", "--canary", "1", "--canary-time", "10", cwd=app)
    deploy(app, None, text="import asyncio, os, apihour\nVERSION = '2'\n"
           "async def start(self):\n    self.loop.call_later(0.3, os._exit, 1)\n"
           "apihour.Container.start = start\n")
    began = time.monotonic()
    outcome = daemon.reload()
    assert not outcome.ok
    assert time.monotonic() - began < 9  # long before its time is up
    assert generations(daemon) == {1}


def test_several_generations_retire_at_once_and_sessions_stay_usable(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", "--graceful-timeout", "120", cwd=app)
    sessions = []
    try:
        for _ in range(4):
            sock = daemon.connect("echo")
            echo(sock)
            sessions.append(sock)
            assert daemon.reload().ok
        daemon.wait(lambda: sum(w.left for w in daemon.workers("draining")) == 4, "the drain")
        draining = daemon.workers("draining")
        # An old generation may still take a connection until it has been told to leave.
        assert len({worker.generation for worker in draining}) >= 2
        assert all(60 < worker.time_left <= 120 for worker in draining)
        for sock in sessions:
            echo(sock)
    finally:
        for sock in sessions:
            sock.close()
    daemon.wait(lambda: len(daemon.workers()) == 2, "the old generations' end")


def test_retiring_worker_is_ended_at_its_deadline(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", "--graceful-timeout", "1", cwd=app)
    with daemon.connect("echo") as sock:
        echo(sock)
        assert daemon.reload().ok
        began = time.monotonic()
        assert sock.recv(1) == b""
        assert 0.5 < time.monotonic() - began < 4


def test_reload_while_a_worker_is_stopped(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", "--graceful-timeout", "1", cwd=app)
    stopped = daemon.stop(daemon.workers()[0])
    assert daemon.reload().ok
    daemon.wait(lambda: stopped not in {w.pid for w in daemon.workers()}, "its end")
    daemon.wait(lambda: not os.path.exists(f"/proc/{stopped}"), "its being reaped")
    assert get(daemon)["version"] == "1"


@pytest.mark.parametrize("hook", ["pre_fork", "post_fork"])
def test_a_hook_that_fails_refuses_the_reload(apihour_daemon, app, hook):
    daemon = apihour_daemon(
        "house:Container", *configure(app, "http=127.0.0.1:0"), cwd=app, workers=None)
    daemon.wait(lambda: len(daemon.workers("serving")) == 2, "both workers")
    before = {worker.pid for worker in daemon.workers("serving")}
    configure(app, "http=127.0.0.1:0", more=f"def {hook}(server, worker): raise ValueError('no')")
    outcome = daemon.reload()
    assert not outcome.ok
    assert f"hook {hook} failed: conf.py:" in outcome.error
    assert {worker.pid for worker in daemon.workers("serving")} == before
    assert get(daemon)["version"]
    configure(app, "http=127.0.0.1:0")
    assert daemon.reload().ok
    # What dies now is replaced by workers of the good configuration.
    victim = daemon.kill(daemon.workers("serving")[0])
    daemon.wait(lambda: len(daemon.workers("serving")) == 2
                and victim not in {worker.pid for worker in daemon.workers()}, "a replacement")


def test_a_hook_after_the_commit_cannot_undo_it(apihour_daemon, app):
    daemon = apihour_daemon(
        "house:Container", *configure(app, "http=127.0.0.1:0"), cwd=app, workers=None)
    configure(app, "http=127.0.0.1:0", more="def on_reload(server): raise ValueError('no')")
    assert daemon.reload().ok
    daemon.wait_log("hook on_reload failed")
    daemon.wait(lambda: generations(daemon) == {2}, "the old workers to leave")


def test_hooks_at_a_workers_end_that_fail_are_logged_and_it_is_replaced(apihour_daemon, app):
    daemon = apihour_daemon(
        "house:Container", *configure(app, "http=127.0.0.1:0", more=(
            "def child_exit(server, worker): raise ValueError('child')\n"
            "def worker_exit(server, worker): raise ValueError('worker')")),
        cwd=app, workers=None)
    daemon.wait_ready(2)
    gone = daemon.kill(daemon.workers("serving")[0])
    daemon.wait_log("hook child_exit failed")
    daemon.wait_log("ended: killed by SIGKILL; replacing it")
    daemon.wait(lambda: len(daemon.workers("serving")) == 2
                and gone not in {worker.pid for worker in daemon.workers()}, "a replacement")
    assert daemon.reload().ok
    daemon.wait_log("hook worker_exit failed")
    assert daemon.terminate() == 0


def test_told_to_stop_during_the_first_import_nothing_stays(apihour_daemon, app):
    deploy(app, "slow", text="import time\ntime.sleep(20)\nVERSION = 1\n")
    daemon = apihour_daemon("house:Container", "--log-file", "error.log", cwd=app, wait=False)
    errors = app / "error.log"
    daemon.wait(lambda: errors.exists() and "Starting apihour" in errors.read_text(), "its start")
    assert daemon.terminate() == 0
    assert "ERROR" not in errors.read_text() + daemon.log


def test_a_release_is_switched_by_a_link_and_the_old_one_removed(apihour_daemon, app, tmp_path):
    releases = [tmp_path / "releases" / number for number in ("1", "2", "3")]
    for release in releases:
        shutil.copytree(app, release)
        deploy(release, release.name)
    current = tmp_path / "current"

    def switch(release):
        (tmp_path / "new").symlink_to(release)
        (tmp_path / "new").rename(current)

    switch(releases[0])
    daemon = apihour_daemon("house:Container", cwd=current, env={"PWD": str(current)})
    assert get(daemon)["version"] == "1"
    switch(releases[1])
    shutil.rmtree(releases[0])
    assert daemon.reload().ok
    daemon.wait(lambda: get(daemon)["version"] == "2", "the second release")
    deploy(releases[2], "3", text="syntax error here")
    switch(releases[2])
    shutil.rmtree(releases[1])
    assert "version.py:1" in daemon.reload().error
    assert get(daemon)["version"] == "2"
    deploy(releases[2], "3")
    assert daemon.upgrade().ok
    daemon.wait(lambda: get(daemon)["version"] == "3", "the third release")
    daemon.wait(lambda: generations(daemon) == {3}, "the old workers to leave")
    current.unlink()
    assert f"{str(current)!r}, where apihour was started" in daemon.reload().error
    assert get(daemon)["version"] == "3"


FAILING = """
import asyncio, os, apihour
VERSION = "2"

async def start(self):
    if self.worker.generation > 1:
        while not os.path.exists(f"fail-{self.worker.slot}"):
            if os.path.exists(f"serve-{self.worker.slot}"):
                return
            await asyncio.sleep(0.02)
        raise RuntimeError("no database")

apihour.Container.start = start
"""


def test_who_replaces_a_worker_during_a_reload_keeps_nothing_of_it_open(apihour_daemon, app):
    first, second = free_port(), free_port()
    options = configure(app, f"http=127.0.0.1:{first}")
    daemon = apihour_daemon("house:Container", *options, cwd=app)
    configure(app, f"http=127.0.0.1:{second}")
    deploy(app, None, text=FAILING)
    daemon.reload(wait=False)
    daemon.wait(lambda: len(daemon.workers("starting")) == 2, "the new workers")
    gone = daemon.kill(daemon.workers("serving")[0])
    daemon.wait(lambda: len(daemon.workers("serving")) == 2
                and gone not in {worker.pid for worker in daemon.workers()}, "a replacement")
    (app / "fail-1").touch()
    daemon.wait_log("Reload refused")
    wait_closed(daemon, second)
    deploy(app, "3")
    assert daemon.reload().ok
    assert get(f"127.0.0.1:{second}")["version"] == "3"
    wait_closed(daemon, first)


def test_who_came_up_in_a_reload_that_is_refused_keeps_nothing_of_it_open(apihour_daemon, app):
    first, second = free_port(), free_port()
    options = configure(app, f"http=127.0.0.1:{first}")
    daemon = apihour_daemon("house:Container", *options, "--surge", "1", cwd=app)
    configure(app, f"http=127.0.0.1:{second}")
    deploy(app, None, text=FAILING)
    (app / "serve-1").touch()
    daemon.reload(wait=False)
    daemon.wait_log(r"Worker 1\.1 retired")
    (app / "fail-2").touch()
    daemon.wait_log("Reload refused")
    wait_closed(daemon, second)
    daemon.wait(lambda: {(w.slot, w.generation) for w in daemon.workers("serving")}
                == {(1, 1), (2, 1)}, "both workers")
    assert get(f"127.0.0.1:{first}")["version"]
    deploy(app, "3")
    assert daemon.reload().ok
    assert get(f"127.0.0.1:{second}")["version"] == "3"


def test_what_the_console_listens_on_is_in_no_worker(apihour_daemon, app):
    first, second = free_port(), free_port()
    options = configure(app, "http=127.0.0.1:0", more=f"health = '127.0.0.1:{first}'")
    daemon = apihour_daemon("house:Container", *options, cwd=app, console=True)
    configure(app, "http=127.0.0.1:0", more=f"health = '127.0.0.1:{second}'")
    assert daemon.reload().ok
    wait_closed(daemon, first)
    assert listeners_on(second).keys().isdisjoint(w.pid for w in daemon.workers())
    assert daemon.pid in listeners_on(second)


HALF = '''
import asyncio, os
import apihour
from apihour_http import HTTPServer
from house import routes


class Odd:
    """Accepts by itself, and cannot where there is a file of that name."""

    protocol = "odd"

    async def start(self, context=None): ...

    async def listener(self, sock):
        if os.path.exists("broken"):
            raise RuntimeError("no listener today")

    async def drain(self, deadline): ...

    async def stop(self): ...

    def statistics(self):
        return {}


class Container(apihour.Container):
    def make_servers(self):
        return {"http": HTTPServer(routes), "odd": Odd()}

    async def cleanup(self):
        await asyncio.sleep(1)
'''


def test_a_worker_that_cannot_accept_for_all_takes_no_client_from_the_others(apihour_daemon, app):
    deploy(app, None, "half.py", HALF)
    options = configure(app, "http=127.0.0.1:0", "odd=127.0.0.1:0")
    daemon = apihour_daemon("half:Container", *options, cwd=app, workers=None)
    daemon.wait_ready(2)
    with Load("connection", daemon.address("http"), connections=4) as load:
        load.wait_answers(10)
        (app / "broken").touch()
        outcome = daemon.reload()
        assert "no listener today" in outcome.error
        daemon.wait(lambda: len(daemon.workers()) == 2, "the new workers' end")
        load.wait_answers(10)
    assert not load.report.lost, load.report


LOST = """
from house import Container as House


class Container(House):
    binds = {}
"""


@pytest.mark.parametrize("source", ["file", "environment of the file"])
def test_a_reload_that_has_lost_its_binds_is_refused(apihour_daemon, app, source):
    deploy(app, None, "lost.py", LOST)
    port = free_port()
    names = "echo=127.0.0.1:0", "polite=127.0.0.1:0", "udp=udp://127.0.0.1:0"
    options = configure(app, f"http=127.0.0.1:{port}", *names)
    daemon = apihour_daemon("lost:Container", *options, cwd=app, workers=None)
    daemon.wait_ready(2)
    if source == "file":
        (app / "conf.py").write_text("workers = 2\n")
    else:
        configure(app)
    outcome = daemon.reload()
    assert not outcome.ok
    assert f"no binds are left: neither the container nor the configuration has any, and the " \
           f"daemon serves http=127.0.0.1:{port}" in outcome.error
    assert "\n" not in outcome.error
    assert get(daemon)["version"]
    configure(app, f"http=127.0.0.1:{port}", *names)
    assert daemon.reload().ok


def test_a_reload_logs_what_it_opens_and_closes_and_two_in_a_row_do(apihour_daemon, app):
    first, second = free_port(), free_port()
    options = configure(app, f"http=127.0.0.1:{first}")
    daemon = apihour_daemon("house:Container", *options, cwd=app, workers=None)
    daemon.wait_ready(2)
    for before, after in ((first, second), (second, first)):
        since = len(daemon.lines)
        configure(app, f"http=127.0.0.1:{after}")
        assert daemon.reload().ok
        daemon.wait_log(rf"No longer listening at: http=127\.0\.0\.1:{before}$", since=since)
        daemon.wait_log(rf"\] Listening at: http=127\.0\.0\.1:{after}$", since=since)
        told = [line for line in daemon.lines[since:] if "istening at" in line]
        assert len(told) == 2  # those that stay are not said again
        assert get(f"127.0.0.1:{after}")["version"]

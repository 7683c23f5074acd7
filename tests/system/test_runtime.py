"""Two daemons, two users, two pid namespaces; a runtime directory that vanishes; no room."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from apihour.ipc import runtime
from apihour.ipc.daemons import read_instance
from apihour.testing import Daemon
from apihour.testing.processes import end_processes, processes_of
from tests.system.support import get, refused, run

APPLICATION = """
import os, apihour
from apihour.errors import SharedError
from apihour_http import HTTPServer, Routes

routes = Routes()

@routes.get("/incr")
async def incr(request):
    try:
        return {"value": await request.container.shared.incr("key"), "pid": os.getpid()}
    except SharedError as error:
        return {"error": type(error).__name__, "pid": os.getpid()}

@routes.get("/pid")
async def pid(request):
    return {"pid": os.getpid()}

class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}
    def make_servers(self):
        return {"http": HTTPServer(routes)}
"""


@pytest.fixture
def app(tmp_path):
    (tmp_path / "stored.py").write_text(APPLICATION)
    return tmp_path


@pytest.fixture
def daemon(apihour_daemon, app):
    found = apihour_daemon("stored:Container", cwd=app, workers=2, console=True)
    wait_console(found)
    return found


def ctl(directory, *words, check=True, cwd=None):
    """Run ``apihour ctl`` on the daemons below that runtime directory."""
    result = subprocess.run(
        [sys.executable, "-m", "apihour", "ctl", *words], text=True, capture_output=True,
        timeout=60, env={**os.environ, "APIHOUR_RUNTIME_DIR": str(directory)}, cwd=cwd,
    )
    assert not check or result.returncode == 0, result.stderr
    return result


def told(daemon):
    """What it has logged that is not routine; it has no keys, and says so."""
    return [line for line in daemon.lines
            if "[INFO]" not in line and "network shell off" not in line]


def wait_console(daemon):
    daemon.wait(daemon.runtime.console_socket.exists, "the console")


def workers(daemon):
    return json.loads(ctl(daemon.directory, "workers", "--json").stdout)


class Beside(Daemon):
    """One more daemon in the runtime directory of another, which it spells differently."""

    def __init__(self, first, *arguments, **options):
        super().__init__(*arguments, **options)
        self.directory.rmdir()
        self.directory = first.directory
        self._environment["APIHOUR_RUNTIME_DIR"] = f"{first.directory}/."

    @property
    def runtime(self):
        found = super().runtime
        if found.path.name != str(self.process.pid):
            raise LookupError("not yet")
        return found

    def processes(self):
        return processes_of(self.process.pid, f"APIHOUR_RUNTIME_DIR={self.directory}/.")

    def close(self):
        end_processes(self.processes())
        self.process.wait()


def test_a_second_daemon_leaves_the_first_alone(daemon, app):
    with Beside(daemon, "stored:Container", cwd=app, workers=1, console=True) as other:
        found = ctl(daemon.directory, "workers", check=False)
        assert found.returncode == 1 and "several daemons" in found.stderr
        # Both run in app; what the second says of itself is changed to have it elsewhere.
        facts = read_instance(other.runtime)
        assert ctl(daemon.directory, "workers", check=False, cwd=app).returncode == 1
        other.runtime.write_instance({**facts, "directory": "/"})
        taken = ctl(daemon.directory, "workers", "--json", cwd=app)
        assert len(json.loads(taken.stdout)) == 2
        assert f"that of this directory: {daemon.pid} (" in taken.stderr
        other.runtime.write_instance(facts)
        for one, count in ((daemon, 2), (other, 1)):
            rows = json.loads(ctl(daemon.directory, "--instance", str(one.process.pid),
                                  "workers", "--json").stdout)
            assert len(rows) == count
            assert get(one, "/incr")["value"] == 1
        gone = other.runtime.path
        assert other.terminate() == 0
        assert not gone.exists()
    assert len(workers(daemon)) == 2
    assert get(daemon, "/incr")["value"] == 2


def test_what_a_killed_daemon_left_is_swept_when_its_last_process_is_gone(daemon, app):
    """Its workers still drain with it: they hold it."""
    with daemon.connect("http") as sock:
        sock.sendall(b"GET /pid HTTP/1.1\r\nHost: x\r\n")  # not whole: it keeps its worker
        daemon.wait(lambda: sum(one.connections for one in daemon.workers()), "the connection")
        left = daemon.runtime.path
        os.kill(daemon.pid, signal.SIGKILL)
        first = run("stored:Container", "--no-such-option", cwd=app)
        assert first.returncode == 2
        sweep(daemon.directory)
        assert left.exists()
        assert ctl(daemon.directory, "workers", check=False).returncode == 1
    daemon.wait(lambda: sweep(daemon.directory) or not left.exists(), "its end", 60)


def sweep(directory):
    runtime.sweep(directory / f"apihour-{os.geteuid()}")


@pytest.mark.parametrize("template", [False, True])
def test_a_directory_that_vanished_is_back_and_it_is_said_once(apihour_daemon, app, template):
    daemon = apihour_daemon("stored:Container", *(["--template"] if template else []), cwd=app,
                            workers=2, console=True)
    wait_console(daemon)
    assert get(daemon, "/incr")["value"] == 1
    before = {one.pid for one in daemon.workers("serving")}
    path = daemon.runtime.path
    shutil.rmtree(path.parent)
    daemon.wait(lambda: (path / "console.sock").exists() and (path / "instance.json").exists()
                and len(list(path.glob("worker.*.sock"))) == 2, "its return")
    rows = workers(daemon)
    assert {row["pid"] for row in rows} == before, "nobody was replaced"
    assert {row["state"] for row in rows} == {"serving"}
    # Agents answer, stacks are written, the arbiter obeys.
    assert ctl(daemon.directory, "stack", "--json").stdout.startswith("[")
    daemon.wait(lambda: "value" in get(daemon, "/incr"), "the store")
    values = [get(daemon, "/incr")["value"] for _ in range(6)]
    assert values == list(range(values[0], values[0] + 6)), "one store, for both workers"
    assert daemon.reload().ok
    assert len(workers(daemon)) == 2
    said = told(daemon)
    assert len(said) == 1 and "had vanished; made it again" in said[0], said
    assert daemon.terminate() == 0
    assert not path.exists()


def test_a_file_that_vanished_is_back(daemon):
    path = daemon.runtime.path
    for name in ("lock", "arbiter.sock", "console.sock", "instance.json", "scoreboard", "worker"):
        found = sorted(path.glob(f"{name}*"))[0]
        found.unlink()
        daemon.wait(found.exists, name)
        assert len(workers(daemon)) == 2, name
        assert ctl(daemon.directory, "scale", "2").returncode == 0, name
    assert daemon.reload().ok
    assert told(daemon) == []


@pytest.mark.parametrize("kind", ["link", "mode", "owner"])
def test_what_a_stranger_made_does_not_stop_the_start(app, kind):
    daemon = Daemon("stored:Container", cwd=app, workers=1, console=True)
    usual = daemon.directory / f"apihour-{os.geteuid()}"
    if kind == "link":
        (daemon.directory / "elsewhere").mkdir(mode=0o700)
        usual.symlink_to(daemon.directory / "elsewhere")
    else:
        usual.mkdir()
        usual.chmod(0o755 if kind == "mode" else 0o700)
        if kind == "owner":
            if os.geteuid() != 0:
                pytest.skip("only root gives a directory away")
            os.chown(usual, 12345, 12345)
    with daemon:
        assert daemon.runtime.path.parent.name.startswith(f"{usual.name}-")
        assert len(workers(daemon)) == 1
        assert daemon.reload().ok
        (said,) = told(daemon)
        assert f"runtime directory '{usual}': expected" in said
        assert list(usual.iterdir()) == []
        assert daemon.terminate() == 0


# -- two pid namespaces ------------------------------------------------------------------------

UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture
def contained(app):
    """Start daemons that are PID 1 each, as in containers, and share a memory file system."""
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody make a pid namespace here")
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="apihour-test-", dir=base))
    started = []

    def start():
        with open(app / f"log.{len(started)}", "w") as log:
            started.append(subprocess.Popen(
                [*UNSHARE, sys.executable, "-m", "apihour", "stored:Container", "--workers", "1",
                 "--console", "127.0.0.1:0"], cwd=app, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1",
                                               "APIHOUR_RUNTIME_DIR": str(directory)}))
        return started[-1]

    start.directory, start.app = directory, app
    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()
        shutil.rmtree(directory)


def living(directory):
    """The directories of the daemons whose one worker serves, as ``ctl`` from outside sees it."""
    base = directory / f"apihour-{os.geteuid()}"
    names = [path.name for path in base.glob("[!.]*")] if base.exists() else []
    found = {}
    for name in sorted(names):
        result = ctl(directory, "--instance", name, "workers", "--json", check=False)
        rows = json.loads(result.stdout) if result.returncode == 0 else []
        if [row["state"] for row in rows] == ["serving"]:
            found[name] = rows
    return found


def until(condition, what):
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return value


def test_two_daemons_that_are_both_pid_1(contained):
    directory = contained.directory
    contained()
    (first,) = until(lambda: living(directory), "the first")
    second = contained()
    both = until(lambda: len(found := living(directory)) == 2 and found, "the second")
    assert first in both
    second.kill()  # and with it all of its pid namespace
    second.wait()
    until(lambda: len(living(directory)) == 1, "its end")
    contained()
    third = until(lambda: len(found := living(directory)) == 2 and found, "the third")
    assert first in third and len(list((directory / f"apihour-{os.geteuid()}").iterdir())) == 2
    logs = "".join(path.read_text() for path in sorted(Path(contained.app).glob("log.*")))
    assert "Traceback" not in logs and "vanished" not in logs


# -- what is long ------------------------------------------------------------------------------

@pytest.mark.parametrize("where", ["import", "start"])
def test_megabytes_of_error_are_cut_and_ctl_tells_them(daemon, app, where):
    fault = 'raise ImportError("x" * 5_000_000)'
    text = APPLICATION + (f"\n{fault}\n" if where == "import" else
                          f"    async def start(self):\n        {fault}\n")
    (app / "stored.py").write_text(text)
    result = ctl(daemon.directory, "reload", check=False)
    assert result.returncode == 1
    assert "xxx" in result.stderr and ("left out" in result.stderr or "…" in result.stderr)
    assert len(result.stderr) < 60_000
    assert "closed" not in result.stderr
    assert len(daemon.log) < 200_000
    assert len(workers(daemon)) == 2


# -- no room -----------------------------------------------------------------------------------

@pytest.fixture
def tiny():
    """A memory file system that has less room than a scoreboard takes."""
    path = Path(tempfile.mkdtemp(prefix="apihour-test-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True).returncode:
        path.rmdir()
        pytest.skip("this system lets nobody mount a file system here")
    yield path
    subprocess.run(["umount", str(path)], check=True)
    path.rmdir()


def test_a_start_without_room_is_one_line(app, tiny):
    line = refused("stored:Container", cwd=app, env={"APIHOUR_RUNTIME_DIR": str(tiny)})
    assert str(tiny) in line and "No space left on device" in line
    assert list(tiny.glob("apihour-*/*")) == []


def test_a_store_without_room_is_an_error_to_its_caller(app, tiny):
    """The file system fills up while the daemon runs, before its store is first touched."""
    subprocess.run(["mount", "-o", "remount,size=1m", str(tiny)], check=True)
    with Beside(SimpleNamespace(directory=tiny), "stored:Container", cwd=app, workers=1,
                console=True) as daemon:
        wait_console(daemon)
        with contextlib.suppress(OSError), open(tiny / "ballast", "wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                continue
        pids = {get(daemon, "/pid")["pid"]}
        assert get(daemon, "/incr")["error"] == "SharedFullError"
        assert len(ctl(tiny, "workers", "--json").stdout.splitlines()) == 1
        (tiny / "ballast").unlink()
        assert get(daemon, "/incr")["value"] == 1
        assert {get(daemon, "/pid")["pid"]} == pids, "no worker has died"
        assert daemon.terminate() == 0

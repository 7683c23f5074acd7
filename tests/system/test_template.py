"""``--template``: workers forked from one process that has imported the application."""

import os
import signal
import socket
from pathlib import Path

import pytest

from apihour.ipc.scoreboard import Figure, Scoreboard
from apihour.testing import Load
from apihour.testing.processes import is_running
from tests.system.support import deploy, echo, get

APP = '''
import asyncio, os, pathlib, threading
import apihour
from apihour_http import HTTPServer, Routes
from version import VERSION

with open("imports", "a") as file:
    file.write(f"{os.getpid()}\\n")
SEEN = os.environ.get("SEEN", "")
routes = Routes()

@routes.get("/")
async def index(request):
    return {"pid": os.getpid(), "version": VERSION, "seen": SEEN}

class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(data)

class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0", "echo": "127.0.0.1:0"}
    def make_servers(self):
        return {"http": HTTPServer(routes), "echo": Echo}
'''


@pytest.fixture
def site(tmp_path):
    """A directory with an application that writes down each of its imports."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "version.py").write_text('VERSION = "1"\n')
    return tmp_path


@pytest.fixture
def start(apihour_daemon, site):
    def start(*options, target="app:Container", **keywords):
        return apihour_daemon(target, "--template", *options, cwd=site, **keywords)

    return start


def imports(site):
    return [int(line) for line in (site / "imports").read_text().split()]


def template(daemon):
    """The template's pid by the scoreboard, 0 for none."""
    board = Scoreboard.open(str(daemon.runtime.scoreboard(daemon.pid)))
    try:
        return int(board.figure(Figure.TEMPLATE))
    finally:
        board.close()


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def replace(daemon, worker):
    """Kill a worker; the record of the one that has taken its slot."""
    daemon.kill(worker)
    return daemon.wait(
        lambda: next((w for w in daemon.workers("serving")
                      if w.slot == worker.slot and w.pid != worker.pid), None), "its successor")


def reload(daemon):
    """Reload, and wait until no worker of before is left to answer."""
    assert daemon.reload().ok
    daemon.wait(lambda: len(daemon.workers()) == daemon.wanted, "the end of the old ones")


def test_one_import_for_each_generation(start, site):
    daemon = start(workers=3)
    first = template(daemon)
    assert imports(site) == [first]
    workers = daemon.workers("serving")
    assert len(workers) == 3
    assert {parent(worker.pid) for worker in workers} == {daemon.pid}
    fresh = replace(daemon, workers[0])
    assert parent(fresh.pid) == daemon.pid
    daemon.scale(4)
    assert imports(site) == [first]
    deploy(site, "2")
    with Load("keep-alive", daemon.address("http"), connections=4, think=0.005) as load:
        assert daemon.reload().rows[0]["workers"] == 4
        daemon.wait(lambda: len(daemon.workers()) == 4, "the end of the old ones")
    assert load.report.lost == 0
    assert load.report.total > 0
    assert get(daemon)["version"] == "2"
    second = template(daemon)
    assert imports(site) == [first, second]
    daemon.wait(lambda: not is_running(first), "the end of the old template")
    assert daemon.terminate() == 0
    assert not is_running(second)


def test_a_replaced_worker_runs_the_code_of_its_generation(start, site):
    daemon = start(workers=1)
    deploy(site, "2")
    replace(daemon, daemon.workers()[0])
    assert get(daemon)["version"] == "1"


def test_a_bad_deploy_leaves_workers_and_template(start, site):
    daemon = start(workers=1)
    before = template(daemon)
    deploy(site, "", text="VERSION = 1 / 0\n")
    outcome = daemon.reload()
    assert not outcome.ok
    assert "ZeroDivisionError" in outcome.error
    daemon.scale(2)
    assert template(daemon) == before
    assert get(daemon)["version"] == "1"


def test_a_bad_start_is_one_line(start, site):
    deploy(site, "", text="VERSION = 1 / 0\n")
    daemon = start(wait=False)
    assert daemon.wait_exit() == 1
    assert daemon.lines[-1].startswith("apihour: error: target 'app:Container'")


def test_a_killed_template_is_made_again(start, site):
    daemon = start(workers=2)
    first, second = daemon.workers("serving")
    before = template(daemon)
    daemon.kill(before)
    daemon.wait_log(r"Template of generation 1 .* died")
    # Nobody waits for it: this worker imports the application by itself.
    fresh = replace(daemon, first)
    assert fresh.pid in imports(site)
    daemon.wait(lambda: template(daemon) not in (0, before), "another template")
    daemon.scale(3)
    assert len(imports(site)) == 3
    assert second.pid in {worker.pid for worker in daemon.workers("serving")}


def test_a_stopped_template_is_not_waited_for(start):
    daemon = start(workers=1)
    before = template(daemon)
    daemon.stop(before)
    replace(daemon, daemon.workers()[0])
    daemon.wait_log("did not answer within")
    daemon.wait(lambda: not is_running(before), "its end")
    assert get(daemon)["version"] == "1"


def test_threads_at_import_rule_it_out(start, site):
    text = APP + "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    deploy(site, "", "app.py", text)
    daemon = start(workers=2)
    daemon.wait_log("No template: the application starts 1 threads")
    assert template(daemon) == 0
    assert set(imports(site)) >= {worker.pid for worker in daemon.workers()}
    assert get(daemon)["version"] == "1"


def test_nothing_is_left_of_a_killed_arbiter(start):
    daemon = start()
    forked_from = template(daemon)
    daemon.kill(daemon.pid)
    daemon.wait(lambda: not is_running(forked_from), "the template's end")
    daemon.wait(lambda: not daemon.processes(), "the workers' end")


def test_the_template_holds_no_listener(start, site):
    config = site / "conf.py"
    config.write_text('bind = ["http=127.0.0.1:0", "echo=127.0.0.1:0"]\n')
    daemon = start("-c", "conf.py", workers=1)
    port = daemon.port("echo")
    assert listening(template(daemon)) == 0
    path = site / "echo.sock"
    config.write_text(f'bind = ["http=127.0.0.1:0", "echo=unix:{path}"]\n')
    reload(daemon)
    assert listening(template(daemon)) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        echo(sock)


def listening(pid):
    """How many sockets a process holds that listen."""
    states = {}
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        states[line.split()[9]] = line.split()[3]
    links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(states.get(link[8:-1]) == "0A" for link in links if link.startswith("socket:"))


def test_the_option_and_the_environment_follow_the_configuration(apihour_daemon, site):
    config = site / "conf.py"
    config.write_text('raw_env = ["SEEN=one"]\ntemplate = False\n')
    daemon = apihour_daemon("app:Container", "-c", "conf.py", cwd=site, workers=1)
    assert template(daemon) == 0
    config.write_text('raw_env = ["SEEN=two"]\ntemplate = True\n')
    reload(daemon)
    assert template(daemon) != 0
    assert get(daemon)["seen"] == "two"
    config.write_text("template = True\n")
    reload(daemon)
    assert get(daemon)["seen"] == ""
    config.write_text("template = False\n")
    last = template(daemon)
    reload(daemon)
    daemon.wait(lambda: not is_running(last), "the template's end")
    daemon.wait(lambda: template(daemon) == 0, "no template")


def test_a_worker_forked_after_a_rotation_writes_to_the_new_log(start, site):
    access, log = site / "access.log", site / "error.log"
    daemon = start("--access-logfile", str(access), "--error-logfile", str(log), workers=1,
                   log=log)
    access.rename(site / "access.old")
    daemon.signal(signal.SIGUSR1)
    daemon.wait(access.exists, "a new access log")
    replace(daemon, daemon.workers()[0])
    get(daemon, "/?after")
    daemon.wait(lambda: "/?after" in access.read_text(), "its line in the new log")


def test_one_slot_each_by_reuse_port(start):
    daemon = start("-b", "echo=127.0.0.1:0?reuse_port", workers=2)
    daemon.scale(3)
    for _ in range(9):
        with daemon.connect("echo") as sock:
            echo(sock)


def test_an_upgrade_brings_a_template_of_its_own(start, site):
    daemon = start(workers=2)
    before = template(daemon)
    with Load("keep-alive", daemon.address("http"), connections=2, think=0.005) as load:
        assert daemon.upgrade().ok
    assert load.report.lost == 0
    daemon.wait(lambda: template(daemon) not in (0, before), "its own template")
    assert not is_running(before)
    assert len(imports(site)) == 2
    daemon.terminate()


@pytest.mark.parametrize("options", [(), ("--template",)])
def test_a_long_import_is_no_block(apihour_daemon, site, options):
    deploy(site, "", text="import time; time.sleep(1.5)\nVERSION = 1\n")
    daemon = apihour_daemon("app:Container", "--timeout", "1", *options, cwd=site, workers=1)
    assert get(daemon)["version"] == 1
    assert "blocked" not in daemon.log

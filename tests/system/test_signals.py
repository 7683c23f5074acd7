"""No signal that the daemon documents ends one of its children, whenever it comes."""

import os
import signal
import threading

import pytest

from apihour.ipc.signals import ORDERS
from tests.system.support import deploy, get

KILLED = "killed by SIG"
CPU = '''
import os, time, apihour
from apihour_http import HTTPServer, Routes

routes = Routes()

def compute():
    time.sleep(0.01)
    return os.getpid()

@routes.get("/")
async def index(request):
    return {"pid": await request.container.run_cpu(compute)}

class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}
    def make_servers(self):
        return {"http": HTTPServer(routes)}
'''


class Hail:
    """Signals to every process of a daemon but its arbiter, again and again, in a ``with``."""

    def __init__(self, daemon, signals=ORDERS):
        self.daemon = daemon
        self.signals = signals
        self.sent = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._over.wait(0.002):
            arbiter = self.daemon.process.pid
            for pid in self.daemon.processes() - {arbiter}:
                for sig in self.signals:
                    try:
                        os.kill(pid, sig)
                    except ProcessLookupError:
                        break
                    self.sent += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


@pytest.mark.parametrize("options", [(), ("--template",)], ids=["plain", "template"])
def test_orders_end_nobody_at_start_reload_and_stop(apihour_daemon, app, options):
    daemon = apihour_daemon("house:Container", "--health", "127.0.0.1:0", *options, cwd=app,
                            console=True, wait=False)
    with Hail(daemon) as hail:
        daemon.wait_ready()
        daemon.wait(lambda: daemon.runtime.console_socket.exists(), "the console")
        for version in ("2", "3", "4"):
            deploy(app, version)
            outcome = daemon.reload()
            assert outcome.ok, outcome.error
            daemon.wait(lambda v=version: get(daemon)["version"] == v, "the new version")
        assert daemon.terminate() == 0
    assert hail.sent > 100
    assert KILLED not in daemon.log
    assert "could not start" not in daemon.log
    assert "Unhandled" not in daemon.log


def test_orders_to_the_whole_group_fail_no_upgrade(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", cwd=app, console=True)
    with Hail(daemon, (signal.SIGUSR1, signal.SIGWINCH, signal.SIGHUP)):
        outcome = daemon.upgrade()
        assert outcome.ok, outcome.error
    assert daemon.pid != daemon.process.pid
    daemon.wait(lambda: daemon.reload().ok, "the reloads that were asked for meanwhile")
    daemon.terminate()
    assert KILLED not in daemon.log


def test_orders_break_no_call_of_run_cpu(apihour_daemon, app):
    deploy(app, None, "computing.py", CPU)
    daemon = apihour_daemon("computing:Container", cwd=app)
    with Hail(daemon):
        for _ in range(20):
            get(daemon)  # raises for a 500
        assert daemon.reload().ok
        get(daemon)
    assert daemon.terminate() == 0
    assert KILLED not in daemon.log


def test_a_worker_that_starts_while_logs_are_rotated_writes_to_the_new_one(apihour_daemon, app,
                                                                          tmp_path):
    log = tmp_path / "error.log"
    deploy(app, None, "version.py", "import time\ntime.sleep(1.5)\nVERSION = '1'\n")
    daemon = apihour_daemon("house:Container", "--error-logfile", str(log), cwd=app, workers=1,
                            log=log)
    worker = daemon.workers("serving")[0]
    daemon.kill(worker)
    daemon.wait(lambda: [w for w in daemon.workers() if w.pid != worker.pid], "another to start")
    old = log.rename(tmp_path / "error.log.1")
    daemon.signal(signal.SIGUSR1)
    daemon.wait(lambda: log.exists(), "the new log")
    daemon.wait_ready(1)
    (fresh,) = daemon.workers("serving")
    descriptors = f"/proc/{fresh.pid}/fd"
    files = {os.readlink(f"{descriptors}/{fd}") for fd in os.listdir(descriptors)}
    assert str(log) in files
    assert str(old) not in files


def test_orders_that_come_before_the_daemon_can_obey_wait(apihour_daemon, app, tmp_path):
    """The configuration file is read before anything else: logs may be rotated just then."""
    path = tmp_path / "conf.py"
    path.write_text("import os, signal\nif not os.environ.get('TOLD'):\n"
                    "    os.environ['TOLD'] = '1'\n    for name in ('HUP', 'USR1', 'TTIN'):\n"
                    "        os.kill(os.getpid(), getattr(signal, f'SIG{name}'))\n")
    daemon = apihour_daemon("house:Container", "-c", path, cwd=app, workers=1)
    daemon.wait_log("Reload done")
    daemon.wait(lambda: len(daemon.workers("serving")) == 2, "the worker that SIGTTIN asked for")

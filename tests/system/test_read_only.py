"""A read-only system (``docker run --read-only``), and libraries of the shell that fail or hang."""

import os
import subprocess
import sys
import urllib.error
import urllib.request

import asyncssh
import pytest

from tests.system.shell_support import Keys
from tests.system.support import get

APPLICATION = """
import apihour
from apihour_http import HTTPServer, Routes

routes = Routes()

@routes.get("/")
async def index(request):
    return {"ok": True}

class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}
    def make_servers(self):
        return {"http": HTTPServer(routes)}
"""

# All but memory is made read-only, in a mount namespace of its own.
READ_ONLY = """
set -e
for where in $(findmnt -rn -o TARGET | grep -E -v '^/(proc|sys|dev)(/|$)'); do
    mount -o remount,ro,bind "$where"
done
if [ "$ELSEWHERE" = 1 ]; then
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    unset APIHOUR_RUNTIME_DIR
fi
if touch "$TRIED" 2>/dev/null; then echo "still writable"; exit 9; fi
exec "$@"
"""


def health(daemon, path):
    """Status and text of one of the health endpoints."""
    try:
        with urllib.request.urlopen(f"http://{daemon.address('@health')}{path}", timeout=10) as got:
            return got.status, got.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def told(daemon):
    return [line for line in daemon.lines if "[INFO]" not in line]


@pytest.fixture
def app(tmp_path):
    (tmp_path / "plain.py").write_text(APPLICATION)
    return tmp_path


@pytest.mark.parametrize("fault", ["raise FileNotFoundError('No usable temporary directory')",
                                   "import time; time.sleep(600)"], ids=["fail", "hang"])
def test_health_and_ctl_answer_whatever_the_shells_libraries_do(apihour_daemon, app, fault):
    (app / "libraries").mkdir()
    (app / "libraries" / "asyncssh.py").write_text(fault)
    daemon = apihour_daemon(
        "plain:Container", "--health", "127.0.0.1:0", cwd=app, workers=1, console=True,
        env={"PYTHONPATH": str(app / "libraries")})
    daemon.wait(lambda: health(daemon, "/readyz")[0] == 200, "readiness")
    assert health(daemon, "/livez")[0] == 200
    assert "apihour_" in health(daemon, "/metrics")[1]
    daemon.wait(daemon.runtime.console_socket.exists, "the local socket")
    ctl = subprocess.run(
        [sys.executable, "-m", "apihour", "ctl", "workers", "--json"], capture_output=True,
        text=True, timeout=60, env={**os.environ, "APIHOUR_RUNTIME_DIR": str(daemon.directory)})
    assert ctl.returncode == 0 and '"serving"' in ctl.stdout, ctl.stderr
    daemon.wait(lambda: told(daemon), "a line that says so")
    (said,) = told(daemon)
    assert ("network shell off: FileNotFoundError" if fault.startswith("raise")
            else "its libraries have been loading") in said
    assert daemon.terminate() == 0
    assert told(daemon) == [said]


@pytest.fixture
def read_only(app):
    """The words that run a command where nothing but memory can be written."""
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", READ_ONLY, "sh"]
    found = subprocess.run([*words, "true"], capture_output=True,
                           env={**os.environ, "TRIED": str(app / "tried")})
    if found.returncode:
        pytest.skip("this system lets nobody mount file systems read-only here")
    return words


@pytest.mark.parametrize("elsewhere", [False, True], ids=["APIHOUR_RUNTIME_DIR", "unset"])
def test_a_read_only_system(apihour_daemon, app, read_only, elsewhere):
    host_key = Keys(app).path / "ssh_host_ed25519_key"  # the daemon could not write one
    host_key.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    host_key.chmod(0o600)
    daemon = apihour_daemon(
        "plain:Container", "--health", "127.0.0.1:0", "--console", "127.0.0.1:0", cwd=app,
        workers=1, console=True, wait=False, command=(*read_only, sys.executable, "-m", "apihour"),
        env={"TRIED": str(app / "tried"), "TMPDIR": None, "ELSEWHERE": str(int(elsewhere))})
    daemon.wait(lambda: "@health=" in daemon.log and health(daemon, "/readyz")[0] == 200,
                "readiness")
    assert get(daemon) == {"ok": True}
    assert health(daemon, "/livez")[0] == 200
    daemon.wait(lambda: "shell: ssh " in daemon.log, "the network shell")
    with daemon.connect("@console") as sock:
        assert sock.recv(100).startswith(b"SSH-2.0-")
    assert not (app / "tried").exists()
    assert "Traceback" not in daemon.log
    assert daemon.terminate() == 0

"""An interactive session that is open while the daemon is upgraded beside a stuck worker."""

import time

from tests.system.shell_support import house, needs_ssh

pytestmark = needs_ssh

APPLICATION = """
import time, apihour
from apihour_http import HTTPServer, Routes

routes = Routes()

@routes.get("/block")
async def block(request):
    time.sleep(120)

class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}
    def make_servers(self):
        return {"http": HTTPServer(routes)}
"""


def test_it_answers_before_during_and_after(apihour_daemon, tmp_path):
    (tmp_path / "blocking.py").write_text(APPLICATION)
    with house(apihour_daemon, tmp_path, "--timeout", "300", "--graceful-timeout", "3",
               target="blocking:Container", cwd=tmp_path) as shell, shell.terminal() as terminal:
        daemon = shell.daemon
        terminal.expect("blocking>", 30)
        with daemon.connect("http") as sock:
            sock.sendall(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
            daemon.wait(lambda: any(row["state"].startswith("stuck")
                                    for row in shell.rows("workers")), "a stuck worker")
            [stuck] = [row["pid"] for row in shell.rows("workers")
                       if row["state"].startswith("stuck")]
            terminal.run("workers", "stuck", 30)
            assert shell.ssh("upgrade", shared=False, timeout=60).returncode == 0
            # Until the old arbiter has killed it, its deadline past, and well after that.
            until = None
            while until is None or time.monotonic() < until:
                terminal.run("workers", "serving", 10)
                terminal.run("stack", "", 10)
                if until is None and stuck not in daemon.processes():
                    until = time.monotonic() + 2
        terminal.run("version", "gunicorn", 10)
        assert [line for line in daemon.lines if "internal error" in line] == []

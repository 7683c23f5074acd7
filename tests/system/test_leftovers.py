"""What killed processes leave in the runtime directory goes, while the daemon serves."""

import os
import signal

from apihour.ipc.daemons import scoreboards
from tests.system.support import deploy, get

SLOW = ("import asyncio, apihour\nVERSION = '2'\nasync def start(self):\n"
        "    await asyncio.sleep(60)\napihour.Container.start = start\n")


def test_two_upgrades_whose_new_arbiter_is_killed_leave_nothing(apihour_daemon, app):
    # With a template: of that nothing may be left either.
    daemon = apihour_daemon("house:Container", "--template", cwd=app, console=True)
    daemon.wait(lambda: daemon.runtime.console_socket.exists(), "the console")
    expected = {path.name for path in daemon.runtime.path.rglob("*")}
    processes = daemon.processes()
    deploy(app, None, text=SLOW)
    seen = {daemon.pid}
    for _ in range(2):
        daemon.signal(signal.SIGUSR2)
        fresh = daemon.wait(lambda: {pid for pid, _ in scoreboards(daemon.runtime)}
                            .difference(seen), "the new arbiter")
        starting = daemon.wait(
            lambda: [worker.pid for worker in daemon.workers("starting")
                     if worker.pid not in seen][1:], "its second worker")
        os.kill(*fresh, signal.SIGKILL)
        try:
            daemon.kill(starting[0])
        except ProcessLookupError:
            pass  # it has left by itself
        seen.update(fresh, {worker.pid for worker in daemon.workers()})
        daemon.wait(lambda: daemon.processes() == processes, "their end")
    daemon.wait(lambda: {path.name for path in daemon.runtime.path.rglob("*")} == expected,
                "the removal of what they left")
    assert len(daemon.workers()) == len(daemon.workers("serving")) == 2
    assert get(daemon)["version"] == "1"
    assert daemon.terminate() == 0
    assert "Unhandled" not in daemon.log

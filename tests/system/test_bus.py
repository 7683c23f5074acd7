"""``container.bus`` of real workers: one bus, through kill -9, reload and upgrade."""

import os
import signal

from apihour.testing import Load
from tests.system.support import get
from tests.system.test_supervision import other_than


def pids(daemon):
    return sorted(worker.pid for worker in daemon.workers("serving"))


def test_the_bus_lives_through_kill_9_reload_and_upgrade(apihour_daemon, system_apps):
    daemon = apihour_daemon("bussed:Container", cwd=system_apps)
    first = pids(daemon)
    assert len(first) == 2
    assert get(daemon, "/who")["pids"] == first

    os.kill(first[0], signal.SIGKILL)
    daemon.wait(lambda: other_than(daemon, first[:1]), "another worker")
    daemon.wait(lambda: get(daemon, "/who")["pids"] == pids(daemon), "its answers")

    with Load("keep-alive", daemon.address("http"), path="/one", connections=4,
              think=0.005) as load:
        load.wait_answers(50)
        before = pids(daemon)
        assert daemon.reload().ok
        daemon.wait(lambda: not {worker.pid for worker in daemon.workers()} & set(before),
                    "the end of the old workers, which their loops do not hold up")
        assert "goes on at the end of the drain" not in daemon.log
        load.wait_answers(50)
        assert daemon.upgrade().ok
        load.wait_answers(50)
    assert not load.report.lost, load.report
    daemon.wait(lambda: get(daemon, "/who")["pids"] == pids(daemon), "one bus of all")

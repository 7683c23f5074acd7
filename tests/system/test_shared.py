"""``container.shared`` of real workers: one store, through kill -9, stops, reload and upgrade."""

import threading

import pytest

from apihour.testing import Load
from tests.system.shell_support import Keys, ctl
from tests.system.support import get
from tests.system.test_supervision import ask, other_than, worker_of


@pytest.fixture
def daemon(apihour_daemon, system_apps):
    return apihour_daemon("shell_shared:Container", cwd=system_apps)  # --no-console


def both(daemon):
    """A connection to each worker, by pid."""
    found = {}
    while len(found) < 2:
        sock, pid = worker_of(daemon)
        if found.setdefault(pid, sock) is not sock:
            sock.close()
    return found


def test_every_worker_sees_what_one_wrote_and_watches_hear_of_it(daemon):
    socks = both(daemon)
    [first, second] = socks.values()
    revision = ask(first, "/put/hello")["revision"]
    for pid, sock in socks.items():
        found = ask(sock, "/get")
        assert (found["pid"], found["text"], found["revision"]) == (pid, "hello", revision)
    daemon.wait(lambda: ask(second, "/seen")["seen"][-1:] == ["hello"], "the watch", timeout=2)
    assert ask(second, "/put/again")["revision"] > revision
    daemon.wait(lambda: ask(first, "/seen")["seen"][-1:] == ["again"], "the watch", timeout=2)
    ask(first, "/put/brief?ttl=0.3")
    daemon.wait(lambda: ask(second, "/get")["text"] is None, "its expiry", timeout=3)
    for sock in socks.values():
        sock.close()


def test_no_increment_is_lost_under_load_reload_and_upgrade(daemon):
    with Load("keep-alive", daemon.address("http"), path="/incr", connections=6,
              think=0.005) as load:
        load.wait_answers(200)
        assert daemon.reload().ok
        load.wait_answers(200)
        assert daemon.upgrade().ok
        load.wait_answers(200)
    assert not load.report.lost, load.report
    assert get(daemon, "/incr")["count"] == load.report.ok + 1


def test_kill_9_of_writers_loses_no_more_than_their_own_requests(daemon):
    with Load("connection", daemon.address("http"), path="/incr", connections=6,
              think=0.005) as load:
        for _ in range(4):
            load.wait_answers(100)
            victim = daemon.kill(daemon.workers("serving")[0])
            daemon.wait(lambda v=victim: other_than(daemon, [v]), "a replacement")
        load.wait_answers(50)
    count = get(daemon, "/incr")["count"] - 1
    # Counted, and killed before the answer left: at most one per client and kill.
    assert load.report.ok <= count <= load.report.ok + load.report.lost


def test_a_stopped_writer_locks_nobody_out(daemon):
    socks = both(daemon)
    halt = threading.Event()

    def hammer(sock):
        while not halt.is_set():
            ask(sock, "/incr")

    [(victim, writer), (_, other)] = socks.items()
    thread = threading.Thread(target=hammer, args=(writer,))
    thread.start()
    try:
        for _ in range(10):  # stopped at whatever point of a write it is
            daemon.stop(victim)
            other.settimeout(2)
            before = ask(other, "/incr")["count"]
            assert ask(other, "/incr")["count"] > before
            daemon.cont(victim)
    finally:
        daemon.cont(victim)
        halt.set()
        thread.join(10)
    for sock in socks.values():
        sock.close()


def test_nothing_is_left_behind(apihour_daemon, system_apps, tmp_path):
    keys = Keys(tmp_path)
    daemon = apihour_daemon("shell_shared:Container", "--console", "127.0.0.1:0", "--keys",
                            str(keys.path), cwd=system_apps, console=True, workers=1)
    get(daemon, "/put/hello")
    path = daemon.runtime.shared
    assert path.is_dir()
    daemon.wait(lambda: ctl(daemon, "version").returncode == 0, "the console")
    assert daemon.terminate() == 0
    assert not path.exists()

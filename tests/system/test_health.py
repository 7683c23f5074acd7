"""``--health``: /livez, /readyz and /metrics of real daemons, whatever their workers do."""

import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

from apihour.testing import Load
from tests.system.shell_support import console_pid, ctl
from tests.system.support import get


@pytest.fixture(scope="module")
def daemon(apihour_module_daemon, system_apps, tmp_path_factory):
    keys = tmp_path_factory.mktemp("health") / "keys"
    return apihour_module_daemon(
        "shell_house:Container", "--health", "127.0.0.1:0", "--keys", str(keys), "--timeout", "60",
        cwd=system_apps, console=True)


def health(daemon, path, method="GET"):
    """Status and text of one request to the health address."""
    request = urllib.request.Request(f"http://{daemon.address('@health')}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(daemon):
    """The figures by name and labels; every line is of the text format (Prometheus 0.0.4)."""
    status, text = health(daemon, "/metrics")
    assert status == 200
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP|TYPE) [a-zA-Z_:][\w:]* .+", line)
            continue
        match = re.fullmatch(
            r'([a-zA-Z_:][\w:]*)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)', line)
        assert match, line
        found[match[1], match[2] or ""] = float(match[3])
    return found


def wait_answers(daemon):
    """The console is up."""
    def answers():
        try:
            return health(daemon, "/livez")[0] == 200
        except OSError:
            return False

    daemon.wait(answers, "the health address")


def test_alive_and_ready(daemon):
    wait_answers(daemon)
    status, text = health(daemon, "/livez")
    assert (status, text) == (200, f"alive: arbiter {daemon.pid}\n")
    status, text = health(daemon, "/readyz")
    assert (status, text) == (200, "ready: 2 of 2 workers accept\n")
    assert health(daemon, "/readyz", "HEAD") == (200, "")
    assert health(daemon, "/readyz", "POST")[0] == 405
    assert health(daemon, "/nothing")[0] == 404


def test_metrics_add_up_over_workers_and_never_go_back(daemon):
    before = metrics(daemon)
    with Load("connection", daemon.address("http"), connections=4) as load:
        load.wait_answers(100)
    counted = load.report.ok
    labels = 'server="http",protocol="http"'
    key = ("apihour_server_accepted_total", labels)
    daemon.wait(lambda: metrics(daemon)[key] - before.get(key, 0) >= counted, "the count")
    assert metrics(daemon)[key] - before.get(key, 0) < counted + 10
    assert daemon.reload().ok
    victim = daemon.kill(daemon.workers("serving")[0])
    daemon.wait(lambda: len({one.pid for one in daemon.workers("serving")} - {victim}) == 2,
                "another worker")
    after = metrics(daemon)
    for name, value in before.items():
        if name[0].endswith("_total"):
            assert after[name] >= value, name
    assert after[key] - before.get(key, 0) >= counted
    names = {name for name, _ in after}
    assert any("lag" in name for name in names)
    assert any(name.endswith("_bucket") for name in names), "no latency histogram"
    assert any("reload" in name for name in names)


def test_true_when_every_worker_is_blocked(daemon):
    wait_answers(daemon)
    daemon.wait_ready()
    pids, socks = set(), []
    while len(pids) < 2:
        sock = daemon.connect("http")
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        pid = int(re.search(rb'"pid": ?(\d+)', sock.recv(65536))[1])
        socks.append((sock, pid))
        pids.add(pid)
    for pid in pids:
        sock = next(sock for sock, other in socks if other == pid)
        sock.sendall(b"GET /stick/sleep HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        daemon.wait(lambda: all(one.silent > 1.2 for one in daemon.workers()), "their silence")
        began = time.monotonic()
        assert health(daemon, "/livez")[0] == 200
        assert health(daemon, "/readyz")[0] == 200  # busy is not unready: they hold the sockets
        found = metrics(daemon)
        assert time.monotonic() - began < 3
        lags = [value for (name, _), value in found.items() if name.endswith("_lag_seconds")]
        assert len(lags) == 2 and min(lags) > 1
    finally:
        for sock, _ in socks:
            sock.close()
        for pid in pids:
            daemon.kill(pid)
    daemon.wait(lambda: len({one.pid for one in daemon.workers("serving")} - pids) == 2,
                "new workers")


def test_not_ready_when_every_worker_is_stopped(daemon):
    wait_answers(daemon)
    daemon.wait_ready()
    pids = [daemon.stop(one) for one in daemon.workers("serving")]
    try:
        daemon.wait(lambda: health(daemon, "/readyz")[0] == 503, "unreadiness", timeout=3)
        assert health(daemon, "/readyz")[1] == "not ready: none of 2 workers accepts\n"
        assert health(daemon, "/livez")[0] == 200
    finally:
        for pid in pids:
            daemon.cont(pid)
    daemon.wait(lambda: health(daemon, "/readyz")[0] == 200, "readiness")


def wrong(daemon):
    """The exit status of ``health``, and what it says is not well."""
    done = ctl(daemon, "health", "--json")
    assert done.stdout, done.stderr
    rows = json.loads(done.stdout)
    return done.returncode, {one["name"]: one["detail"] for one in rows
                             if one["status"] not in ("ok", "ready")}


def test_health_names_failing_answers_and_a_stuck_worker(apihour_daemon, system_apps):
    daemon = apihour_daemon("shell_house:Container", "--timeout", "60", cwd=system_apps,
                            console=True)
    assert wrong(daemon) == (0, {})
    for _ in range(8):
        with pytest.raises(urllib.error.HTTPError):
            get(daemon, "/stick/there-is-no-such-way")
    daemon.wait(lambda: "answers" in wrong(daemon)[1], "the failing answers")
    status, found = wrong(daemon)
    assert status == 1
    assert re.match(r"8 of \d+ requests of the last (minute|10 s)", found["answers"])
    with daemon.connect("http") as sock:
        sock.sendall(b"GET /stick/sleep HTTP/1.1\r\nHost: x\r\n\r\n")
        daemon.wait(lambda: any("stuck" in one for one in wrong(daemon)[1].values()), "the worker")
        status, found = wrong(daemon)
        (worker,) = found.keys() - {"answers"}
        assert status == 1 and re.fullmatch(r"[12]\.1", worker)
        daemon.kill(next(one for one in daemon.workers() if one.silent > 1))


def test_health_and_metrics_name_a_full_disk_and_lost_lines(
    apihour_daemon, system_apps, small_disk
):
    log, ballast = small_disk / "error.log", small_disk / "ballast"
    daemon = apihour_daemon(
        "shell_house:Container", "--error-logfile", str(log), "--access-logfile",
        str(small_disk / "access.log"), "--health", "127.0.0.1:0", cwd=system_apps, log=log,
        console=True)
    wait_answers(daemon)
    assert wrong(daemon) == (0, {})
    labels = f'of="the log",path="{log}"'
    assert metrics(daemon)["apihour_disk_free_bytes", labels] > 0
    with pytest.raises(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 512)
    for _ in range(20):
        get(daemon)
    daemon.wait(lambda: "log" in wrong(daemon)[1], "the lost lines")
    status, found = wrong(daemon)
    assert status == 1 and found["disk of the log"].startswith(f"{log}: "), found
    assert metrics(daemon)["apihour_disk_free_bytes", labels] < 4096
    daemon.wait(lambda: metrics(daemon)["apihour_lost_lines_total", ""] >= 1, "the counter")
    ballast.unlink()


def test_survives_the_consoles_end(daemon):
    wait_answers(daemon)
    before = console_pid(daemon)
    daemon.kill(before)
    daemon.wait(lambda: console_pid(daemon) not in (0, before), "another console")
    wait_answers(daemon)


def test_unready_first_then_gone(apihour_daemon, system_apps, tmp_path):
    daemon = apihour_daemon(
        "shell_house:Container", "--health", "127.0.0.1:0", "--drain-delay", "1.5", "--keys",
        str(tmp_path / "keys"), cwd=system_apps, console=True, workers=1)
    wait_answers(daemon)
    address = daemon.address("http")
    ended = threading.Thread(target=daemon.terminate)
    began = time.monotonic()
    ended.start()
    daemon.wait(lambda: health(daemon, "/readyz")[0] == 503, "unreadiness", timeout=1)
    assert health(daemon, "/livez")[0] == 200
    get(address)  # it still accepts
    assert time.monotonic() - began < 1.4
    ended.join()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 1)

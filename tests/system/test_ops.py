"""What the commands of the catalogue do to a real daemon, and ``container.ops``."""

import json
import os
import re
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from apihour.testing import Load
from tests.system.shell_support import house, needs_ssh
from tests.system.support import echo, get
from tests.system.test_supervision import worker_of

pytestmark = needs_ssh


@pytest.fixture(scope="module")
def shell(apihour_module_daemon, tmp_path_factory):
    with house(apihour_module_daemon, tmp_path_factory.mktemp("ops"), "--timeout", "60") as found:
        yield found


# Workers and connections.


def test_drain_and_undrain(shell):
    with shell.daemon.connect("echo") as held:
        echo(held)
        [conn] = [row for row in shell.rows("conns") if row["server"] == "echo"]
        slot = conn["worker"].partition(".")[0]
        shell.rows("drain", slot)
        shell.daemon.wait(lambda: shell.rows("workers", "--worker", slot)[0]["state"]
                          == "suspended", "the worker's state")
        drained = conn["worker"]
        pid = next(row["pid"] for row in shell.rows("workers") if row["worker"] == drained)
        assert {get(shell.daemon)["pid"] for _ in range(12)}.isdisjoint({pid})
        echo(held)  # what it has goes on
        shell.rows("undrain", slot)
        shell.daemon.wait(lambda: get(shell.daemon)["pid"] == pid, "its turn")


def test_kick(shell):
    with shell.daemon.connect("echo") as kicked, shell.daemon.connect("echo") as stays:
        echo(kicked)
        echo(stays)
        peer = "{}:{}".format(*kicked.getsockname())
        [conn] = shell.rows("conns", "--filter", f"peer={peer}")
        [row] = shell.rows("kick", conn["id"], role="operator")
        assert row == {"id": conn["id"], "peer": peer, "server": "echo"}
        assert kicked.recv(1) == b""
        echo(stays)
        done = shell.ssh("kick", conn["id"])
        assert done.returncode == 1 and "there is none of that id" in done.stderr


def test_scale_reload_signal(shell):
    assert shell.rows("scale", "3")
    shell.daemon.wait(lambda: len(shell.rows("workers")) == 3, "three workers")
    assert shell.rows("scale", "2")
    shell.daemon.wait(lambda: len(shell.rows("workers")) == 2, "two workers")
    for words in (["scale", "0"], ["signal", "NONSENSE"], ["signal", "STOP", "9"]):
        done = shell.ssh(*words)
        assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1, done
    before = {row["pid"] for row in shell.rows("workers")}
    shell.rows("signal", "TERM", "1")
    shell.daemon.wait(lambda: len({row["pid"] for row in shell.rows("workers")} - before) == 1
                      and len(shell.daemon.workers("serving")) == 2, "another worker")


def test_failed_reload_is_1_and_gives_the_traceback(apihour_daemon, tmp_path, app):
    with house(apihour_daemon, tmp_path, cwd=app) as shell:
        (app / "shell_house.py").write_text("import nothing_of_that_name\n")
        done = shell.ssh("reload")
        assert done.returncode == 1
        assert "nothing_of_that_name" in done.stderr.splitlines()[0]
        assert "Traceback" in done.stderr and "shell_house.py" in done.stderr
        assert {row["worker"] for row in shell.rows("workers")} == {"1.1", "2.1"}
        assert shell.rows("health")[0]["status"] == "ready"


# Tasks.


def test_tasks_where_and_cancel(shell):
    sock, pid = worker_of(shell.daemon)
    with sock:
        sock.sendall(b"GET /wait/60 HTTP/1.1\r\nHost: x\r\n\r\n")

        def waiting():
            return [row for row in shell.rows("tasks") if "shell_house.py" in row["where"]
                    and row["where"].endswith(" wait")]

        [row] = shell.daemon.wait(waiting, "the request's task")
        assert next(one.pid for one in shell.daemon.workers() if one.worker == row["worker"]) == pid
        frames = shell.rows("where", row["id"])
        assert "wait" in [frame["function"] for frame in frames]
        assert shell.ssh("cancel", row["id"], role="observer").returncode == 126
        [done] = shell.rows("cancel", row["id"])
        assert done["state"] == "cancelled"
        shell.daemon.wait(lambda: not waiting(), "its end")
    done = shell.ssh("where", row["id"])
    assert done.returncode == 1 and "there is none of that id" in done.stderr


def test_tasks_the_worker_lives_by_are_not_cancelled(shell):
    before = [row["pid"] for row in shell.rows("workers")]
    rows = shell.rows("tasks", "--all", "--worker", "1")
    root = next(row for row in rows if row["coroutine"] == "HostWorker._live")
    own = [root, *(row for row in rows if row["awaited_by"] == root["id"]
                   and row["coroutine"] == "Event.wait")]
    assert len(own) == 2
    for row in own:
        done = shell.ssh("cancel", row["id"])
        assert done.returncode == 1 and "the worker itself lives by it" in done.stderr
    assert [row["pid"] for row in shell.rows("workers")] == before


def test_tasks_tree_shows_who_awaits_whom(shell):
    rows = {row["name"]: row for row in shell.rows("tasks", "--worker", "2")}
    assert rows["the-child"]["awaited_by"] == rows["the-parent"]["id"]
    tree = [row["name"] for row in shell.rows("tasks", "--tree", "--worker", "2")]
    assert sorted(name.strip() for name in tree) == sorted(rows)
    assert tree[tree.index("the-parent") + 1] == "  the-child"


# Logs.


def test_log_levels_and_their_way_back(shell):
    before = {row["level"] for row in shell.rows("log", "shell_house")}
    [one, other] = shell.rows("log", "shell_house", "error", "--for", "1s", role="operator")
    assert one["level"] == other["level"] == "error"
    for _ in range(8):
        get(shell.daemon, "/log/1")
    count = len(shell.rows("logs", "--logger", "shell_house"))
    shell.daemon.wait(
        lambda: {row["level"] for row in shell.rows("log", "shell_house")} == before,
        "the level of before", timeout=30)
    get(shell.daemon, "/log/2")
    assert len(shell.rows("logs", "--logger", "shell_house")) == count + 2
    assert shell.rows("logs", "--level", "critical") == []


def test_logs_follow_all_workers_new_ones_too(shell):
    process = shell.start("logs", "-f", "-n", "0", "--json", "--logger", "shell_house")
    try:
        shell.daemon.wait(lambda: [row for row in shell.rows("sessions")
                                   if row["command"].startswith("logs -f")], "the stream")
        # Old workers that go on talking do not keep new ones from being heard.
        with shell.daemon.connect("http") as old:
            for number in range(30):
                old.sendall(b"GET /log/1 HTTP/1.1\r\nHost: x\r\n\r\n")
                assert old.recv(65536).startswith(b"HTTP/1.1 200")
                if number == 2:
                    assert shell.rows("scale", "4")
                    shell.daemon.wait(
                        lambda: len(shell.daemon.workers("serving")) == 4, "more workers")
                    early = {get(shell.daemon, "/log/1")["pid"] for _ in range(20)}
                time.sleep(0.05)
        names = {one.worker for one in shell.daemon.workers() if one.pid in early}
        assert {name.partition(".")[0] for name in names} & {"3", "4"}
        seen = set()
        while not seen >= names:  # the timeout of the test ends this
            seen.add(json.loads(process.stdout.readline())["worker"])
    finally:
        process.kill()
        process.communicate()
        shell.rows("scale", "2")
        shell.daemon.wait(lambda: len(shell.daemon.workers()) == 2, "two workers")


# What takes time and memory.


def test_slow_shows_the_block_with_its_stack(shell):
    process = shell.start("slow", "-f", "--over", "200ms", "--json")
    try:
        shell.daemon.wait(lambda: [row for row in shell.rows("sessions")
                                   if row["command"].startswith("slow -f")], "the stream")
        for _ in range(3):
            get(shell.daemon, "/stick/short")
        row = next(row for row in map(json.loads, process.stdout) if row["kind"] == "block")
    finally:
        process.kill()
        process.communicate()
    assert row["where"].endswith(" short")
    assert 0.25 < row["seconds"] < 0.5
    assert "shell_house.py" in row["stack"]
    assert any(row["where"].endswith(" short") for row in shell.rows("slow"))


def test_slow_shows_slow_requests(shell):
    process = shell.start("slow", "-f", "--over", "500ms", "--json")
    try:
        shell.daemon.wait(lambda: [row for row in shell.rows("sessions")
                                   if row["command"].startswith("slow -f")], "the stream")
        get(shell.daemon, "/wait/0.6?token=hidden")
        row = json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()
    assert (row["kind"], row["where"]) == ("request http", "GET /wait/0.6")
    rows = shell.daemon.wait(
        lambda: [row for row in shell.rows("slow", "--over", "500ms")
                 if row["kind"].startswith("request")], "the request", timeout=3)
    [row] = [row for row in rows if "/wait/0.6" in row["where"]]
    assert row["where"] == "GET /wait/0.6" and 0.5 < row["seconds"] < 2
    assert row["kind"] == "request http"
    assert not [one for one in shell.rows("metrics") if "slow" in one["name"]]


def test_profile_as_table_and_as_flame_graph(shell):
    sock, pid = worker_of(shell.daemon)
    slot = next(str(one.slot) for one in shell.daemon.workers() if one.pid == pid)
    with sock:
        for _ in range(2):
            sock.sendall(b"GET /stick/short HTTP/1.1\r\nHost: x\r\n\r\n")
        rows = shell.rows("profile", "wall", "-s", "0.4", "--worker", slot)
        assert any("short" in str(row) for row in rows), rows
        for _ in range(2):
            sock.sendall(b"GET /stick/short HTTP/1.1\r\nHost: x\r\n\r\n")
        text = shell.ssh("profile", "wall", "-s", "0.4", "--flame", "--worker", slot).stdout
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg") and "short" in text
    assert "http" not in re.sub(r'xmlns\S*="[^"]*"|http:?\w*\.py|apihour_http', "", text)


@pytest.mark.alone
def test_a_profile_agrees_with_the_cpu_time_that_was_used(shell):
    """Under a load that lets go of the interpreter's lock at every request."""
    workers = [one.pid for one in shell.daemon.workers()]
    with Load("keep-alive", shell.daemon.address("http"), connections=8):
        before, begun = sum(map(cpu_seconds, workers)), time.monotonic()
        rows = shell.rows("profile", "cpu", "-s", "1.5")
        used = sum(map(cpu_seconds, workers)) - before
        possible = len(workers) * (time.monotonic() - begun)
    idle = sum(row["self_percent"] for row in rows if row["function"] == "(idle)")
    # The profile is shorter than what is measured round it, and other threads work as well.
    assert abs((100 - idle) - 100 * used / possible) < 25, (idle, used, possible)
    # Not by name: with the extension an endpoint is the only Python there is.
    assert any(row["function"] != "(idle)" for row in rows), rows[:5]


def cpu_seconds(pid):
    """CPU time of a process, from proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("words", [("-s", "601"), ("--interval", "1ms")])
def test_a_profile_beyond_its_bounds_is_refused(shell, words):
    done = shell.ssh("profile", *words)
    assert done.returncode == 2 and "expected" in done.stderr, done


def test_logs_have_the_arbiters_lines_beside_the_workers(shell):
    get(shell.daemon, "/log/1")
    rows = shell.rows("logs", "-n", "400")
    assert [one["time"] for one in rows] == sorted(one["time"] for one in rows)
    arbiters = [one for one in rows if one["worker"] == "arbiter"]
    assert any("Listening at" in one["message"] for one in arbiters), rows
    assert any(one["worker"] != "arbiter" for one in rows)
    (slot, *_) = (str(one.slot) for one in shell.daemon.workers())
    assert not [one for one in shell.rows("logs", "--worker", slot) if one["worker"] == "arbiter"]


def test_events_tell_reloads_deaths_and_who_did_what_to_two_operators(shell):
    streams = [shell.start("events", "-f", "-n", "0", "--json", role=role)
               for role in ("admin", "operator")]
    try:
        shell.daemon.wait(lambda: [row["command"].partition(" ")[0] for row in
                                   shell.rows("sessions")].count("events") == 2, "both streams")
        assert shell.daemon.reload().ok
        victim = shell.daemon.kill(shell.daemon.workers("serving")[0])
        shell.daemon.wait(lambda: any(str(victim) in row["what"] for row in shell.rows("events")),
                          "the death")
        shell.rows("scale", "2", role="operator")
        for stream in streams:
            seen = []
            while not (seen and seen[-1]["what"] == "scale 2 --json"):
                seen.append(json.loads(stream.stdout.readline()))
            assert seen[-1]["by"] == "operator@test", seen
            told = " ".join(row["what"] for row in seen if row["by"] == "arbiter")
            assert "Reload done" in told and str(victim) in told, seen
    finally:
        for stream in streams:
            stream.kill()
            stream.communicate()
    past = shell.rows("events", "-n", "400")
    assert [row["time"] for row in past] == sorted(row["time"] for row in past)
    assert not [row for row in past if row["what"].startswith(("Handling", "Command", "workers"))]


def test_mem_start_diff_stop(shell):
    shell.daemon.wait(lambda: len(shell.daemon.workers("serving")) == 2, "both workers")
    shell.rows("mem", "--start", "--worker", "1")
    rows = shell.rows("mem", "--diff", "--top", "3", "--worker", "1")
    assert 1 <= len(rows) <= 3 and re.search(r":\d+$", rows[0]["where"])
    assert shell.rows("mem", "--stop", "--worker", "1") == []
    assert shell.ssh("mem", "--worker", "1").returncode == 1
    assert {row["generation"] for row in shell.rows("gc", "--collect")} == {0, 1, 2}


def test_top_counts_per_second(shell):
    shell.rows("top")
    with Load("connection", shell.daemon.address("http"), connections=2, think=0.01) as load:
        load.wait_answers(20)
        shell.rows("top")
        time.sleep(1.0)  # what is counted is a rate: it takes time
        rows = shell.rows("top")
    workers = [row for row in rows if row["kind"] == "worker"]
    [http] = [row for row in rows if row["name"] == "http"]
    assert len(workers) == 2 and sum(row["requests_s"] for row in workers) > 5
    assert http["requests_s"] > 5 and http["accepted_s"] > 5
    assert all(row["rss"] > 10 << 20 for row in workers)


def test_metrics_are_those_of_the_health_address(shell):
    rows = shell.rows("metrics")
    assert {"name", "labels", "value", "type"} == set(rows[0])
    assert any(row["name"] == "apihour_server_accepted_total" and 'server="http"' in row["labels"]
               and row["value"] > 40 for row in rows)


# From Python.


def test_container_ops_gives_what_the_shell_gives(shell):
    found = get(shell.daemon, "/ops/workers")
    assert [row["worker"] for row in found] == [row["worker"] for row in shell.rows("workers")]
    assert get(shell.daemon, "/ops/conns?filter=server%3Dnone") == []
    found = get(shell.daemon, "/ops/nonsense")
    assert found == {"error": "'nonsense': no such command"}
    [row] = get(shell.daemon, "/ops/greet?name=you")
    assert row["text"] == "hello you"

"""What an operator reaches for at night: two workers, two operators, clients at many addresses."""

import contextlib
import json
import socket

import pytest

from apihour.testing import Load
from tests.system.shell_support import house, needs_ssh
from tests.system.support import echo

pytestmark = needs_ssh


@pytest.fixture(scope="module")
def shell(apihour_module_daemon, tmp_path_factory):
    with house(apihour_module_daemon, tmp_path_factory.mktemp("operate"), "--timeout",
               "60") as found:
        yield found


@contextlib.contextmanager
def connections(daemon, name, sources):
    """Open connections to that server, one from each of those addresses of this machine."""
    host, _, port = daemon.address(name).rpartition(":")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(
            (host, int(port)), 30, source_address=(source, 0))) for source in sources]


def until(shell, words, wanted, what, **more):
    """Look with that command until `wanted` of its rows is true; returns the rows."""

    def look():
        rows = shell.rows(*words, **more)
        return [rows] if wanted(rows) else None

    return shell.daemon.wait(look, what, timeout=30)[0]


def begin(sock, path):
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


# What goes on.


def test_conns_show_what_each_waits_for(shell):
    peers = [f"127.0.0.{number}" for number in (51, 52, 53, 54)]
    with connections(shell.daemon, "http", peers) as (head, idle, busy, silent):
        head.sendall(b"GET /wait/1?token=secret HTTP/1.1\r\nHos")
        begin(idle, "/")
        idle.recv(65536)
        begin(busy, "/wait/60?token=secret")
        rows = until(shell, ["conns", "--filter", "server=http", "--filter", "peer=127.0.0.48/28"],
                     lambda rows: {row["state"] for row in rows} == {"head", "idle", "request",
                                                                      "open"}, "four states")
        by_peer = {row["peer"].partition(":")[0]: row for row in rows}
        assert [by_peer[peer]["state"] for peer in peers] == ["head", "idle", "request", "open"]
        row = by_peer[peers[2]]
        assert (row["path"], row["route"]) == ("/wait/60", "GET /wait/{seconds}")
        assert 0 < row["request_age"] <= row["age"] < 60
        assert by_peer[peers[0]]["request_age"] and by_peer[peers[1]]["request_age"] is None
        done = shell.ssh("conns")
        assert "secret" not in done.stdout and "/wait/60" in done.stdout
        assert silent.fileno() >= 0


def test_conns_counted_by_peer_route_and_server(shell):
    sources = ["127.0.0.61"] * 3 + ["127.0.0.62"]
    only = ["--filter", "peer=127.0.0.61", "--filter", "server=http"]
    with connections(shell.daemon, "http", sources) as found:
        for one in found[:2]:
            begin(one, "/wait/60")
        rows = until(shell, ["conns", "--by", "peer"],
                     lambda rows: {"127.0.0.61": 3, "127.0.0.62": 1}.items()
                     <= {row["peer"]: row["count"] for row in rows}.items(), "the groups")
        counts = [row["count"] for row in rows]
        assert counts == sorted(counts, reverse=True)
        rows = until(shell, ["conns", "--by", "route", *only],
                     lambda rows: len(rows) == 2 and rows[0]["count"] == 2, "the routes")
        assert [(row["route"], row["count"]) for row in rows] == [
            ("GET /wait/{seconds}", 2), ("", 1)]
        [row] = shell.rows("conns", "--by", "server", *only)
        assert (row["server"], row["count"], row["bytes_in"] > 0) == ("http", 3, True)
        assert 1 <= row["workers"] <= 2
        sorted_up = shell.rows("conns", "--by", "peer", "--sort", "count", "--limit", "1")
        assert sorted_up[0]["count"] == 1
        text = shell.ssh("conns", "--by", "peer").stdout
        assert "127.0.0.61" in text and "COUNT" in text
    for words, expected in ((["--by", "peer", "--sort", "rss"], "expected one of peer, count"),
                            (["--by", "colour"], "expected one of peer, route")):
        done = shell.ssh("conns", *words)
        assert done.returncode == 2 and expected in done.stderr


def test_a_filter_is_exact_or_refused(shell):
    with connections(shell.daemon, "echo", ["127.0.0.77", "127.0.0.7"]) as both:
        for one in both:
            echo(one)
        [row] = shell.rows("conns", "--filter", "peer=127.0.0.77")
        assert row["peer"].startswith("127.0.0.77:")
        [same] = shell.rows("conns", "--filter", f"peer={row['peer']}")
        assert same["id"] == row["id"]
        assert len(shell.rows("conns", "--filter", "peer=127.0.0.7*")) == 2
        assert len(shell.rows("conns", "--filter", "~127.0.0.7")) == 2
    for word, expected in (("foo", "expected COLUMN=VALUE"), ("foo=1", "no column 'foo'")):
        for command in ("conns", "workers", "tasks", "audit", "sessions", "metrics", "kick"):
            done = shell.ssh(command, "--filter", word)
            assert done.returncode == 2, (command, done)
            assert expected in done.stderr and len(done.stderr.splitlines()) == 1


def test_kick_all_of_one_address(shell):
    sources = ["127.0.0.71"] * 5 + ["127.0.0.72"] * 2
    with connections(shell.daemon, "echo", sources) as found:
        for one in found:
            echo(one)
        words = ["kick", "--filter", "peer=127.0.0.71"]
        [one] = shell.rows(*words, "--limit", "1", role="operator")
        [there] = [sock for sock in found if f"127.0.0.71:{sock.getsockname()[1]}" == one["peer"]]
        assert there.recv(1) == b""
        found.remove(there)
        assert shell.ssh(*words, role="observer").returncode == 126
        rows = shell.rows(*words, role="operator")
        assert len(rows) == 4 and {row["peer"].partition(":")[0] for row in rows} == {"127.0.0.71"}
        for one in found[:4]:
            assert one.recv(1) == b""
        for one in found[4:]:
            echo(one)
        assert shell.rows(*words, role="operator") == []
    done = shell.ssh("kick")
    assert done.returncode == 2 and "expected a connection's id, or --filter" in done.stderr
    last = [row for row in shell.audit() if row.get("command", "").startswith("kick --filter")]
    assert [row["status"] for row in last[-4:]].count(0) >= 2


def test_tasks_by_where_and_cancel_of_those_chosen(shell):
    chosen = ["--filter", "where=shell_house.py*wait"]
    shell.rows("cancel", *chosen)
    until(shell, ["tasks", *chosen], lambda rows: not rows, "the end of what others left")
    with connections(shell.daemon, "http", ["127.0.0.1"] * 4) as found:
        for one in found:
            begin(one, "/wait/60")
        [row] = until(shell, ["tasks", "--by", "where", *chosen],
                      lambda rows: rows and rows[0]["count"] == 4, "four waits")
        assert 1 <= row["workers"] <= 2
        until(shell, ["tasks", "--by", "where", *chosen],
              lambda rows: rows[0]["oldest"] > row["oldest"], "an age that grows")
        # Two operators at once: what one has cancelled, the other leaves out.
        both = [shell.start("cancel", *chosen, "--json", role=role)
                for role in ("operator", "admin")]
        outputs = [process.communicate(timeout=30) for process in both]
        assert [process.returncode for process in both] == [0, 0], outputs
        until(shell, ["tasks", *chosen], lambda rows: not rows, "their end")
    everything = shell.rows("tasks", "--all")
    assert {row["coroutine"] for row in everything} >= {"HostWorker._live"}
    assert not [row for row in shell.rows("tasks") if row["coroutine"] == "HostWorker._live"]


# Workers.


def test_restart_drains_and_names_the_replacement(shell):
    [before] = [row for row in shell.rows("workers") if row["worker"].startswith("1.")]
    assert shell.ssh("restart", "1", role="observer").returncode == 126
    # Two operators at once: one restart, and both are told of it.
    both = [shell.start("restart", "1", "--within", "20s", "--json", role=role)
            for role in ("operator", "admin")]
    rows = []
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode in (0, 2), err  # the second may have come when it was through
        rows += json.loads(out)
    row = rows[0]
    assert (row["pid"], row["outcome"]) == (before["pid"], "drained")
    [after] = [one for one in shell.rows("workers") if one["pid"] == rows[-1]["new_pid"]]
    assert after["worker"].startswith("1.") and after["state"] == "serving"
    assert row["replaced_by"] == after["worker"]
    starts = {one["id"].partition(":")[2].partition(".")[::2] for one in
              shell.rows("tasks", "--all", "--worker", after["worker"])}
    assert starts and all(number for _, number in starts), "no id of the one that went is its"
    done = shell.ssh("restart", "all")
    assert done.returncode == 2 and "reload replaces all of them" in done.stderr
    done = shell.ssh("restart", "9")
    assert done.returncode == 2 and "there is none" in done.stderr


def test_restart_of_a_stuck_worker_and_the_hint_beside_it(shell):
    with connections(shell.daemon, "http", ["127.0.0.1"]) as [sock]:
        begin(sock, "/stick/spin")
        [row] = until(shell, ["workers", "--filter", "state=stuck*"],
                      lambda rows: len(rows) == 1 and " spin" in rows[0]["state"],
                      "a worker that is stuck")
        name, pid = row["worker"], row["pid"]
        done = shell.ssh("workers")
        assert f"worker {name} is stuck: stack {name} shows where, restart {name} replaces it" in (
            done.stderr)
        assert "restart" not in shell.ssh("workers", "--json").stderr
        [row] = shell.rows("restart", name, role="operator", timeout=60)
    assert (row["pid"], row["outcome"]) == (pid, "killed") and row["seconds"] < 25
    assert row["new_pid"] in {one["pid"] for one in shell.rows("workers")}
    mark = "cannot drain, killing it"
    shell.daemon.wait(lambda: " in spin" in shell.daemon.log.partition(mark)[2], "its stack")


def test_whoever_kills_a_worker_is_told_what_replaced_it(shell):
    [before] = shell.rows("workers", "--filter", "worker=2.*")
    for name in ("KILL", "TERM"):
        [row] = shell.rows("signal", name, "2", timeout=60)
        [now] = shell.rows("workers", "--filter", "worker=2.*", "--filter", "state=serving")
        assert row["signal"] == name and row["process"] == before["worker"]
        assert (row["new_pid"], row["replaced_by"]) == (now["pid"], now["worker"])
        assert now["pid"] != before["pid"]
        before = now


def test_the_last_worker_that_accepts_is_drained_with_yes_only(shell):
    # Two operators, each a worker: one of them is refused.
    both = [shell.start("drain", slot, "--json", role=role)
            for slot, role in (("1", "operator"), ("2", "admin"))]
    outputs = [process.communicate(timeout=30)[1].decode() for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], outputs
    assert "no other worker accepts connections" in "".join(outputs)
    slot = "1" if both[0].returncode else "2"
    try:
        assert shell.rows("drain", slot, "--yes", role="operator")
        until(shell, ["workers"], lambda rows: {row["state"] for row in rows} == {"suspended"},
              "both suspended")
    finally:
        shell.rows("undrain", "all")
    until(shell, ["workers"], lambda rows: {row["state"] for row in rows} == {"serving"}, "both")
    with connections(shell.daemon, "echo", ["127.0.0.1"]) as [sock]:
        echo(sock)


def test_a_restart_whose_code_does_not_start_leaves_the_old_worker(apihour_daemon, tmp_path, app):
    with house(apihour_daemon, tmp_path, cwd=app) as found:
        before = {row["pid"] for row in found.rows("workers")}
        (app / "shell_house.py").write_text("import nothing_of_that_name\n")
        done = found.ssh("restart", "1", timeout=60)
        assert done.returncode == 1
        assert "nothing_of_that_name" in done.stderr.splitlines()[0]
        assert "serves on" in done.stderr.splitlines()[0]
        assert {row["pid"] for row in found.rows("workers", "--filter", "state=serving")} == before


# Routes.


def test_routes_of_both_workers_while_two_operators_look(shell):
    with Load("connection", shell.daemon.address("http"), connections=4, think=0.01) as load:
        load.wait_answers(20)
        both = [shell.start("routes", "-s", "2", "--json", role=role)
                for role in ("observer", "admin")]
        found = []
        for process in both:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            found.append(json.loads(out))
    for rows in found:
        [row] = [one for one in rows if one["route"] == "GET /"]
        assert row["server"] == "http" and row["requests_s"] > 2
        assert 0 < row["p50"] <= row["p99"] < 10 and row["errors_s"] == 0 and row["cpu"] > 0
    done = shell.ssh("routes", "-s", "0")
    assert done.returncode == 2 and "expected up to 600" in done.stderr
    text = shell.ssh("routes", "-s", "0.2").stdout
    assert "P99" in text or "no rows" in text or not text

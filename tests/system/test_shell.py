"""The shell without a terminal: ``ssh host command``, ``apihour ctl command``, other clients."""

import json
import os
import re
import select
import subprocess
import sys
import time

import paramiko
import pytest

from tests.system.shell_support import house, needs_ssh, quoted, table_of
from tests.system.support import get

pytestmark = needs_ssh

CATALOGUE = set(
    "top workers servers conns tasks where stack log logs drain undrain reload upgrade scale "
    "kick cancel metrics config slow profile mem gc python health version env sessions audit "
    "signal watch help exit clear ban bans unban restart rollback events routes certs "
    "jobs flags engines suspend resume limit hosts upstreams presence".split()
)


@pytest.fixture(scope="module")
def shell(apihour_module_daemon, tmp_path_factory):
    environment = {"DATABASE_PASSWORD": "sesame-1", "SERVICE_URL": "redis://u:sesame-2@h/0",
                   "PLAIN": "in sight"}
    with house(apihour_module_daemon, tmp_path_factory.mktemp("shell"), "--timeout", "60",
               env=environment) as found:
        yield found


# The same result, whichever way it is asked.


def test_catalogue_is_whole(shell):
    rows = shell.rows("help")
    names = {row["command"] for row in rows}
    assert names >= CATALOGUE
    assert names - CATALOGUE == {"greet", "pids", "quickest"}
    assert all(row["summary"] and row["usage"].startswith(row["command"]) for row in rows)
    roles = {row["command"]: row["role"] for row in rows}
    assert roles["workers"] == "observer"
    assert roles["reload"] == roles["greet"] == "operator"
    assert roles["python"] == roles["upgrade"] == "admin"


def test_workers_servers_and_conns_have_their_columns(shell):
    with shell.daemon.connect("echo") as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
        workers = shell.rows("workers")
        servers = shell.rows("servers")
        conns = shell.rows("conns", "--filter", "server=echo")
        peer = "{}:{}".format(*sock.getsockname())
    assert {row["pid"] for row in workers} == {one.pid for one in shell.daemon.workers()}
    assert workers[0].keys() >= {
        "worker", "pid", "state", "age", "rss", "cpu", "lag", "connections"}
    assert all(row["rss"] > 10 << 20 and row["state"] == "serving" for row in workers)
    assert {row["name"]: row["address"] for row in servers} == {
        name: shell.daemon.address(name) for name in ("http", "echo")}
    assert servers[0].keys() >= {"name", "protocol", "address", "connections", "accepted"}
    [conn] = conns
    assert conn.keys() >= {"id", "worker", "server", "protocol", "peer", "age", "bytes_in",
                           "bytes_out", "state"}
    assert (conn["peer"], conn["protocol"], conn["bytes_in"], conn["bytes_out"]) == (
        peer, "tcp", 5, 5)


def test_ssh_and_ctl_give_the_same(shell):
    for words in (["version"], ["help"], ["help", "stack"], ["servers", "--csv"],
                  ["workers", "--json", "--filter", "worker=1.1", "--sort", "pid"]):
        one, other = shell.ssh(*words), shell.ctl(*words)
        assert (one.returncode, one.stderr) == (0, "") == (other.returncode, other.stderr)
        if "workers" in words:
            keep = ("worker", "pid", "state")
            first, second = ([{name: row[name] for name in keep} for row in json.loads(text)]
                             for text in (one.stdout, other.stdout))
            assert first == second
        else:
            assert one.stdout == other.stdout


def test_json_is_an_array_of_objects_and_csv_has_a_header(shell):
    done = shell.ssh("workers", "--csv")
    rows = table_of(done.stdout)
    assert [row["worker"] for row in rows] == ["1.1", "2.1"]
    assert all(float(row["age"]) > 0 and int(row["rss"]) for row in rows)
    assert shell.rows("conns", "--filter", "server=none") == []
    done = shell.ssh("workers")
    assert done.stdout.split("\n")[0].split()[:3] == ["WORKER", "PID", "STATE"]
    assert "\x1b" not in done.stdout


def test_rows_are_chosen_sorted_and_cut(shell):
    assert [row["worker"] for row in shell.rows("workers", "--sort", "-worker")] == ["2.1", "1.1"]
    assert len(shell.rows("workers", "--limit", "1")) == 1
    assert [row["worker"] for row in shell.rows("tasks", "--all", "--worker", "2", "--limit", "3")
            ] == ["2.1"] * 3
    names = [row["name"] for row in shell.rows("tasks", "--filter", "name=the-child")]
    assert names == ["the-child"] * 2
    fat = shell.rows("workers", "--filter", "rss>1M", "--filter", "state=serving")
    assert len(fat) == 2
    assert shell.rows("workers", "--filter", "rss>100G") == []


# Exit statuses, and one line that says what is wrong.


@pytest.mark.parametrize(("words", "role", "status", "message"), [
    (["version"], "observer", 0, ""),
    (["mem"], "operator", 1, "begin with mem --start"),
    (["workers", "--nonsense"], "observer", 2, "unknown option --nonsense"),
    (["workers", "--sort", "beauty"], "observer", 2, "no column 'beauty'"),
    (["conns", "--worker", "9"], "observer", 2, "worker '9': there is none; there is 1.1, 2.1"),
    (["stack", "one"], "observer", 2, "expected a worker"),
    (["where"], "observer", 2, "TASK is missing"),
    (["reload"], "observer", 126, "reload: needs role operator; observer@test has role observer"),
    (["greet", "you"], "observer", 126, "greet: needs role operator"),
    (["upgrade"], "operator", 126, "needs role admin"),
    (["sessions", "--kick", "1"], "operator", 126, "--kick needs role admin"),
    (["sessions", "--kick", "999999"], "admin", 1, "session 999999: there is none of that id"),
    (["log", "root", "debug"], "observer", 126, "needs role operator"),
    (["wrokers"], "observer", 127, "no such command; did you mean workers?"),
    (["; reboot"], "admin", 2, "one command a line here"),
])
def test_exit_statuses(shell, words, role, status, message):
    done = shell.ssh(" ".join(quoted([word]) for word in words), role=role)
    assert done.returncode == status, done
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == (1 if status else 0)
    assert "Traceback" not in done.stderr
    assert done.stdout == "" or not status


def test_partial_answer_is_75_and_names_who_is_missing(shell):
    victim = shell.daemon.stop(shell.daemon.workers()[1])
    try:
        started = time.monotonic()
        done = shell.ssh("tasks", "--json")
        assert time.monotonic() - started < 4
    finally:
        shell.daemon.cont(victim)
    assert done.returncode == 75
    assert {row["worker"] for row in json.loads(done.stdout)} == {"1.1"}
    assert re.fullmatch(r"worker 2\.1: stopped by a signal.*\n", done.stderr)


# Streams end with their reader.


@pytest.mark.parametrize("words", [
    ["watch", "60", "workers"], ["watch", "60", "workers", "--csv"], ["logs", "-f"],
    ["logs", "-f", "--json"], ["slow", "-f", "--over", "150ms"], ["audit", "-f"],
    ["audit", "-f", "--csv"],
])
@pytest.mark.parametrize("way", ["ssh", "ssh -tt", "ctl"])
def test_head_1_returns_at_once(shell, words, way):
    """Of a stream that says nothing more after its first rows."""
    get(shell.daemon, "/log/2")
    shell.ssh("version")
    command = [sys.executable, "-m", "apihour", "ctl", *words]
    if way != "ctl":
        command = shell.command(*words, options=shell.master("admin") + way.split()[1:])
    environment = {**os.environ, "APIHOUR_RUNTIME_DIR": str(shell.daemon.directory)}
    with subprocess.Popen(["sh", "-c", f"{quoted(command)} </dev/null | head -1"],
                          stdout=subprocess.PIPE, env=environment) as piped:
        while words[0] == "slow" and not select.select([piped.stdout], [], [], 0)[0]:
            get(shell.daemon, "/stick/short")  # it has no past
        assert piped.stdout.readline().endswith(b"\n")
        piped.wait(20)  # its shell waits for both: the next row would be a minute later, or never
        assert piped.stdout.read() == b""
    shell.daemon.wait(lambda: _running(shell) == [], "the end of the stream in the console")


def test_what_breaks_the_silence_means_nothing(shell):
    shell.ssh("version")
    streams = {form: shell.start("audit", "-f", "-n", "2", *form.split())
               for form in ("", "--json", "--csv")}
    try:
        shell.daemon.wait(lambda: len(_running(shell)) == 3, "the streams")
        time.sleep(1.2)  # the silence
        shell.ssh("version", "--csv", role="observer")
        said = {form: _read_until(process, b"version --csv")
                for form, process in streams.items()}
    finally:
        for process in streams.values():
            process.kill()
            process.communicate()
    rows = [json.loads(line) for line in said["--json"].splitlines()]
    assert rows[-1]["command"] == "version --csv"
    assert re.search(r"\n +\{", said["--json"])
    rows = table_of(said["--csv"])
    assert rows[-1]["command"] == "version --csv" and "\n\n" in said["--csv"]
    assert all(row["time"].startswith("20") for row in rows)
    lines = said[""].split("\n")
    assert {line.lstrip("\r")[:2] for line in lines} == {"TI", "20"}
    assert any(line.startswith("\r") for line in lines)


def _read_until(process, mark):
    """What a stream says up to the end of the line with `mark` in it."""
    said = b""
    while not (mark in said and said.rstrip(b" \r").endswith(b"\n")):
        assert select.select([process.stdout], [], [], 10)[0], said
        data = os.read(process.stdout.fileno(), 65536)
        assert data, said
        said += data
    return said.decode().rstrip(" \r\n")


@pytest.mark.parametrize("words", ["logs -f", "audit -f --json"])
def test_reader_that_never_reads_ends_a_stream(shell, words):
    command = quoted(shell.command(words, options=shell.master("admin")))
    subprocess.run(["sh", "-c", f"{command} </dev/null | true"], timeout=5, check=True)
    shell.daemon.wait(lambda: _running(shell) == [], "the end of the stream in the console")


def _running(shell):
    return [row["command"] for row in shell.rows("sessions", role="operator")
            if row["command"] and not row["command"].startswith("sessions")]


def test_stream_gives_a_json_object_per_line(shell):
    get(shell.daemon, "/log/3")
    done = shell.ssh("logs", "-n", "2", "--json", "--logger", "shell_house")
    rows = json.loads(done.stdout)
    assert [row["message"] for row in rows][-2:] == [
        f"line {number} \x1b[31mred\x1b[0m\x07" for number in (1, 2)]
    assert r"\u001b[31mred" in done.stdout  # escaped: no terminal obeys it
    done = shell.ssh("watch", "--json", "--limit", "2", "0.2", "workers")
    assert {json.loads(line)["worker"] for line in done.stdout.splitlines()} <= {"1.1", "2.1"}
    done = shell.ssh("audit", "-f", "-n", "3", "--json", "--limit", "3")
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 3


def test_killed_client_ends_its_stream(shell):
    process = shell.start("logs", "-f")
    try:
        shell.daemon.wait(lambda: _running(shell) == ["logs -f"], "the stream")
    finally:
        process.kill()
        process.communicate()
    shell.daemon.wait(lambda: _running(shell) == [], "its end")


# Commands by the line, without a terminal.


def test_commands_from_stdin(shell):
    done = shell.ssh(stdin=b"version --csv\n\nworkers --limit 1 --csv\nwrokers\n")
    assert done.returncode == 127
    assert "component,version\n" in done.stdout and "worker,pid" in done.stdout
    assert "no such command" in done.stderr
    done = shell.ssh(stdin=b"")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no command and no terminal" in done.stderr


def test_nothing_of_what_is_printed_controls_the_terminal(shell):
    get(shell.daemon, "/log/1")
    for words in (["logs"], ["logs", "--csv"], ["logs", "--json"]):
        done = shell.ssh(*words)
        assert "[31mred" in done.stdout  # the text is there, what made it a command is not
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.stdout)
    done = shell.ssh("'\x1b]0;title\x07\x1b[2J'")
    assert done.returncode != 0 and "\x1b" not in done.stderr and "\x07" not in done.stderr


def test_secrets_are_masked(shell):
    everything = "".join(
        shell.ssh(name, form).stdout
        for name in ("env", "config") for form in ("--json", "--csv"))
    assert "sesame" not in everything
    rows = {row["name"]: row["value"] for row in shell.rows("env")}
    assert rows["PLAIN"] == "in sight"
    assert rows["DATABASE_PASSWORD"] == "********"
    assert rows["SERVICE_URL"] == "redis://u:********@h/0"
    settings = {row["name"]: row["value"] for row in shell.rows("config", "--diff")}
    assert settings["timeout"] == 60
    assert len(settings) < len(shell.rows("config"))


# The application's own commands.


def test_commands_of_the_application(shell):
    [row] = shell.rows("greet", "you", "--loud", role="operator")
    assert row["text"] == "HELLO YOU"
    pids = {one.pid for one in shell.daemon.workers()}
    assert row["pid"] in pids
    assert {row["pid"] for row in shell.rows("pids")} == pids
    [row] = shell.rows("quickest")
    assert row["pid"] in pids
    [row] = shell.rows("greet", "you", "--worker", "2", role="operator")
    assert row["pid"] == shell.daemon.workers()[1].pid
    text = shell.ssh("help", "greet").stdout
    assert "usage: greet NAME [--loud]" in text and "whom" in text and "role: operator" in text
    assert "of the application:" in shell.ssh("help").stdout


# Who did what.


def test_audit_names_key_address_command_workers_outcome_and_duration(shell):
    shell.ssh("conns", "--worker", "2", role="observer")
    shell.ssh("reload", role="observer")
    shell.ssh("wrokers", role="observer")
    entries = [one for one in shell.audit() if one["user"] == "observer@test"]
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", f"{shell.keys['observer']}.pub"], capture_output=True, text=True
    ).stdout.split()[1]
    assert [(one["command"], one["workers"], one["status"]) for one in entries[-3:]] == [
        ("conns --worker 2", "2", 0), ("reload", "all", 126), ("wrokers", "", 127)]
    assert entries[-3]["outcome"] == "ok"
    assert "needs role operator" in entries[-2]["outcome"]
    for one in entries:
        assert one["fingerprint"] == fingerprint and one["role"] == "observer"
        assert re.fullmatch(r"127\.0\.0\.1:\d+", one["address"])
        assert abs(time.time() - one["time"]) < 300 and 0 <= one["duration"] < 5
    assert any(one["event"] == "login" for one in entries)
    path = shell.keys.path / "audit.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    rows = shell.rows("audit", "-n", "2")
    assert len(rows) == 2 and rows[-1]["command"].startswith("wrokers")
    assert shell.ctl("version").returncode == 0
    assert shell.audit()[-1]["address"] == "local" and shell.audit()[-1]["role"] == "admin"


def test_a_flag_holds_in_all_workers_and_setting_it_is_an_admins(shell):
    [row] = shell.rows("flags", "colour", "blue", "--worker", "1")
    assert (row["flag"], row["value"], row["default"]) == ("colour", "blue", "")
    assert [one["value"] for one in shell.rows("flags", "colour", "--worker", "2")] == ["blue"]
    assert shell.audit()[-2]["command"] == "flags colour blue --worker 1 --json"
    done = shell.ssh("flags", "colour", "red", role="operator")
    assert done.returncode == 126 and "setting one needs role admin" in done.stderr


# What an SSH server might offer besides.


@pytest.mark.parametrize("options", [["-L", "0:127.0.0.1:1"], ["-R", "0:127.0.0.1:1"], ["-A"],
                                     ["-W", "127.0.0.1:1"], ["-X"]])
def test_nothing_is_forwarded(shell, options):
    if options[0] == "-W":
        done = subprocess.run(shell.command(options=options), capture_output=True, timeout=20,
                              stdin=subprocess.DEVNULL)
        assert done.returncode != 0
        return
    if options[0] == "-R":
        done = subprocess.run(
            shell.command("-N", options=[*options, "-o", "ExitOnForwardFailure=yes"]),
            capture_output=True, timeout=20, stdin=subprocess.DEVNULL)
        assert done.returncode == 255
        return
    if options[0] == "-L":
        _check_no_direct_tcp(shell)
        return
    done = shell.ssh("version", options=options, shared=False)
    assert done.returncode == 0
    assert not [row for row in shell.rows("env") if row["name"] in ("SSH_AUTH_SOCK", "DISPLAY")
                and "ssh-" in row["value"]]


def _check_no_direct_tcp(shell):
    client = connected(shell)
    with pytest.raises(paramiko.ChannelException, match=r"prohibited|refused"):
        client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", 1), ("127.0.0.1", 1))
    client.close()


@pytest.mark.parametrize("subsystem", ["sftp", "netconf"])
def test_no_subsystems(shell, subsystem):
    done = shell.ssh("-s", subsystem, shared=False)
    assert done.returncode == 255 and "subsystem request failed" in done.stderr


# Other clients.


def connected(shell, role="admin"):
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect("127.0.0.1", shell.port, "anyone", key_filename=str(shell.keys[role]),
                   allow_agent=False, look_for_keys=False, timeout=10)
    return client


def test_paramiko(shell):
    client = connected(shell, "observer")
    try:
        _, out, err = client.exec_command("workers --json")
        assert len(json.load(out)) == 2 and err.read() == b""
        assert out.channel.recv_exit_status() == 0
        _, out, err = client.exec_command("reload")
        assert b"needs role operator" in err.read()
        assert out.channel.recv_exit_status() == 126
        channel = client.invoke_shell("xterm", 100, 30)
        channel.settimeout(10)
        seen = ""
        for line, wanted in (("", "shell_house>"), ("version\r", "gunicorn"), ("exit\r", "")):
            channel.send(line)
            while wanted not in seen:
                data = channel.recv(65536)
                assert data, seen
                seen += data.decode("utf-8", "replace")
        assert channel.recv_exit_status() == 0
    finally:
        client.close()


def test_paramiko_opens_ten_sessions_and_no_more(shell):
    client = connected(shell)
    try:
        transport = client.get_transport()
        channels = [transport.open_session(timeout=10) for _ in range(10)]
        with pytest.raises(paramiko.ChannelException):
            transport.open_session(timeout=10)
        channels[0].exec_command("version")
        assert channels[0].recv_exit_status() == 0
    finally:
        client.close()


def test_ssh_audit_has_no_complaint_but_the_compatible_key_exchange(shell):
    done = subprocess.run(
        [sys.executable, "-m", "ssh_audit", "--json", "-n", "--skip-rate-test",
         f"127.0.0.1:{shell.port}"], capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout)
    complaints = {}
    for kind in ("kex", "key", "enc", "mac"):
        for one in report[kind]:
            notes = one.get("notes", {})
            for level in ("fail", "warn"):
                for text in notes.get(level, ()):
                    complaints.setdefault(one["algorithm"], []).append((level, text))
    assert report["kex"][0]["algorithm"] == "mlkem768x25519-sha256"
    assert complaints.keys() <= {"curve25519-sha256", "curve25519-sha256@libssh.org"}, complaints
    assert all(level == "warn" and "quantum" in text
               for texts in complaints.values() for level, text in texts), complaints

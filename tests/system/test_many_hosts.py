"""The shell over three hosts on a real NATS: everybody answers, and who is gone is named."""

from __future__ import annotations

import contextlib
import json
import shutil
import time

import pytest

from tests.nats_server import nats_server
from tests.system.shell_support import Keys, console_pid, ctl, house, needs_ssh

__all__ = ["nats_server"]

pytestmark = needs_ssh
HOSTS = ("web-1", "web-2", "db-1")


class Fleet:
    """The daemons by host, each with a shell of its own; all have the first one's keys."""

    def __init__(self, shells):
        self.shells = shells

    def rows(self, at, *words, **more):
        return self.shells[at].rows(*words, **more)

    def wait(self, condition, what):
        next(iter(self.shells.values())).daemon.wait(condition, what)


@pytest.fixture(scope="module")
def fleet(apihour_module_daemon, tmp_path_factory, nats_server):
    directory = tmp_path_factory.mktemp("fleet")
    first = Keys(directory / "one")
    assert run_keys(first) == 0
    with contextlib.ExitStack() as stack:
        shells = {}
        for name in HOSTS:
            own = directory / name
            shutil.copytree(first.path, own / "keys")
            for path in first.private.glob("id_*"):
                shutil.copy2(path, own)
            tree = own / "etc"
            (tree / "main").mkdir(parents=True)
            (tree / "main" / "main.yaml").write_text(f"bus: {nats_server.url}\n")
            keys = object.__new__(Keys)
            keys.path, keys.private = own / "keys", own
            keys.authorized = keys.path / "authorized_keys"
            shells[name] = stack.enter_context(house(
                apihour_module_daemon, own, "--config_dir", str(tree), keys=keys, workers=1,
                env={"APIHOUR_HOST": name, "HOLD": str(own / "hold")},
                target="held_house:Container"))
        found = Fleet(shells)
        for name, shell in shells.items():
            shell.daemon.wait_log(rf"fleet: host {name}, with \d others")
        found.wait(lambda: all(len(found.rows(at, "hosts")) == 3 for at in HOSTS), "one fleet")
        yield found


def run_keys(keys):
    from apihour_console.keys.command import run

    return run(["fleet", "--keys", str(keys.path)])


def test_two_operators_at_two_hosts_see_and_steer_all_of_them(fleet):
    for at, role in (("web-1", "admin"), ("db-1", "observer")):
        rows = fleet.rows(at, "workers", "--host", "all", role=role)
        assert sorted(row["host"] for row in rows) == sorted(HOSTS)
    rows = fleet.rows("db-1", "conns", "--host", "web-*", role="observer")
    assert {row["host"] for row in rows} <= {"web-1", "web-2"}
    (row,) = fleet.rows("web-1", "stack", "@db-1:1", "--limit", "1")
    assert row["host"] == "db-1"
    done = fleet.shells["db-1"].ssh("reload", "--host", "web-1", role="observer")
    assert done.returncode == 126
    assert "role operator" in done.stderr
    done = ctl(fleet.shells["db-1"].daemon, "workers", "--host", "web-1")
    assert done.returncode == 126
    assert "log in by ssh" in done.stderr


def test_lines_of_all_hosts_are_followed(fleet):
    shown = fleet.shells["web-1"].ssh("logs", "-f", "--host", "all", "--limit", "1").stdout
    assert shown.split()[:3] == ["HOST", "WORKER", "TIME"]
    process = fleet.shells["web-1"].start("logs", "-f", "--host", "all", "--json")
    try:
        seen = set()
        fleet.shells["db-1"].ssh("log", "app", "debug", "--host", "all")
        for line in process.stdout:
            seen |= {name for name in HOSTS if f'"host": "{name}"' in line.decode()
                     or f'"host":"{name}"' in line.decode()}
            if len(seen) == 3:
                break
        assert seen == set(HOSTS)
    finally:
        process.terminate()
        process.communicate()


def test_all_are_reloaded_one_after_another_and_audited_on_each(fleet):
    rows = fleet.rows("web-1", "reload", "--fleet", role="operator")
    assert [(row["host"], row["outcome"]) for row in rows] == [
        (host, "done") for host in sorted(HOSTS)]
    for host in ("web-2", "db-1"):
        (entry,) = [one for one in fleet.shells[host].audit() if one["command"] == "reload"]
        assert entry["address"].endswith("via web-1")
        assert entry["role"] == "operator"


def test_a_key_taken_away_on_one_host_is_refused_there_alone(fleet):
    authorized = fleet.shells["web-2"].keys.authorized
    before = authorized.read_text()
    fleet.shells["web-2"].keys.remove("operator")
    try:
        done = fleet.shells["web-1"].ssh("workers", "--host", "all", role="operator")
        assert done.returncode == 126
        assert "host web-2: the key" in done.stderr
        assert "db-1" in done.stdout
    finally:
        authorized.write_text(before)


def test_the_key_is_changed_while_they_talk(fleet):
    paths = {name: shell.keys.path / "fleet.key" for name, shell in fleet.shells.items()}
    old, new = paths["web-1"].read_text(), "n" * 64 + "\n"
    for step in (old + new, new + old, new):
        for path in paths.values():
            copied = path.with_name("copied")
            copied.write_text(step)
            copied.chmod(0o600)
            copied.replace(path)
            assert {row["host"] for row in fleet.rows("web-1", "workers", "--host", "all")} == set(
                HOSTS)
    fleet.shells["db-1"].daemon.wait_log("has changed: its first key of 1 seals now")


def test_a_host_that_is_stopped_or_killed_is_named_in_two_seconds(fleet):
    shell = fleet.shells["web-2"]
    pid = console_pid(shell.daemon)
    shell.daemon.stop(pid)
    began = time.monotonic()
    done = fleet.shells["db-1"].ssh("workers", "--host", "all")
    assert time.monotonic() - began < 5  # two, and what a busy machine takes for ssh
    assert done.returncode == 75
    assert "host web-2: no answer in time" in done.stderr
    assert "web-1" in done.stdout
    done = fleet.shells["web-1"].ssh("reload", "--fleet")
    assert done.returncode == 75
    assert "not reached" in done.stdout
    shell.daemon.kill(pid)  # the arbiter starts another, which says hello
    fleet.wait(lambda: fleet.shells["db-1"].ssh("workers", "--host", "all").returncode == 0,
               "the next console")


def test_a_daemon_that_is_killed_is_named_though_its_console_ends_in_order(fleet):
    shell = fleet.shells["web-2"]
    shell.daemon.kill(shell.daemon.pid)
    shell.daemon.wait_log("console: no arbiter is left, ending")
    fleet.wait(lambda: fleet.shells["db-1"].ssh("workers", "--host", "all").returncode == 75,
               "it to be missing")
    done = fleet.shells["web-1"].ssh("hosts")
    assert done.returncode == 75
    assert "host web-2: no answer in time" in done.stderr
    assert fleet.shells["web-1"].ssh("hosts", "forget", "web-2").returncode == 0


def test_an_arbiter_that_is_killed_in_the_middle_leaves_unknown_what_became_of_it(fleet):
    far = fleet.shells["db-1"]
    hold = far.keys.private / "hold"
    hold.touch()
    since = len(far.daemon.lines)
    running = fleet.shells["web-1"].start("reload", "--fleet", "--json")
    far.daemon.wait_log("Command: reload", since=since)
    far.daemon.kill(far.daemon.pid)
    out, told = running.communicate(timeout=60)
    assert running.returncode == 1, told
    assert [(row["host"], row["outcome"]) for row in json.loads(out)] == [
        ("db-1", "unknown"), ("web-1", "not reached")]
    assert "the arbiter ended before it answered" in json.loads(out)[0]["error"]
    assert sum("Command: reload" in line for line in far.daemon.lines[since:]) == 1

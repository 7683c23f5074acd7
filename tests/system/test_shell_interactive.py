"""The interactive shell of a real daemon, typed at by OpenSSH's client in a pseudo-terminal."""

import contextlib
import re
import sys
import time

import pytest

from tests.system.shell_support import Terminal, house, needs_ssh
from tests.system.support import get

pytestmark = needs_ssh


@pytest.fixture(scope="module")
def shell(apihour_module_daemon, tmp_path_factory):
    with house(apihour_module_daemon, tmp_path_factory.mktemp("typed"), "--timeout", "60",
               "--shell-python") as found:
        yield found


@pytest.fixture
def terminal(shell):
    with shell.terminal(options=shell.master("admin")) as found:
        found.expect("shell_house>")
        yield found


def test_typing_and_leaving(shell):
    with shell.terminal(role="observer", options=shell.master("observer")) as terminal:
        terminal.expect(r"observer@test is observer; help lists the commands.*shell_house>")
        terminal.run("workers", r"WORKER +PID +STATE.*1\.1 +\d+ +serving.*2\.1 +\d+ +serving")
        terminal.run("wrokers", "no such command; did you mean workers?")
        terminal.run("reload", "reload: needs role operator; observer@test has role observer")
        terminal.type("exit\r")
        assert terminal.ended() == 0
    with shell.terminal(options=shell.master("admin")) as terminal:
        terminal.expect("shell_house>")
        terminal.type("\x04")  # Ctrl-D
        assert terminal.ended() == 0


def test_tab_completes_commands_options_and_live_values(shell, terminal):
    terminal.type("vers\t")
    terminal.expect("version")
    terminal.run("", r"apihour +\d")
    terminal.type("tasks --tr\t")
    terminal.expect("tasks --tree")
    terminal.type(" --lim\t")
    terminal.expect("--limit")
    terminal.run(" 1", "AWAITED_BY")
    with shell.daemon.connect("echo") as sock:
        sock.sendall(b"x")
        sock.recv(1)
        [conn] = [row["id"] for row in shell.rows("conns") if row["server"] == "echo"]
        terminal.type("kick " + conn[:3] + "\t")
        terminal.settle()
        terminal.run("", r"ID +PEER +SERVER\n" + re.escape(conn))
        assert sock.recv(1) == b""
    terminal.type("stack 2.\t")
    terminal.settle()
    terminal.run("", r"worker 2\.1, loop")
    terminal.type("log asy\t")
    terminal.settle()
    terminal.run("", r"LOGGER.*asyncio")
    terminal.type("help gre\t")
    terminal.settle()
    terminal.run("", "usage: greet NAME")


def test_what_the_role_may_not_do_is_not_offered(shell):
    with shell.terminal(role="observer", options=shell.master("observer")) as terminal:
        terminal.expect("shell_house>")
        terminal.type("re\t")
        terminal.type("\x15version\r")
        seen = terminal.expect("gunicorn").string
        assert "reload" not in seen


def test_history_by_arrows_and_control_r_across_sessions(shell):
    with shell.terminal(role="operator", options=shell.master("operator")) as terminal:
        terminal.expect("shell_house>")
        terminal.run("workers --limit 1 --csv", "worker,pid")
        terminal.run("servers --limit 1 --csv", "name,protocol")
        terminal.settle()
        terminal.type("\x1b[A\x1b[A")  # up, up
        terminal.run("", "worker,pid")
        terminal.type("\x04")
        assert terminal.ended() == 0
    with shell.terminal(role="operator", options=shell.master("operator")) as terminal:
        terminal.expect("shell_house>")
        terminal.type("\x12servers")  # Ctrl-R
        terminal.expect("servers --limit 1 --csv")
        terminal.type("\r\r")
        terminal.expect("name,protocol")
    with shell.terminal(role="observer", options=shell.master("observer")) as terminal:
        terminal.expect("shell_house>")
        terminal.settle()
        terminal.type("\x1b[A\x1b[A")
        assert "limit" not in terminal.settle()  # another key's history
    files = [path for path in shell.keys.path.iterdir() if "history" in str(path)]
    assert files and all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_control_c_cancels_a_command_everywhere_it_runs(shell, terminal):
    terminal.type("profile cpu -s 60\r")
    shell.daemon.wait(
        lambda: [row for row in shell.rows("sessions") if row["command"].startswith("profile")],
        "the command")
    terminal.type("\x03")
    terminal.expect(r"\^C")
    terminal.expect("shell_house>", timeout=3)
    assert [row for row in shell.rows("sessions") if row["command"].startswith("profile")] == []
    assert [one["outcome"] for one in shell.audit() if one["command"] == "profile cpu -s 60"] == [
        "cancelled"]
    terminal.type("logs -f\r")
    get(shell.daemon, "/log/1")
    terminal.expect("shell_house +line 0")
    terminal.type("\x03")
    terminal.expect("shell_house>", timeout=3)
    terminal.type("half a line\x03")
    terminal.expect("shell_house>")
    terminal.run("version", "gunicorn")


def test_resize(shell, terminal):
    terminal.run("workers", "CONNECTIONS  ACCEPTED  REQUESTS  ERRORS")
    terminal.resize(80, 20)
    terminal.run("servers", r"NAME")
    for _ in range(20):
        terminal.type("tasks --limit 4\r")
        text = terminal.expect(r"WORKER(.*)\n[\w.]+>").group(1)
        if max(map(len, text.splitlines())) <= 80:
            break
    else:
        pytest.fail(text)
    assert "…" in text


def test_long_output_is_paged(terminal):
    terminal.resize(100, 20)
    terminal.type("config\r")
    terminal.expect("WORKER +SECTION.*-- more")
    terminal.type("q")
    terminal.expect("shell_house>")
    terminal.type("config\r")
    terminal.expect("-- more")
    terminal.type(" ")
    terminal.expect("-- more")
    terminal.type("a")
    terminal.expect("wsgi_app.*shell_house>")


def test_paste_of_100_kb_stalls_nobody(shell, terminal):
    began = time.monotonic()
    terminal.type("x" * 100_000)
    slowest = 0.0
    for _ in range(5):
        at = time.monotonic()
        assert shell.ssh("version", role="operator").returncode == 0
        slowest = max(slowest, time.monotonic() - at)
    terminal.type("\x03")
    terminal.expect("shell_house>")
    terminal.type("\x15")
    terminal.run("version", "gunicorn")
    assert slowest < 1.5 and time.monotonic() - began < 10
    lines = "version\n" * 3
    terminal.type(f"\x1b[200~{lines}\x1b[201~\r")
    for _ in range(3):
        terminal.expect("gunicorn")


def test_utf8(terminal):
    terminal.run("héllo→世界", "'héllo→世界': no such command")
    terminal.type("greet 世界 --csv\r")
    terminal.expect("hello 世界,")


def test_colours_respect_the_terminal_and_no_color(shell):
    shared = shell.master("admin")
    coloured = r"\x1b\[[0-9;]*3[0-7]m"
    for options, keywords in (
        (shared, {}), (shared, {"term": "dumb"}), (["-o", "SetEnv=NO_COLOR=1"], {}),
    ):
        with shell.terminal(options=options, **keywords) as terminal:
            while "shell_house>" not in terminal.text:
                terminal.wait()
            terminal.type("workers\r")
            while terminal.text.count("serving") < 2:
                terminal.wait()
            assert bool(re.search(coloured, terminal.raw)) is (options is shared and not keywords)
            if "term" in keywords:
                assert "\x1b" not in terminal.raw


def test_one_command_on_a_terminal(shell):
    with shell.terminal("workers --limit 1", options=shell.master("admin")) as terminal:
        assert terminal.ended() == 0
        assert "\r\n" in terminal.raw and "serving" in terminal.text
    with shell.terminal("watch 0.2 workers", options=shell.master("admin")) as terminal:
        terminal.expect("serving.*every 0.2 s.*serving")
        terminal.type("\x03")
        assert terminal.ended() == 130
    with shell.terminal("reload", role="observer",
                        options=shell.master("observer")) as terminal:
        assert terminal.ended() == 126


def test_top(shell, terminal):
    with shell.daemon.connect("echo") as sock:
        sock.sendall(b"x")
        sock.recv(1)
        terminal.type("top\r")
        terminal.expect("q quit")
        terminal.expect(r"1\.1.*2\.1.*echo.*http")
        terminal.type("\x1b[B\r")  # down, open
        terminal.expect(r"worker 2\.1.*connections.*stack")
        terminal.type("\x1b")
        terminal.settle()
        terminal.type("\t\r")
        terminal.expect(r"server (echo|http)")
        terminal.type("q")
        terminal.expect("shell_house>")
    terminal.run("version", "gunicorn")


def test_python_in_a_worker(shell, terminal):
    terminal.type("python 1\r")
    terminal.expect(">>>")
    terminal.type("container.worker.name\r")
    terminal.expect(r"'1\.1'")
    terminal.type("await asyncio.sleep(0, 'slept')\r")
    terminal.expect("'slept'")
    terminal.type("for number in range(3):\rprint(number * 111)\r\r")
    terminal.expect("111.*222")
    terminal.type("container.fam\t")
    terminal.settle()
    terminal.type("\r")
    terminal.expect("the-parent")
    terminal.type("1/0\r")
    terminal.expect("ZeroDivisionError")
    terminal.type("await asyncio.sleep(60)\r")
    shell.daemon.wait(
        lambda: [row for row in shell.rows("tasks") if "<shell>:1" in row["where"]],
        "the evaluation", timeout=5)
    terminal.type("\x03")
    terminal.expect(">>>")
    shell.daemon.wait(
        lambda: not [row for row in shell.rows("tasks") if "<shell>" in row["where"]],
        "the evaluation's end")
    terminal.type("'still' + ' here'\r")
    terminal.expect("'still here'")
    terminal.type("\x04")
    terminal.expect("shell_house>")
    done = shell.ssh("python", "1", "'1 + 1'", role="operator")
    assert done.returncode == 126
    done = shell.ssh("python", "2", "'container.worker.name'", "--json")
    assert done.returncode == 0 and "2.1" in done.stdout
    sources = [one["command"] for one in shell.audit() if one["event"] == "python"]
    assert any("asyncio.sleep(60)" in one for one in sources)
    assert any("1/0" in one for one in sources)


def typed(shell, since, user):
    """What was audited of that user's prompts since then, in order."""
    return [one["command"] for one in shell.audit() if one["time"] >= since
            and one["user"] == user and one["event"] in ("command", "python")]


def test_two_operators_at_once(shell):
    since = time.time()
    with shell.terminal(role="observer") as observer, shell.terminal(role="admin") as admin:
        observer.expect("shell_house>")
        admin.expect("shell_house>")
        for one, other in zip("scale 3", "versio ", strict=True):
            observer.type(one)
            admin.type(other.strip())
        observer.expect("scale ?3")  # a space that is drawn by itself is a move of the cursor
        admin.run("n", "gunicorn")  # the admin's Enter runs the admin's line
        assert "scale" not in admin.seen_at_all
        observer.run("", "scale: needs role operator; observer@test has role observer")
        for terminal in (observer, admin):
            terminal.type("top\r")
        for terminal in (observer, admin):
            terminal.expect("q quit.*echo")
        observer.type("q")
        observer.expect("shell_house>")
        observer.run("mine", "'mine': no such command")
        admin.settle()
        admin.expect("▁")  # still in top, and drawn again each second
        admin.type("q")
        admin.expect("shell_house>")
        assert "mine" not in admin.seen_at_all
    assert typed(shell, since, "observer@test") == ["scale 3", "top", "mine"]
    assert typed(shell, since, "admin@test") == ["version", "top"]


def test_twenty_operators_at_once(shell):
    roles = [("observer", "operator", "admin")[number % 3] for number in range(20)]
    since = time.time()
    with contextlib.ExitStack() as stack:
        terminals = [stack.enter_context(shell.terminal(role=role, options=shell.master(role)))
                     for role in roles]

        def each(text, pattern):
            """All type their own at once, a key each in turn; then all see their own."""
            lines = [text(number) for number in range(len(terminals))]
            for position in range(max(map(len, lines))):
                for terminal, line in zip(terminals, lines, strict=True):
                    terminal.type(line[position:position + 1])
            for number, terminal in enumerate(terminals):
                terminal.expect(pattern(number), timeout=60)

        each(lambda number: "", lambda number: "shell_house>")
        each(lambda number: f"nr{number}x\r", lambda number: f"'nr{number}x': no such.*house>")
        each(lambda number: "vers\t", lambda number: "version")
        each(lambda number: f"--limit {number + 1}\r", lambda number: "gunicorn|apihour.*house>")
        begin = {"observer": ("top\r", "q quit.*echo"),
                 "operator": ("watch 5 servers\r", "every 5 s"), "admin": ("python 1\r", ">>>")}
        each(lambda number: begin[roles[number]][0], lambda number: begin[roles[number]][1])
        inside = {"observer": ("\t", "."), "operator": ("\x03", "house>"),
                  "admin": ("'nr{0}x' * 2\r", "nr{0}xnr{0}x.*>>>")}
        each(lambda number: inside[roles[number]][0].format(number),
             lambda number: inside[roles[number]][1].format(number))
        leave = {"observer": ("q", "house>"), "operator": ("nr{0}xy\x03", "house>"),
                 "admin": ("\x04", "house>")}
        each(lambda number: leave[roles[number]][0].format(number),
             lambda number: leave[roles[number]][1])
        each(lambda number: f"\x1b[200~nr{number}x pasted\nversion --json\n\x1b[201~\r",
             lambda number: f"'nr{number}x': no such command.*\\[.*gunicorn.*house>")
        for number, terminal in enumerate(terminals):
            terminal.type("exit\r")
            assert terminal.ended(60) == 0
            assert set(re.findall(r"nr\d+x", terminal.seen_at_all)) == {f"nr{number}x"}
    for role in set(roles):
        numbers = [number for number, one in enumerate(roles) if one == role]
        found = typed(shell, since, f"{role}@test")
        for number in numbers:
            mine = [f"nr{number}x", f"version --limit {number + 1}", f"nr{number}x pasted"]
            if role == "admin":
                mine.append(f"'nr{number}x' * 2")
            assert [found.count(one) for one in mine] == [1] * len(mine)
        special = {"observer": "top", "operator": "watch 5 servers", "admin": "python 1"}[role]
        assert found.count(special) == len(numbers)
        assert len(found) == len(numbers) * (7 if role == "admin" else 6)


def test_control_c_in_a_line_that_blocks_answers_at_once(shell, terminal):
    terminal.type("python 2\r")
    terminal.expect(">>>")
    terminal.type("import time; time.sleep(8); 'woke'\r")
    shell.daemon.wait(
        lambda: [row for row in shell.rows("workers") if row["state"].startswith("stuck")],
        "the block", timeout=20)
    terminal.type("\x03")
    began = time.monotonic()
    terminal.expect(r"still runs in worker 2.*>>>", timeout=20)
    assert time.monotonic() - began < 4
    terminal.run_python("1 + 1", "worker 2.1: the loop has been blocked|2\n")
    shell.daemon.wait(
        lambda: not [row for row in shell.rows("workers") if row["state"].startswith("stuck")],
        "its end", timeout=20)
    terminal.run_python("'free' + ' again'", "'free again'")
    terminal.type("await asyncio.sleep(60)\r")
    shell.daemon.wait(
        lambda: [row for row in shell.rows("tasks") if "<shell>:1" in row["where"]],
        "the evaluation", timeout=20)
    terminal.type("\x03")
    terminal.expect("interrupted.*>>>")
    terminal.type("\x04")
    terminal.expect("shell_house>")


def test_watch_over_the_local_socket_gives_the_screen_back(shell):
    command = [sys.executable, "-m", "apihour", "ctl", "watch", "0.2", "workers"]
    where = {"APIHOUR_RUNTIME_DIR": str(shell.daemon.directory)}
    with Terminal(command, env=where, columns=80, rows=10) as terminal:
        while terminal.text.count("every 0.2 s") < 2:
            terminal.wait(30)
        terminal.type("\x03")
        assert terminal.ended(30) == 130
        assert terminal.raw.count("\x1b[?1049h") == terminal.raw.count("\x1b[?1049l") == 1
        seen = terminal.raw.partition("\x1b[?1049h")[2].partition("\x1b[?1049l")[0]
        assert all(look.count("\n") < 10 for look in seen.split("\x1b[H"))


def test_80_columns_are_enough(shell):
    with shell.terminal(options=shell.master("admin"), columns=80, rows=24) as terminal:
        terminal.expect("shell_house>")
        for line, pattern in (("workers", "WORKER"), ("help workers", "usage"), ("help", "help")):
            terminal.type(line + "\r")
            terminal.expect(pattern + r".*(shell_house>|-- more)", timeout=30)
            if "-- more" in terminal.settle():
                terminal.type("q")
                terminal.expect("shell_house>")
        seen = re.sub(r"-- more.*?--", "\n", terminal.seen_at_all)  # painted, not in a line
        for row in seen.splitlines():
            assert len(row) <= 80 or "shell_house>" in row, row


def test_what_is_typed_for_a_worker_that_dies_meanwhile_stays_pythons(shell, terminal):
    since = time.time()
    terminal.type("python 2\r")
    terminal.expect(">>>")
    terminal.type("import os, time; time.sleep(1); os.kill(os.getpid(), 9)\r'an' * 2\rversion\r")
    terminal.expect("worker 2.*>>>.*version.*>>>", timeout=60)
    shell.daemon.wait(lambda: shell.daemon.log.count("Worker 2.1 ready") == 2, "the next one")
    terminal.run_python("'ba' + 'nana'", "'banana'")
    terminal.type("\x04")
    terminal.expect("shell_house>")
    mine = [one for one in shell.audit() if one["time"] >= since and one["user"] == "admin@test"]
    assert [one["command"] for one in mine if one["event"] == "command"] == ["python 2"]
    assert [one["command"] for one in mine if one["event"] == "python"][1:] == [
        "'an' * 2", "version", "'ba' + 'nana'"]

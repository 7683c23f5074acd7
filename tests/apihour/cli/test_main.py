"""The command ``apihour``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apihour.cli import main as cli
from apihour.errors import ApihourError, UsageError
from apihour.version import __version__
from apihour_console.faces import local_client

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["help"]])
def test_help(words: list[str], capsys: Captured) -> None:
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: apihour [run] module:Container")
    assert err == ""


def test_help_names_every_command() -> None:
    for name in cli._COMMANDS:
        assert f"apihour {name}" in cli.USAGE or name == "run"


@pytest.mark.parametrize("words", [["-v"], ["--version"], ["version"]])
def test_version(words: list[str], capsys: Captured) -> None:
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"apihour {__version__}\n"


def test_nothing_asked_for(capsys: Captured) -> None:
    assert cli.main([]) == 2
    assert capsys.readouterr().err.startswith("usage: ")


@pytest.mark.parametrize("words", [["protocols"], ["run", "--help"], ["--help"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_has_read_enough_is_no_error(words: list[str], unbuffered: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "apihour", *words], stdout=write, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, timeout=60, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def run_with(monkeypatch: pytest.MonkeyPatch, **commands: Any) -> None:
    monkeypatch.setattr(cli, "_COMMANDS", {**cli._COMMANDS, **commands})


def test_a_command_gets_the_words_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[str]] = []
    run_with(monkeypatch, check=lambda words: heard.append(words) or 7)
    assert cli.main(["check", "hello:Container", "-w", "2"]) == 7
    assert heard == [["hello:Container", "-w", "2"]]


@pytest.mark.parametrize(("words", "passed"), [
    (["--json"], ["upgrade", "--json"]),
    (["--instance", "web", "--json"], ["--instance", "web", "upgrade", "--json"]),
    (["--instance=web"], ["--instance=web", "upgrade"]),
    (["--instance"], ["--instance"]),
])
def test_upgrade_is_a_command_of_ctl_under_its_own_name(
    words: list[str], passed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(local_client, "run", lambda *given: heard.append(given) or 7)
    assert cli.main(["upgrade", *words]) == 7
    assert heard == [(passed, "upgrade")]


@pytest.mark.parametrize(("command", "about"), [
    ("run", "Serve it, on every CPU"), ("dev", "One worker, started again on every change"),
    ("check", "Say what would be served where, and refuse what a start would refuse"),
])
def test_help_of_a_command_says_what_it_does(
    command: str, about: str, capsys: Captured
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.split("\n\n")[1].startswith(about)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_of_protocols(option: str, capsys: Captured) -> None:
    assert cli.main(["protocols", option]) == 0
    assert capsys.readouterr().out.startswith("usage: apihour protocols\n\nThe plugins")


@pytest.mark.parametrize("command", ["ctl", "upgrade"])
def test_help_without_a_daemon_says_how_it_is_called(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path
) -> None:
    monkeypatch.setenv("APIHOUR_RUNTIME_DIR", str(tmp_path))
    assert cli.main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: apihour {command} [--instance NAME]")
    assert "no daemon is running" in out and not err


@pytest.mark.parametrize("command", ["ctl", "upgrade"])
def test_what_fails_is_called_as_it_was_typed(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path
) -> None:
    monkeypatch.setenv("APIHOUR_RUNTIME_DIR", str(tmp_path))
    assert cli.main([command, "--instance", "web", "workers"]) == 1
    assert capsys.readouterr().err == (
        f"apihour {command}: no daemon 'web' in {tmp_path}/apihour-{os.getuid()}; running: none\n")


@pytest.mark.parametrize("words", [["hello:Container"], ["run", "hello:Container"],
                                   ["--workers", "2", "hello:Container"]])
def test_run_may_be_left_out(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[str]] = []
    monkeypatch.setattr(cli, "_run", lambda words: heard.append(words) or 0)
    run_with(monkeypatch, run=cli._run)
    assert cli.main(words) == 0
    assert heard == [[word for word in words if word != "run"]]


@pytest.mark.parametrize("words", [["chekc"], ["chekc", "hello:Container", "-w", "2"]])
def test_a_misspelt_command_lists_the_commands(words: list[str], capsys: Captured) -> None:
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert err == ("apihour: error: 'chekc': expected module:Container or one of "
                   "check, completion, ctl, dev, explain, keys, new, protocols, run, upgrade\n")


class Broken(ApihourError):
    detail = "Traceback of another process\n"


@pytest.mark.parametrize(("error", "status"), [(Broken("it is broken"), 1),
                                               (UsageError("what?"), 2)])
def test_an_error_is_one_line_and_a_status(
    error: ApihourError, status: int, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def fail(words: list[str]) -> int:
        raise error

    run_with(monkeypatch, check=fail)
    assert cli.main(["check", "x:y"]) == status
    assert capsys.readouterr().err == f"apihour: error: {error}\n"


def test_debug_shows_both_tracebacks(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def fail(words: list[str]) -> int:
        raise Broken("it is broken")

    run_with(monkeypatch, check=fail)
    assert cli.main(["check", "x:y", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "Traceback of another process" in err
    assert err.endswith("apihour: error: it is broken\n")


def test_control_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    run_with(monkeypatch, check=interrupted)
    assert cli.main(["check", "x:y"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["run", "check", "dev", "protocols"])
def test_what_gunicorn_would_trip_over_is_named(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    assert cli.main([command, *(["x:y"] if command != "protocols" else [])]) == 1
    assert capsys.readouterr().err == (
        "apihour: error: WEB_CONCURRENCY: 'many'; expected a number from 1 to 128 "
        "(apihour explain ConfigurationError)\n")


def test_an_empty_web_concurrency_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", " ")
    assert cli.main(["protocols"]) == 0
    assert "WEB_CONCURRENCY" not in os.environ


def test_protocols_takes_no_arguments(capsys: Captured) -> None:
    assert cli.main(["protocols", "please"]) == 2
    assert "takes no arguments, got 'please'" in capsys.readouterr().err


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "apihour", "run", "--help"], capture_output=True, text=True,
        cwd=tmp_path, env={**os.environ, "COLUMNS": "80"}, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for option in ("--bind", "--workers", "--console", "--canary", "--keys", "--timeout"):
        assert option in done.stdout
    assert "--worker-class" not in done.stdout  # refused: nobody can give it

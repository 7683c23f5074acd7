"""Completion of the command, tried in a real bash; zsh and fish at least read their scripts."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from apihour.cli.completion_scripts import completed_options
from apihour.cli.main import commands, main
from apihour.cli.new.making import PARTS
from apihour.config.settings import HostConfig
from apihour_console.keys.command import run as keys


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", "bash"]) == 0
    return capsys.readouterr().out


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with applications, and with what is none."""
    (tmp_path / "hello.py").write_text("class Container(apihour.Container):\n    pass\n")
    (tmp_path / "other.py").write_text("x = 1\n")
    (tmp_path / "$(touch owned).py").write_text("class Container:\n")
    (tmp_path / "a * b.py").write_text("class Container:\n")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "container.py").write_text("class Container(Base):\n    pass\n")
    (tmp_path / "ctl").write_text("#!/bin/sh\necho '  workers   Workers'\necho '  jobs  Jobs'\n")
    (tmp_path / "ctl").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complete(script: str, line: str) -> set[str]:
    """What bash offers for that line, with the cursor at its end."""
    program = f"""{script}
    COMP_LINE={shlex.quote(line)} COMP_POINT={len(line.encode())}
    _apihour
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    return set(done.stdout.split("\n")) - {""}


@pytest.mark.parametrize(("line", "offered"), [
    ("apihour ch", {"check"}),
    ("apihour c", {"check", "completion", "ctl"}),
    ("apihour h", {"hello:Container"}),
    ("apihour hello:C", {"Container"}),  # bash begins a word after the colon
    ("apihour check s", {"shop:Container"}),
    ("apihour run --log-level ", {"debug", "info", "warning", "error", "critical"}),
    ("apihour hello:Container --log-level=w", {"warning"}),
    ("apihour hello:Container --workers ", set()),
    ("apihour hello:Container --cana", {"--canary", "--canary-time", "--canary-errors"}),
    ("apihour dev hello:Container --chdir s", {"shop"}),
    ("apihour dev hello:Container -c ot", {"other.py"}),
    ("apihour dev hello:Container --config=ot", {"other.py"}),
    ("apihour completion ", {"bash", "zsh", "fish"}),
    ("apihour keys a", {"add"}),
    ("apihour new shop --w", {"--with"}),
    ("apihour new shop --with s", {"ssh"}),
    ("apihour keys --role o", {"observer", "operator"}),
    ("./ctl ctl ", {"workers", "jobs"}),
    ("./ctl ctl j", {"jobs"}),
])
def test_in_bash(script: str, place: Path, line: str, offered: set[str]) -> None:
    assert complete(script, line) == offered


def test_every_command_and_target_is_offered_and_nothing_runs(script: str, place: Path) -> None:
    offered = complete(script, "apihour ")
    assert offered >= {*commands(), "ctl", "keys", "upgrade", "hello:Container", "shop:Container"}
    assert not [one for one in offered if "touch" in one or "other" in one]
    assert not (place / "owned").exists()


def test_every_option_of_the_table_but_those_refused(script: str, place: Path) -> None:
    offered = complete(script, "apihour run -")
    told = HostConfig("x", prog="apihour").parser().format_help()
    assert offered == {name for one in completed_options() for name in one.names
                       if name.startswith("--")}
    assert all(name in told for name in offered)
    assert "--bind" in offered and "--preload" not in offered
    kinds = {name: one.kind for one in completed_options() for name in one.names}
    assert (kinds["--daemon"], kinds["--keys"], kinds["--certfile"], kinds["--bind"]) == (
        "flag", "dir", "file", "value")


def test_words_of_keys_are_those_it_takes(script: str, place: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        keys(["--help"])
    assert "|".join(("list", "add", "remove", "rotate-host", "fleet")) in capsys.readouterr().out
    assert complete(script, "apihour keys ") == {"list", "add", "remove", "rotate-host", "fleet"}


def test_parts_of_new_are_those_it_takes(script: str, place: Path) -> None:
    assert complete(script, "apihour new shop --with ") == set(PARTS)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_another_shell_reads_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    made = capsys.readouterr().out
    assert "--bind" in made or "-l bind" in made
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here to read it")
    done = subprocess.run([shell, "-n", "/dev/stdin"], input=made, capture_output=True, text=True,
                          timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["tcsh"], [], ["bash", "zsh"]])
def test_another_word_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", *words]) == 2
    assert "expected bash, zsh, fish" in capsys.readouterr().err


def test_its_help_says_where_a_script_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "--help"]) == 0
    assert "~/.config/fish/completions/apihour.fish" in capsys.readouterr().out

"""Commands and the console process, found where packages say that they bring them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from apihour import installed
from apihour.cli import brought
from apihour.cli import main as cli
from apihour.cli.brought import COMMANDS, command_names, find_command
from apihour.errors import PluginError
from apihour.installed import CONSOLE, console_module


@pytest.fixture(autouse=True)
def _found_anew() -> Iterator[None]:
    console_module.cache_clear()
    yield
    console_module.cache_clear()


def bring(monkeypatch: pytest.MonkeyPatch, *entries: EntryPoint) -> None:
    for module in (brought, installed):
        monkeypatch.setattr(
            module, "entry_points", lambda **which: EntryPoints(entries).select(**which))


def hello(words: list[str]) -> int:
    return len(words)


def entry(name: str, value: str, group: str = COMMANDS) -> EntryPoint:
    return EntryPoint(name, value, group)


def test_what_this_project_brings_itself() -> None:
    """Fails in an environment that is older than the entry points: install it again."""
    assert command_names() == ["ctl", "keys", "upgrade"]
    assert all(callable(find_command(name)) for name in command_names())
    assert console_module() == "apihour_console"
    for name in command_names():
        assert f"apihour {name} " in cli.USAGE


def test_a_command_of_another_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bring(monkeypatch, entry("hello", f"{__name__}:hello"))
    assert cli.main(["hello", "a", "b"]) == 2
    assert cli.main(["helo"]) == 2
    known = "check, completion, dev, explain, hello, new, protocols, run"
    assert f"one of {known}" in capsys.readouterr().err


def test_a_word_that_is_no_command_is_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, entry("hello", f"{__name__}:hello"), entry("a:b", f"{__name__}:hello"))
    heard: list[Any] = []
    monkeypatch.setattr(cli, "_run", lambda words: heard.append(words) or 0)
    assert cli.main(["a:b"]) == cli.main(["other", "-w", "1"]) == 0
    assert heard == [["a:b"], ["other", "-w", "1"]]


def test_one_of_apihours_own_commands_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, entry("check", f"{__name__}:hello"))
    monkeypatch.setattr(cli, "_COMMANDS", {"check": lambda words: 7})
    assert cli.main(["check"]) == 7


def test_one_that_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bring(monkeypatch, entry("hello", "no_such_module_here:run"))
    assert cli.main(["hello"]) == 1
    err = capsys.readouterr().err
    assert "command 'hello': no_such_module_here:run cannot be loaded: ModuleNotFound" in err
    assert err.count("\n") == 1


def test_two_of_a_name_are_named_both(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, entry("hello", "one:run"), entry("hello", "two:run"))
    with pytest.raises(PluginError, match=r"'hello' of the .*: one:run and two:run; expected one"):
        find_command("hello")


def test_one_that_is_found_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a checkout that is installed, too, is."""
    bring(monkeypatch, *[entry("hello", f"{__name__}:hello")] * 2)
    assert find_command("hello") is hello


def test_without_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch)
    with pytest.raises(PluginError, match="expected an entry point 'process' of the group "
                                          f"'{CONSOLE}'; install apihour anew, or use --no-con"):
        console_module()


def test_the_console_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade of the package moves the files under a daemon that must start it again."""
    bring(monkeypatch, entry("process", "my_console", CONSOLE))
    assert console_module() == "my_console"
    bring(monkeypatch)
    assert console_module() == "my_console"

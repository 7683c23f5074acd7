"""The configuration in force is one value: swapped whole, or not at all."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apihour.app.examine import examine
from apihour.config.application import HostApplication
from apihour.errors import ConfigurationError


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A working directory of its own, and an interpreter path that is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in os.environ if name.startswith(("APIHOUR_BIND", "GUNICORN"))]:
        monkeypatch.delenv(name)
    yield tmp_path


def in_force(app: HostApplication) -> list[Any]:
    """Everything that a reading could have changed."""
    return [app.configuration, app.cfg, app.target, app.cfg.timeout, os.getcwd(), list(sys.path)]


@pytest.mark.parametrize("again", [
    HostApplication.reload, HostApplication.read, examine,
], ids=["reload", "read", "examine"])
def test_a_reading_that_is_refused_leaves_nothing(directory: Path, again: Any) -> None:
    (directory / "inner").mkdir()
    conf = directory / "conf.py"
    conf.write_text("timeout = 5\n")
    words = ["hello:Container", "-c", str(conf), "--no-console"]
    app = HostApplication(words)
    before = in_force(app)
    conf.write_text(f"chdir = {str(directory / 'inner')!r}\npythonpath = '/other/release'\n"
                    "bind = 'http=:2'\nhealth = ':9'\ntimeout = 6\ncanary = 'last and wrong'\n")
    with pytest.raises(ConfigurationError, match="setting canary"):
        again(app)
    assert in_force(app) == before


def test_a_refusal_of_the_whole_leaves_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every value was good, and read, when it comes."""
    conf = directory / "conf.py"
    conf.write_text("timeout = 5\n")
    app = HostApplication(["hello:Container", "-c", str(conf)])
    before = in_force(app)
    conf.write_text("timeout = 6\npythonpath = '/other/release'\nbind = 'http=:2'\n")

    def refuse(cfg: object) -> None:
        raise ValueError("together they cannot be")

    monkeypatch.setattr("apihour.config.settings.HostConfig.validate", refuse)
    with pytest.raises(ConfigurationError, match="together they cannot be"):
        app.reload()
    assert in_force(app) == before


def test_a_reading_is_used_when_somebody_says_so(directory: Path) -> None:
    inner = directory / "inner"
    inner.mkdir()
    conf = directory / "conf.py"
    conf.write_text("timeout = 5\n")
    app = HostApplication(["hello:Container", "-c", str(conf)])
    before = in_force(app)
    conf.write_text(f"timeout = 6\nchdir = {str(inner)!r}\nbind = 'http=:2'\n")
    fresh = app.read()
    assert in_force(app) == before
    old = app.configuration
    app.use(fresh)
    assert app.configuration is fresh
    assert (app.cfg.timeout, app.configuration.bind_levels) == (6, (("http=:2",),))
    assert os.getcwd() == str(inner)
    assert sys.path[0] == str(inner)
    app.use(old)
    assert in_force(app) == before


def test_what_was_read_does_not_change() -> None:
    found = HostApplication(["hello:Container"]).configuration
    for one in dataclasses.fields(found):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(found, one.name, None)
        assert isinstance(getattr(found, one.name), str | tuple | type(found.cfg) | None)
    with pytest.raises(TypeError, match="setting timeout: 9; expected it where the configuration"):
        found.cfg.set("timeout", 9)
    assert found.cfg.timeout == 30


def test_what_the_configuration_puts_into_the_environment_is_no_source(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = HostApplication(["hello:Container", "--env", "APIHOUR_BIND_HTTP=:7"])
    for name, value in app.cfg.env.items():  # as a worker, and the arbiter at its start
        monkeypatch.setenv(name, value)
    app.reload()
    assert app.configuration.bind_levels == ()
    assert "APIHOUR_BIND_HTTP" not in app.cfg.env_orig


def test_another_release_is_entered_by_its_reading_only(directory: Path) -> None:
    release = directory / "earlier"
    release.mkdir()
    app = HostApplication(["hello:Container"])
    there = app.read(str(release))
    assert (there.directory, there.release, there.paths[0]) == (str(release),) * 3
    assert os.getcwd() == str(directory)
    app.use(there)
    app.reload()  # stays there
    assert os.getcwd() == str(release)


def test_a_configuration_is_entered_for_a_while(directory: Path) -> None:
    (directory / "inner").mkdir()
    (directory / "conf.py").write_text("")
    app = HostApplication(["hello:Container", "-c", str(directory / "conf.py")])
    before = in_force(app)
    (directory / "conf.py").write_text(f"chdir = {str(directory / 'inner')!r}\n")
    with pytest.raises(RuntimeError), app.read().entered():
        assert os.getcwd() == sys.path[0] == str(directory / "inner")
        raise RuntimeError
    assert in_force(app) == before

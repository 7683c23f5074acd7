"""One daemon's configuration from every source, in order."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from apihour.app.examine import examine
from apihour.cli.run import run
from apihour.config.application import HostApplication
from apihour.errors import ApihourError, ConfigurationError, UsageError
from tests.apihour.loggers import loggers

__all__ = ["loggers"]


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A working directory of its own, and an interpreter path that is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in os.environ if name.startswith(("APIHOUR_BIND", "GUNICORN"))]:
        monkeypatch.delenv(name)
    yield tmp_path


def binds(app: HostApplication, declared: dict[str, list[str]]) -> dict[str, list[str]]:
    binds = app.configuration.resolve(declared)
    return {name: [str(a) for a in found] for name, found in binds.items()}


def tree(directory: Path, name: str = "hello", **options: str) -> None:
    path = directory / "etc" / name / "api_hour"
    path.mkdir(parents=True)
    (path / "gunicorn_conf.py").write_text("".join(f"{k} = {v}\n" for k, v in options.items()))


def test_every_source_overrides_the_one_before(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = {"http": ["127.0.0.1:1"]}
    order: list[str] = []
    assert binds(HostApplication(["hello:Container"]), declared) == declared

    tree(directory, bind="'http=:2'", timeout="2")
    (directory / "other.py").write_text("bind = ['http=:3']\ntimeout = 3\n")
    app = HostApplication(["hello:Container", "-ac"])
    order.append(f"{binds(app, declared)['http'][0]} {app.cfg.timeout}")

    words = ["hello:Container", "-ac", "-c", "other.py"]
    app = HostApplication(words)
    order.append(f"{binds(app, declared)['http'][0]} {app.cfg.timeout}")

    monkeypatch.setenv("GUNICORN_CMD_ARGS", "-b http=:4 --timeout 4")
    app = HostApplication(words)
    order.append(f"{binds(app, declared)['http'][0]} {app.cfg.timeout}")

    monkeypatch.setenv("APIHOUR_BIND_HTTP", ":5")
    app = HostApplication(words)
    order.append(f"{binds(app, declared)['http'][0]} {app.cfg.timeout}")

    app = HostApplication([*words, "-b", "http=:6", "--timeout", "6"])
    order.append(f"{binds(app, declared)['http'][0]} {app.cfg.timeout}")
    assert order == ["0.0.0.0:2 2", "0.0.0.0:3 3", "0.0.0.0:4 4", "0.0.0.0:5 4", "0.0.0.0:6 6"]


def test_binds_of_one_source_add_up(directory: Path) -> None:
    app = HostApplication(["hello:Container", "-b", "http=:1", "-b", "http=:2", "-b", "echo=:3"])
    assert binds(app, {"http": [":9"], "echo": [":8"]}) == {
        "http": ["0.0.0.0:1", "0.0.0.0:2"], "echo": ["0.0.0.0:3"]}


@pytest.mark.parametrize(("words", "message"), [
    ([], "expected one target, module:Container; got none"),
    (["a:b", "c:d"], "got a:b c:d"),
])
def test_there_is_one_target(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        HostApplication(words)


def test_a_wrong_target_is_told_before_anything_is_read() -> None:
    with pytest.raises(ApihourError, match=r"target 'hello\.py': expected module:Container"):
        HostApplication(["hello.py", "-c", "missing.py"])


def test_auto_config_goes_by_the_name_of_the_application(directory: Path) -> None:
    tree(directory, "hello", timeout="5")
    app = HostApplication(["hello.main:Container", "-ac"])
    found = app.configuration.tree
    assert found is not None and found.path == directory / "etc" / "hello"
    assert app.cfg.timeout == 5
    assert app.cfg.proc_name == "hello"


def test_config_dir_over_auto_config(directory: Path) -> None:
    tree(directory, "hello", timeout="5")
    tree(directory, "other", timeout="6")
    app = HostApplication(["hello:Container", "-ac", "--config_dir", "etc/other"])
    assert app.cfg.timeout == 6


def test_the_trees_logging_file_is_used(directory: Path) -> None:
    tree(directory)
    path = directory / "etc" / "hello" / "api_hour" / "logging.ini"
    path.write_text("[loggers]\nkeys=root\n")
    app = HostApplication(["hello:Container", "-ac"])
    assert app.cfg.logconfig == str(path)


def test_the_containers_configuration(directory: Path) -> None:
    tree(directory)
    assert HostApplication(["hello:Container", "-ac"]).configuration.container_config() == {}
    main = directory / "etc" / "hello" / "main"
    main.mkdir()
    (main / "main.json").write_text('{"greeting": "salut"}')
    app = HostApplication(["hello:Container", "-ac"])
    assert app.configuration.container_config() == {"greeting": "salut"}
    (main / "main.json").write_text('{"greeting": "ciao"}')
    assert app.configuration.container_config() == {"greeting": "ciao"}
    assert HostApplication(["hello:Container"]).configuration.container_config() == {}


@pytest.mark.parametrize(("text", "message"), [
    ("timeout = 'x'\n", "setting timeout (--timeout): "),
    ("x = 1\nx = 1 / 0\n", "conf.py:2: x = 1 / 0: ZeroDivisionError"),
    ("x = 1\ndef broken(:\n", "'conf.py': conf.py:2: SyntaxError: invalid syntax"),
    ("import sys\nsys.exit(0)\n", "conf.py:2: sys.exit(0): SystemExit: 0"),
    ("bind = 'nope'\n", "'nope'"),
])
def test_a_bad_file_is_one_line(
    directory: Path, text: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (directory / "conf.py").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        HostApplication(["hello:Container", "-c", "conf.py"])
    assert str(caught.value).startswith("config file 'conf.py': ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file() -> None:
    with pytest.raises(ConfigurationError, match=r"config file 'no\.py': expected an existing"):
        HostApplication(["hello:Container", "-c", "no.py"])


def test_a_configuration_module_is_read_anew(directory: Path) -> None:
    (directory / "conf_module.py").write_text("timeout = 5\n")
    app = HostApplication(["hello:Container", "-c", "python:conf_module"])
    assert app.cfg.timeout == 5
    (directory / "conf_module.py").write_text("timeout = 55\n")
    app.reload()
    assert app.cfg.timeout == 55
    with pytest.raises(ConfigurationError, match=r"'python:conf_missing': expected a module th"):
        HostApplication(["hello:Container", "-c", "python:conf_missing"])
    with pytest.raises(ConfigurationError, match=r"'python:no.conf': expected a module that"):
        HostApplication(["hello:Container", "-c", "python:no.conf"])
    (directory / "pack").mkdir()
    (directory / "pack" / "__init__.py").write_text("import not_there\n")
    with pytest.raises(ConfigurationError, match=r"pack/__init__.py:1: import not_there: Module"):
        HostApplication(["hello:Container", "-c", "python:pack.conf"])
    (directory / "conf_module.py").write_text("timeout = 5\nthis one wrong\n")
    with pytest.raises(ConfigurationError, match=r"conf_module.py:2: SyntaxError: invalid syntax"):
        HostApplication(["hello:Container", "-c", "python:conf_module"])


def test_unknown_names_in_a_file_are_the_users_own(directory: Path) -> None:
    (directory / "conf.py").write_text("import os\nmine = 1\ntimeout = 7\n")
    assert HostApplication(["hello:Container", "-c", "conf.py"]).cfg.timeout == 7


def test_a_failed_reload_changes_nothing(directory: Path) -> None:
    conf = directory / "conf.py"
    conf.write_text("timeout = 5\nbind = 'http=:1'\n")
    app = HostApplication(["hello:Container", "-c", "conf.py"])
    before = app.cfg
    conf.write_text("bind = 'http=:2'\ntimeout = 'x'\n")
    with pytest.raises(ConfigurationError):
        app.reload()
    assert app.cfg is before
    assert binds(app, {"http": [":9"]}) == {"http": ["0.0.0.0:1"]}
    conf.write_text("timeout = 6\n")
    app.reload()
    assert app.cfg is not before
    assert app.cfg.timeout == 6
    assert binds(app, {"http": [":9"]}) == {"http": ["0.0.0.0:9"]}


def test_chdir_is_where_everything_is_looked_for(directory: Path) -> None:
    inner = directory / "inner"
    inner.mkdir()
    (inner / "conf.py").write_text("timeout = 8\n")
    app = HostApplication(["hello:Container", "--chdir", str(inner), "-c", "conf.py"])
    assert app.cfg.timeout == 8
    assert Path.cwd() == inner
    assert sys.path[0] == str(inner)


def test_a_relative_chdir_is_the_same_after_a_reload(directory: Path) -> None:
    (directory / "inner").mkdir()
    app = HostApplication(["hello:Container", "--chdir", "inner"])
    app.reload()
    assert Path.cwd() == directory / "inner"
    assert app.cfg.chdir == str(directory / "inner")


def test_a_failed_read_leaves_the_directory_alone(directory: Path) -> None:
    (directory / "inner").mkdir()
    (directory / "conf.py").write_text("")
    conf = str(directory / "conf.py")
    app = HostApplication(["hello:Container", "--chdir", "inner", "-c", conf])
    (directory / "conf.py").write_text("workers = 'none'\n")
    with pytest.raises(ConfigurationError):
        app.reload()
    assert Path.cwd() == directory / "inner"


def test_chdir_to_nowhere() -> None:
    with pytest.raises(ConfigurationError, match="/no/such/place"):
        HostApplication(["hello:Container", "--chdir", "/no/such/place"])


def test_pythonpath_is_put_on_the_path(directory: Path) -> None:
    HostApplication(["hello:Container", "--pythonpath", "/x/one,/x/two"])
    assert {"/x/one", "/x/two"} <= set(sys.path)


def test_examine_reports_the_binds_of_the_class(directory: Path, loggers: None) -> None:
    (directory / "examined_app.py").write_text(
        "import apihour\n"
        "class Container(apihour.Container):\n"
        "    binds = {'http': ':1', 'echo': ['unix:@x', ':2']}\n"
    )
    app = HostApplication(["examined_app:Container"])
    try:
        assert examine(app) == {"http": [":1"], "echo": ["unix:@x", ":2"]}
    finally:
        sys.modules.pop("examined_app", None)


def test_print_config_prints_and_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["hello:Container", "--print-config", "--timeout", "9"])
    assert caught.value.code == 0
    assert "timeout" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.usefixtures("directory")
def test_a_directory_may_be_entered_that_cannot_be_read() -> None:
    with tempfile.TemporaryDirectory() as closed:  # not below pytest's own, which are 0700
        os.chmod(closed, 0o711)
        os.chdir(closed)
        os.seteuid(65534)
        try:
            app = HostApplication(["hello:Container"])
        finally:
            os.seteuid(0)
        assert app.directory == os.path.realpath(closed)

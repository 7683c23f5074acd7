"""The ``etc/NAME`` tree and the environment."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.config.environment import environment_binds
from apihour.config.tree import ConfigTree, server_options
from apihour.errors import ConfigurationError


def test_environment_binds() -> None:
    environ = {"APIHOUR_BIND_HTTP": ":80", "APIHOUR_BIND_ECHO": "", "APIHOUR_BIND_A_B": ":1",
               "OTHER": "x"}
    assert environment_binds(environ) == ["a_b=:1", "http=:80"]


@pytest.mark.parametrize(("name", "value", "message"), [
    ("HTTP", "nope", "APIHOUR_BIND_HTTP: 'nope'; expected HOST:PORT, "),
    ("HTTP", ":1?tsl", "APIHOUR_BIND_HTTP: ':1?tsl'; expected the options mode=OCTAL, "),
    ("", ":1", "APIHOUR_BIND_: expected the name of a server after APIHOUR_BIND_"),
    ("2", ":1", "APIHOUR_BIND_2: expected the name of a server after APIHOUR_BIND_"),
])
def test_a_variable_that_is_no_bind_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        environment_binds({f"APIHOUR_BIND_{name}": value})
    assert str(caught.value).startswith(message)


def test_nothing_asked_for_is_no_tree() -> None:
    assert ConfigTree.find("hello", None, False) is None


def test_config_dir_must_exist(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(ConfigurationError, match=r"--config_dir '.*missing': expected an existing"):
        ConfigTree.find("hello", missing, True)
    found = ConfigTree.find("hello", str(tmp_path), False)
    assert found is not None and found.path == tmp_path


def test_auto_looks_under_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"-ac: .*'hello'; looked for .*etc/hello and"):
        ConfigTree.find("hello", None, True)
    (tmp_path / "etc" / "hello").mkdir(parents=True)
    found = ConfigTree.find("hello", None, True)
    assert found is not None and found.path == tmp_path / "etc" / "hello"


def make_tree(path: Path, **files: str) -> ConfigTree:
    for name, text in files.items():
        directory, _, rest = name.partition("__")
        (path / directory).mkdir(exist_ok=True)
        (path / directory / rest.replace("_yaml", ".yaml").replace("_json", ".json").replace(
            "_py", ".py").replace("_ini", ".ini")).write_text(text)
    return ConfigTree(path)


def test_files_are_optional(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    assert (tree.options_file, tree.logging_file, tree.load()) == (None, None, {})


def test_finds_the_ancestors_files(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, api_hour__gunicorn_conf_py="", api_hour__logging_ini="")
    assert tree.options_file == tmp_path / "api_hour" / "gunicorn_conf.py"
    assert tree.logging_file == tmp_path / "api_hour" / "logging.ini"


def test_main_is_the_root_and_other_files_are_sections(tmp_path: Path) -> None:
    tree = make_tree(
        tmp_path, main__main_yaml="a: 1\nlimits: {x: 1}\n", main__limits_yaml="x: 2",
        main__extra_json='{"y": [3]}', main__empty_yaml="",
    )
    assert tree.load() == {"a": 1, "limits": {"x": 1}, "extra": {"y": [3]}, "empty": {}}


@pytest.mark.parametrize(("name", "text", "message"), [
    ("main__main_yaml", "a: [1", "expected"),
    ("main__main_yaml", "- a\n- b\n", "holds list; expected a mapping"),
    ("main__main_json", "{", "Expecting"),
])
def test_a_bad_file_is_one_line_with_its_name(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    tree = make_tree(tmp_path, **{name: text})
    with pytest.raises(ConfigurationError) as caught:
        tree.load()
    assert "main/main." in str(caught.value) and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, main__main_yaml="a: !!python/object/apply:os.getcwd []")
    with pytest.raises(ConfigurationError, match="python/object"):
        tree.load()


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "main.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match=r"main\.yaml': 'utf-8'"):
        ConfigTree(tmp_path).load()


def test_without_yaml_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    tree = make_tree(tmp_path, main__main_yaml="a: 1")
    with pytest.raises(ConfigurationError, match=r"pip install 'apihour\[standard\]'"):
        tree.load()
    (tmp_path / "main" / "main.yaml").unlink()
    assert make_tree(tmp_path, main__main_json='{"a": 1}').load() == {"a": 1}


TAKES = SimpleNamespace(protocol="http", takes_options=True)


def test_options_of_a_server_that_takes_none_are_refused() -> None:
    echo = SimpleNamespace(protocol="tcp")
    assert server_options({"servers": {"echo": {}}}, "echo", ["echo"], echo) == {}
    with pytest.raises(ConfigurationError) as caught:
        server_options({"servers": {"echo": {"nodelay": 1}}}, "echo", ["echo"], echo)
    assert str(caught.value) == (
        "servers: 'echo': 'nodelay'; expected no options, a server of tcp takes none here")


@pytest.mark.parametrize(("config", "expected"), [
    ({}, {}), ({"servers": None}, {}), ({"servers": {}}, {}), ({"servers": {"http": None}}, {}),
    ({"servers": {"echo": {"x": 1}}}, {}),
    ({"servers": {"http": {"max_body": 5}, "echo": None}}, {"max_body": 5}),
])
def test_the_options_of_one_server(config: dict[str, Any], expected: dict[str, Any]) -> None:
    assert server_options(config, "http", ["http", "echo"], TAKES) == expected


@pytest.mark.parametrize(("sections", "message"), [
    ({"htp": {"max_body": 5}}, "servers: 'htp': expected one of http, echo"),
    (5, "servers: 5; expected a mapping of server name to options"),
    ([], "servers: []; expected a mapping of server name to options"),
    ({"http": 5}, "servers: 'http': 5; expected a mapping of option to value"),
])
def test_options_of_no_server_are_refused(sections: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        server_options({"servers": sections}, "http", ["http", "echo"], TAKES)
    assert str(caught.value) == message

"""gunicorn's options and our own: the table, its enforcement, the validators."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from gunicorn import config as gunicorn_config

from apihour import settings
from apihour.application import HostApplication
from apihour.errors import ApihourError, ConfigurationError, UsageError
from apihour.settings import GUNICORN_SETTINGS, OWN, TABLE, HostConfig, WorkerCount

SETTINGS = {cls.name: cls for cls in GUNICORN_SETTINGS}
BY_STATUS = {
    status: sorted(name for name, verdict in TABLE.items() if verdict.status == status)
    for status in ("honoured", "replaced", "refused")
}
OWN_NAMES = {cls.name for cls in OWN}


def hook(arity: int) -> str:
    return f"lambda {', '.join(f'a{n}' for n in range(arity))}: None"


def value_for(cls: Any, tmp_path: Path) -> str:
    """A Python expression that gunicorn's own validator takes and that is no default."""
    by_name = {
        "user": repr(os.geteuid()), "group": repr(os.getegid()), "chdir": repr(str(tmp_path)),
        "raw_env": "['A=1']", "umask": "0o27", "loglevel": "'warning'",
        "logger_class": "'apihour.test.Other'", "reload_extra_files": f"[{__file__!r}]",
        "logconfig_dict": "{'version': 1}", "syslog_facility": "'local0'",
        "bind": "['127.0.0.1:1']", "workers": "3", "keepalive": "5", "worker_connections": "7",
        "default_proc_name": "'other'", "config": "'./other.conf.py'",
    }
    if cls.name in by_name:
        return by_name[cls.name]
    if cls.validator is gunicorn_config.validate_bool:
        return repr(not cls.default)
    if cls.validator is gunicorn_config.validate_pos_int:
        return "17"
    if cls.validator is gunicorn_config.validate_string:
        return "'text'"
    return hook(cls.validator.__closure__[0].cell_contents if cls.validator.__closure__ else 0)


def read(tmp_path: Path, *arguments: str, **options: str) -> HostConfig:
    file = tmp_path / "conf.py"
    file.write_text("".join(f"{name} = {text}\n" for name, text in options.items()))
    app = HostApplication(["hello:Container", "-c", str(file), *arguments])
    cfg: HostConfig = app.cfg
    return cfg


@pytest.fixture(autouse=True)
def _same_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)


def test_the_table_holds_every_setting_of_gunicorn() -> None:
    assert set(TABLE) == set(SETTINGS)


def test_no_setting_stands_in_the_table_twice() -> None:
    lists = [settings._HONOURED, list(settings._REPLACED), list(settings._REFUSED)]
    counts = Counter(name for names in lists for name in names)
    assert [name for name, count in counts.items() if count > 1] == []


def test_every_verdict_but_honoured_says_why() -> None:
    for name, verdict in TABLE.items():
        assert bool(verdict.why) == (verdict.status != "honoured"), name


def test_a_replaced_setting_is_one_of_ours_or_has_another_default() -> None:
    cfg = HostConfig()
    for name in BY_STATUS["replaced"]:
        changed = cfg.settings[name].default != SETTINGS[name].default
        assert name in OWN_NAMES or changed, name


@pytest.mark.parametrize("name", BY_STATUS["honoured"])
def test_an_honoured_setting_reaches_the_configuration(name: str, tmp_path: Path) -> None:
    cls = SETTINGS[name]
    text = value_for(cls, tmp_path)
    cfg = read(tmp_path, **{name: text})
    if name == "config":
        assert cfg.config.endswith("conf.py")  # the file that was really read
        return
    default = HostConfig().settings[name].get()
    found = cfg.settings[name].get()
    if name not in ("user", "group", "chdir", "default_proc_name"):
        assert found != default
    if name == "default_proc_name":
        assert cfg.proc_name == "other"
    elif text.startswith("lambda"):
        assert callable(found) and found.__code__.co_filename.endswith("conf.py")
    else:
        assert found == eval(text)


@pytest.mark.parametrize("name", BY_STATUS["refused"])
def test_a_refused_setting_is_refused_in_a_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, **{name: "1"})
    message = str(caught.value)
    assert message.startswith(f"config file '{tmp_path}/conf.py': setting {name}")
    assert TABLE[name].why in message
    assert "\n" not in message


ON_COMMAND_LINE = [name for name in BY_STATUS["refused"] if SETTINGS[name].cli]


def words_for(name: str) -> list[str]:
    cls = SETTINGS[name]
    words = [cls.cli[-1]]
    if cls.action not in ("store_true", "store_false", "store_const"):
        words.append("1")
    return words


@pytest.mark.parametrize("name", ON_COMMAND_LINE)
def test_a_refused_setting_is_refused_on_the_command_line(name: str) -> None:
    words = words_for(name)
    with pytest.raises(ConfigurationError) as caught:
        HostApplication(["hello:Container", *words])
    assert f"setting {name} ({words[0]}): refused: {TABLE[name].why}" in str(caught.value)


@pytest.mark.parametrize("name", ON_COMMAND_LINE)
def test_a_refused_setting_is_refused_in_the_environment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", " ".join(words_for(name)))
    with pytest.raises(ConfigurationError, match=f"setting {name} "):
        HostApplication(["hello:Container"])


OWN_VALUES: dict[str, tuple[list[str], Any]] = {
    "workers": (["2..5"], WorkerCount(2, 5)),
    "keepalive": (["5m"], 300.0),
    "worker_connections": (["9"], 9),
    "console": (["127.0.0.1:1"], "127.0.0.1:1"),
    "no_console": ([], True),
    "keys": (["other"], "other"),
    "ssh_strict": ([], True),
    "shell_python": ([], True),
    "health": (["127.0.0.1:1"], "127.0.0.1:1"),
    "certfile": (["x.pem"], "x.pem"),
    "tls_handshake_timeout": (["3"], 3.0),
    "boot_timeout": (["2"], 2.0),
    "linger": (["3"], 3.0),
    "drain_delay": (["4"], 4.0),
    "surge": (["1"], 1),
    "canary": (["1"], 1),
    "canary_time": (["6s"], 6.0),
    "canary_errors": (["7%"], 0.07),
    "max_rss": (["500M"], 500 * 2**20),
    "max_age": (["1h"], 3600.0),
    "template": ([], True),
    "config_dir": (["."], "."),
    "debug": ([], True),
}


@pytest.mark.parametrize("name", sorted(OWN_NAMES - {"bind", "auto_config"}))
def test_our_own_options_reach_the_configuration(name: str) -> None:
    assert name in OWN_VALUES, f"no example for the new option {name!r}"
    words, expected = OWN_VALUES[name]
    cls = next(cls for cls in OWN if cls.name == name)
    app = HostApplication(["hello:Container", cls.cli[-1], *words])
    assert app.cfg.settings[name].get() == expected
    assert HostConfig().settings[name].get() != expected


def test_every_option_of_ours_says_what_it_does() -> None:
    for cls in OWN:
        assert cls.desc.endswith(".") or cls.desc.endswith(")."), cls.name
        assert cls.cli, cls.name


def test_gunicorn_never_opens_a_socket_of_its_own() -> None:
    cfg = HostConfig()
    assert cfg.address == ()
    assert cfg.reuse_port is False
    assert cfg.worker_class_str == "apihour.worker.HostWorker"
    assert cfg.worker_class.__name__ == "HostWorker"


def test_workers_default_to_the_cpus_of_this_process() -> None:
    cpus = settings.available_cpus()
    assert 1 <= cpus <= len(os.sched_getaffinity(0))
    assert HostConfig().worker_count == WorkerCount(cpus, cpus)
    assert HostConfig().workers == cpus


def test_affinity_is_respected() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert settings.available_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("files", "expected"), [
    ({"/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
    ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
    ({"/sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
    ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000",
      "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 3),
    ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
      "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8),
    ({"/sys/fs/cgroup/cpu.max": "rubbish"}, 8),
    ({}, 8),
])
def test_a_cgroups_quota_is_respected(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(path: str, **_: Any) -> Any:
        found = tmp_path / path.replace("/", "_")
        if path in files:
            found.write_text(files[path])
        return found.open()

    monkeypatch.setattr(settings, "open", fake, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert settings.available_cpus() == expected


def test_web_concurrency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "7")
    assert HostConfig().worker_count == WorkerCount(7, 7)


def test_a_log_level_may_be_in_capitals(tmp_path: Path) -> None:
    assert read(tmp_path, "--log-level", "DEBUG").loglevel == "debug"


def test_linger_follows_keepalive_and_grace() -> None:
    cfg = HostConfig()
    cfg.set("graceful_timeout", 20)
    assert cfg.worker_linger == 20.0
    cfg.set("keepalive", 5)
    assert cfg.worker_linger == 5.0
    cfg.set("linger", 1)
    assert cfg.worker_linger == 1.0


@pytest.mark.parametrize(("validate", "good", "bad"), [
    (settings.validate_workers, {"4": WorkerCount(4, 4), "2..8": WorkerCount(2, 8)},
     ["0", "-1", "8..2", "129", "two", "1.5", None]),
    (settings.seconds(), {"10": 10.0, "0.5s": 0.5, "2m": 120.0, 3: 3.0}, ["-1", "1d", "", None]),
    (settings.seconds(0.1), {"0.1": 0.1}, ["0", "0.05"]),
    (settings.validate_bytes, {"1": 1, "2k": 2048, "3M": 3 * 2**20, "1GiB": 2**30, 5: 5},
     ["-1", "1T", "x", "1.5G", None]),
    (settings.validate_count, {"0": 0, 12: 12}, ["-1", "1.5", "x", None]),
    (settings.validate_share, {"0": 0.0, "0.05": 0.05, "5%": 0.05, 1: 1.0},
     ["-1", "2", "101%", "nan", "inf", "x", None]),
    (settings.validate_switch, {True: True, "off": False, "YES": True, 0: False},
     ["maybe", "", None, 2]),
    (settings.validate_text, {"x": "x", "": None, None: None}, [1, b"x"]),
    (settings.validate_plain_address, {"[::1]:1?backlog=9": "[::1]:1?backlog=9", None: None},
     [":1?tls", "unix:x?mode=600&tls=c.pem"]),
    (settings.validate_binds, {"a=:1, :2": ["a=:1", ":2"], None: []}, []),
])
def test_validators(validate: Any, good: dict[Any, Any], bad: list[Any]) -> None:
    for value, expected in good.items():
        assert validate(value) == expected
    for value in bad:
        with pytest.raises(ValueError, match="; expected ") as caught:
            validate(value)
        assert repr(value) in str(caught.value) or value in ("0", "0.05")


@pytest.mark.parametrize(("words", "error", "parts"), [
    (["--timeout", "x"], ConfigurationError, ["--timeout", "'x'", "int"]),
    (["--workers", "0"], ConfigurationError, ["workers (--workers)", "'0'", "from 1 to 128"]),
    (["--max-rss", "5Q"], ConfigurationError, ["max_rss (--max-rss)", "'5Q'", "500M"]),
    (["-b", "nope"], ConfigurationError, ["'nope'", "HOST:PORT"]),
    (["--log-level", "nope"], ConfigurationError, [
        "setting loglevel (--log-level): 'nope'; "
        "expected one of debug, info, warning, error, critical"]),
    (["--nope"], UsageError, ["--nope", "--help"]),
    (["--keys"], UsageError, ["--keys", "expected one argument"]),
])
def test_a_bad_value_is_one_line_with_name_value_and_expectation(
    words: list[str], error: type[ApihourError], parts: list[str]
) -> None:
    with pytest.raises(error) as caught:
        HostApplication(["hello:Container", *words])
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)

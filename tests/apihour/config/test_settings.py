"""gunicorn's options and our own: the table, its enforcement, the validators."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from gunicorn import config as gunicorn_config

from apihour.config.application import HostApplication
from apihour.config.cpus import available_cpus
from apihour.config.own import GUNICORN_SETTINGS, OWN
from apihour.config.settings import HostConfig
from apihour.config.values import WorkerCount
from apihour.config.verdicts import REFUSED
from apihour.errors import ConfigurationError, UsageError

SETTINGS = {cls.name: cls for cls in GUNICORN_SETTINGS}
OWN_NAMES = {cls.name for cls in OWN}
HONOURED = (
    "config backlog max_requests max_requests_jitter timeout graceful_timeout "
    "limit_request_fields limit_request_field_size print_config chdir daemon "
    "raw_env pidfile user group umask initgroups accesslog access_log_format "
    "errorlog loglevel capture_output logconfig logconfig_dict logconfig_json "
    "syslog_addr syslog syslog_prefix syslog_facility disable_redirect_access_to_syslog "
    "enable_stdio_inheritance proc_name default_proc_name pythonpath "
    "reload_extra_files on_starting on_reload when_ready pre_fork post_fork post_worker_init "
    "worker_int worker_abort pre_exec child_exit worker_exit nworkers_changed on_exit "
    "keyfile ca_certs cert_reqs ssl_context"
).split()


def hook(arity: int) -> str:
    return f"lambda {', '.join(f'a{n}' for n in range(arity))}: None"


def value_for(cls: Any, tmp_path: Path) -> str:
    """A Python expression that gunicorn's own validator takes and that is no default."""
    by_name = {
        "user": repr(os.geteuid()), "group": repr(os.getegid()), "chdir": repr(str(tmp_path)),
        "raw_env": "['A=1']", "umask": "0o27", "loglevel": "'warning'",
        "logger_class": "'apihour.test.Other'", "reload_extra_files": f"[{__file__!r}]",
        "logconfig_dict": "{'version': 1}", "syslog_facility": "'local0'",
        "syslog_addr": "'udp://127.0.0.1:1'",
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


def test_every_setting_of_gunicorn_is_honoured_refused_or_replaced_and_one_of_them() -> None:
    cfg = HostConfig()
    replaced = [name for name, cls in SETTINGS.items()
                if name in OWN_NAMES or cfg.settings[name].default != cls.default]
    assert sorted([*HONOURED, *replaced, *REFUSED]) == sorted(SETTINGS)
    assert all(REFUSED.values()), "each says why"


@pytest.mark.parametrize("name", HONOURED)
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


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_setting_is_refused_in_a_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, **{name: "1"})
    message = str(caught.value)
    assert message.startswith(f"config file '{tmp_path}/conf.py': setting {name}")
    assert REFUSED[name] in message
    assert "\n" not in message


@pytest.mark.parametrize(("name", "instead"), [
    ("pre_request", "middleware"), ("root_path", "ASGIServer(app"), ("preload_app", "--template"),
    ("websocket_max_message_size", "ws_max_size"), ("tmp_upload_dir", "TMPDIR")])
def test_the_reason_says_what_to_do_instead(name: str, instead: str) -> None:
    assert instead in REFUSED[name]


ON_COMMAND_LINE = [name for name in REFUSED if SETTINGS[name].cli]


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
    assert f"{words[0]}: refused: {REFUSED[name]}" in str(caught.value)


@pytest.mark.parametrize("name", ON_COMMAND_LINE)
def test_a_refused_setting_is_refused_in_the_environment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_for(name)
    monkeypatch.setenv("GUNICORN_CMD_ARGS", " ".join(words))
    with pytest.raises(ConfigurationError, match=f"^GUNICORN_CMD_ARGS: {words[0]}: refused: "):
        HostApplication(["hello:Container"])


OWN_VALUES: dict[str, tuple[list[str], Any]] = {
    "workers": (["2..5"], WorkerCount(2, 5)),
    "keepalive": (["5m"], 300.0),
    "worker_connections": (["9"], 9),
    "console": (["127.0.0.1:1"], "127.0.0.1:1"),
    "forwarded_allow_ips": (["10.0.0.0/8, unix"], "10.0.0.0/8,unix"),
    "limit_request_line": (["4094"], 4094),
    "no_console": ([], True),
    "keys": (["other"], "other"),
    "factory": ([], True),
    "ssh_strict": ([], True),
    "shell_python": ([], True),
    "health": (["127.0.0.1:1"], "127.0.0.1:1"),
    "certfile": (["x.pem"], "x.pem"),
    "tls_handshake_timeout": (["3"], 3.0),
    "acme_directory": (["https://a.example/d"], "https://a.example/d"),
    "acme_state": (["/var/lib/acme"], "/var/lib/acme"),
    "acme_contact": (["me@a.example"], "me@a.example"),
    "tls_tickets": (["1h"], 3600.0),
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
    assert cfg.worker_class is None  # type: ignore[func-returns-value]


def test_workers_default_to_the_cpus_of_this_process() -> None:
    cpus = available_cpus()
    assert 1 <= cpus <= len(os.sched_getaffinity(0))
    assert HostConfig().worker_count == WorkerCount(cpus, cpus)
    assert HostConfig().workers == cpus


def test_web_concurrency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "7")
    assert HostConfig().worker_count == WorkerCount(7, 7)


def test_who_is_believed_about_clients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    assert HostConfig().forwarded_allow_ips == "127.0.0.1,::1,unix"
    assert read(tmp_path, "--forwarded-allow-ips", "").forwarded_allow_ips == ""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    assert HostConfig().forwarded_allow_ips == "*"
    assert read(tmp_path, "--forwarded-allow-ips", "10.0.0.7").forwarded_allow_ips == "10.0.0.7"
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "")
    assert HostConfig().forwarded_allow_ips == ""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "nginx")
    with pytest.raises(ConfigurationError, match=r"^FORWARDED_ALLOW_IPS: 'nginx'; expected an add"):
        HostConfig()


@pytest.mark.parametrize("value", ["nginx", "10.0.0.1/8", "10.0.0.1 10.0.0.2", ["::1", "x"]])
def test_who_cannot_be_believed(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^setting forwarded_allow_ips \(--forwarded-allow-ips\)"
                                         r": '.*'; expected an address, a network"):
        HostConfig().set("forwarded_allow_ips", value)


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


@pytest.mark.parametrize("words", ["--umask=0027", "--umask 027", "--umask 0o27"])
def test_a_umask_is_octal(words: str, tmp_path: Path) -> None:
    assert read(tmp_path, *words.split()).umask == 0o27


ADDRESS = ("HOST:PORT, [IPV6]:PORT, unix:PATH, unix:@NAME, udp://HOST:PORT, fd://N or "
           "systemd:NAME")
WHOLE = "expected a whole number, 0 or more"
# Option, a value it does not take, and what it says then.
BAD = [
    ("--timeout", "x", f"'x'; {WHOLE}"),
    ("--backlog", "-1", f"-1; {WHOLE}"),
    ("--umask", "x", f"'x'; {WHOLE}"),
    ("--workers", "0", "'0'; expected a number from 1 to 128, or a range like 2..8"),
    ("--max-rss", "5Q", "'5Q'; expected bytes, like 300000000, 500M or 2G"),
    ("--bind", "a=nope", f"'a=nope'; expected {ADDRESS}"),
    ("--bind", ":99999", "':99999'; expected a port from 0 to 65535"),
    ("--console", "nope", f"'nope'; expected {ADDRESS}"),
    ("--health", "udp://:1", "'udp://:1'; expected an address without udp://"),
    ("--env", "nope", "'nope'; expected NAME=VALUE"),
    ("--user", "nobody-like-that", "'nobody-like-that'; expected the name or number of a user"),
    ("--group", "nobody-like-that", "'nobody-like-that'; expected the name or number of a group"),
    ("--umask", "01000", "512; expected a number from 0 to 511"),
    ("--user", "9999999999", "'9999999999'; expected a number from 0 to 4294967294"),
    ("--backlog", "9999999999", "9999999999; expected a number from 0 to 2147483647"),
    ("--boot-timeout", "9999999999", "'9999999999'; expected at most 31536000 s, a year"),
    ("--log-syslog-to", "nope", "'nope'; expected udp://HOST:PORT, tcp://HOST:PORT or unix://PATH"),
    ("--log-level", "nope",
     "'nope'; expected one of debug, info, warning, error, critical"),
]


@pytest.mark.parametrize(("option", "value", "message"), BAD)
def test_a_value_that_an_option_does_not_take(
    option: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError) as typed:
        HostApplication(["hello:Container", f"{option}={value}"])
    assert str(typed.value) == f"{option}: {message}"
    monkeypatch.setenv("GUNICORN_CMD_ARGS", f"{option}={value}")
    with pytest.raises(ConfigurationError) as given:
        HostApplication(["hello:Container"])
    assert str(given.value) == f"GUNICORN_CMD_ARGS: {option}: {message}"


@pytest.mark.parametrize(("words", "message"), [
    ("--nope", "GUNICORN_CMD_ARGS: unrecognized arguments: --nope; "
               "'apihour run --help' lists the options"),
    ("other:Target", "GUNICORN_CMD_ARGS: 'other:Target'; expected options only, the target "
                     "stands on the command line"),
    ("--name 'x", 'GUNICORN_CMD_ARGS: "--name \'x"; expected options (No closing quotation)'),
])
def test_what_the_environment_must_not_hold(
    words: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", words)
    with pytest.raises(ConfigurationError) as caught:
        HostApplication(["hello:Container"])
    assert str(caught.value) == message


@pytest.mark.parametrize(("line", "message"), [
    ("bind = 5", "bind (--bind): 5; expected a text like 'http=127.0.0.1:8000', or a list of such"),
    ("bind = [5]", "bind (--bind): [5]; expected a text like 'http=127.0.0.1:8000', "
                   "or a list of such"),
    ("bind = 'a=nope'", f"bind (--bind): 'a=nope'; expected {ADDRESS}"),
    ("timeout = 'x'", f"timeout (--timeout): 'x'; {WHOLE}"),
    ("backlog = None", f"backlog (--backlog): None; {WHOLE}"),
    ("daemon = 3", "daemon (--daemon): 3; expected true or false"),
    ("pidfile = 5", "pidfile (--pid): 5; expected a text"),
    ("raw_env = 5", "raw_env (--env): 5; expected a list of texts like 'NAME=VALUE'"),
    ("chdir = 'gone'", "chdir (--chdir): 'gone'; expected a directory that exists"),
    ("on_starting = 3", "on_starting: 3; expected a function like on_starting(server)"),
    ("logconfig_dict = 3", "logconfig_dict: 3; expected a dict"),
])
def test_a_line_of_a_file_with_a_value_that_is_none(
    line: str, message: str, tmp_path: Path
) -> None:
    name, _, text = line.partition(" = ")
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, **{name: text})
    assert str(caught.value) == f"config file '{tmp_path}/conf.py': setting {message}"


@pytest.mark.parametrize("name", ["0", "x", "2..8"])
def test_a_wrong_web_concurrency_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", name)
    if name == "2..8":
        assert HostConfig().worker_count == WorkerCount(2, 8)
        return
    with pytest.raises(ConfigurationError, match=rf"^WEB_CONCURRENCY: '{name}'; expected a numb"):
        HostConfig()


@pytest.mark.parametrize(("words", "parts"), [
    (["--nope"], ["--nope", "--help"]),
    (["--keys"], ["--keys", "expected one argument"]),
])
def test_an_option_that_is_none_is_bad_usage(words: list[str], parts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        HostApplication(["hello:Container", *words])
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(("file", "variable", "words", "health"), [
    ("health = '127.0.0.1:1'", "", ["--no-console"], None),
    ("health = '127.0.0.1:1'", "--no-console", [], None),
    ("", "--health 127.0.0.1:1", ["--no-console"], None),
    ("health = '127.0.0.1:1'", "", [], "127.0.0.1:1"),
    ("", "", ["--health", "127.0.0.1:1", "--no-console"], "127.0.0.1:1"),  # refused by a start
    ("no_console = True", "", ["--health", "127.0.0.1:1"], "127.0.0.1:1"),  # and this
    ("health = '127.0.0.1:1'\nno_console = True", "", [], "127.0.0.1:1"),
])
def test_a_later_no_console_takes_health_back(
    file: str, variable: str, words: list[str], health: str | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf.py").write_text(file)
    monkeypatch.setenv("GUNICORN_CMD_ARGS", variable)
    app = HostApplication(["hello:Container", "-c", str(tmp_path / "conf.py"), *words])
    assert app.cfg.health == health
    assert bool(app.configuration.notes) == (health is None)
    if app.configuration.notes:
        assert app.configuration.notes == (
            "health 127.0.0.1:1: off, the console process serves it (--no-console)",)

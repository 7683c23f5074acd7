"""The options: gunicorn's, each honoured, replaced or refused, and this project's own.

Rules:

- Every setting of gunicorn stands in :data:`TABLE`; a test compares it with
  ``gunicorn.config.KNOWN_SETTINGS``, so a new release cannot add one unnoticed.
- A refused setting is an error that says why, wherever it is set: command line, file,
  environment.
- What was typed is judged before anything is done with it. A command line that cannot be read
  is a UsageError; a value is a ConfigurationError wherever it stands, on the command line, in a
  file or in the environment. What a value may be: apihour.values.
"""

from __future__ import annotations

import argparse
import inspect
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from gunicorn.config import KNOWN_SETTINGS, Config, Setting
from gunicorn.errors import ConfigError

from apihour.bind.certificates import CIPHERS
from apihour.config.helptext import explain
from apihour.config.values import (
    WorkerCount,
    explained,
    seconds,
    validate_binds,
    validate_bytes,
    validate_count,
    validate_environment,
    validate_log_level,
    validate_plain_address,
    validate_share,
    validate_switch,
    validate_syslog_address,
    validate_syslog_facility,
    validate_text,
    validate_workers,
)
from apihour.errors import ApihourError, ConfigurationError, UsageError
from apihour.version import __version__

__all__ = ["TABLE", "HostConfig", "Verdict", "WorkerCount", "available_cpus"]

Status = Literal["honoured", "replaced", "refused"]


@dataclass(frozen=True)
class Verdict:
    """What becomes of one of gunicorn's settings; ``why`` is empty for an honoured one."""

    status: Status
    why: str = ""


_WSGI = "it steers gunicorn's own HTTP parser, which is not used here"
_HTTP2 = "HTTP/2 is not served; put a proxy in front"
_DIRTY = "there are no dirty arbiters; use container.run_cpu() or a service of your own"
_CONTROL = "the console's local socket does this: apihour ctl"

_HONOURED = (
    "config backlog max_requests max_requests_jitter timeout graceful_timeout "
    "limit_request_line limit_request_fields limit_request_field_size print_config chdir daemon "
    "raw_env pidfile user group umask initgroups accesslog access_log_format "
    "errorlog loglevel capture_output logconfig logconfig_dict logconfig_json "
    "syslog_addr syslog syslog_prefix syslog_facility disable_redirect_access_to_syslog "
    "enable_stdio_inheritance proc_name default_proc_name pythonpath "
    "reload_extra_files on_starting on_reload when_ready pre_fork post_fork post_worker_init "
    "worker_int worker_abort pre_exec child_exit worker_exit nworkers_changed on_exit "
    "keyfile ca_certs cert_reqs ssl_context"
).split()

_REPLACED = {
    "logger_class": "default apihour.config.log.HostLogger, which survives a full disk",
    "worker_connections": "default 0, no limit; binds may have a limit each: ADDRESS?limit=N",
    "bind": "takes name=address as well, and the addresses of apihour.addresses",
    "workers": "default: one per CPU this process may use; MIN..MAX follows the load",
    "keepalive": "default 75 s: clients reuse connections for that long",
    "certfile": "binds ask for TLS one by one: ADDRESS?tls, or ADDRESS?tls=FILE&key=FILE",
    "ciphers": "default: forward secrecy with AES-GCM or ChaCha20 only",
}

_REFUSED = {
    **dict.fromkeys(
        "pre_request post_request sendfile secure_scheme_headers forwarded_allow_ips "
        "tmp_upload_dir protocol uwsgi_allow_ips permit_obsolete_folding strip_header_spaces "
        "permit_unconventional_http_method permit_unconventional_http_version "
        "casefold_http_method forwarder_headers header_map http_parser root_path "
        "websocket_max_message_size".split(),
        _WSGI,
    ),
    "ssl_version": "TLS 1.2 and later are spoken; set another range in the hook ssl_context",
    "suppress_ragged_eofs": "an end of file without close_notify ends a connection as any does",
    "do_handshake_on_connect": "handshakes never block: see --tls-handshake-timeout",
    **dict.fromkeys(
        "http_protocols http2_cleartext http2_max_concurrent_streams http2_initial_window_size "
        "http2_max_frame_size http2_max_header_list_size".split(),
        _HTTP2,
    ),
    **dict.fromkeys(
        "dirty_apps dirty_workers dirty_timeout dirty_threads dirty_graceful_timeout "
        "on_dirty_starting dirty_post_fork dirty_worker_init dirty_worker_exit".split(),
        _DIRTY,
    ),
    **dict.fromkeys("control_socket control_socket_mode control_socket_disable".split(), _CONTROL),
    **dict.fromkeys("proxy_protocol proxy_allow_ips".split(), "PROXY headers are not read"),
    **dict.fromkeys("paste raw_paste_global_conf".split(), "Paste Deploy files are not read"),
    **dict.fromkeys(
        "statsd_host dogstatsd_tags statsd_prefix enable_backlog_metric".split(),
        "--health serves /metrics",
    ),
    **dict.fromkeys(
        "asgi_loop asgi_lifespan asgi_disconnect_grace_period".split(),
        "options of an ASGI application belong to ASGIServer(app, ...)",
    ),
    "wsgi_app": "name the target on the command line: apihour module:Container",
    "check_config": "this is a command: apihour check module:Container",
    "reload": "this is a command: apihour dev module:Container",
    "reuse_port": "it is an option of each bind: ADDRESS?reuse_port",
    "worker_tmp_dir": "heartbeats are in the runtime directory: APIHOUR_RUNTIME_DIR",
    "worker_class": "there is one kind of worker: an event loop with a container",
    "threads": "a worker is one event loop; use blocking=True endpoints",
    "reload_engine": "apihour dev watches files by itself",
    "spew": "it would trace every line of the event loop; use apihour ctl stack",
    "preload_app": "the arbiter imports no application code, or a reload would not see new code",
}

TABLE: dict[str, Verdict] = {
    **{name: Verdict("honoured") for name in _HONOURED},
    **{name: Verdict("replaced", why) for name, why in _REPLACED.items()},
    **{name: Verdict("refused", why) for name, why in _REFUSED.items()},
}

# What gunicorn's validators take, in words; they say only what they did not like.
_TAKES = {
    "validate_bool": "true or false",
    "validate_chdir": "a directory that exists",
    "validate_class": "a class, or its name with its module's",
    "validate_dict": "a dict",
    "validate_group": "the name or number of a group",
    "validate_list_of_files_or_patterns": "files that exist, or patterns",
    "validate_list_string": "a list of texts",
    "validate_pos_int": "a whole number, 0 or more",
    "validate_string": "a text",
    "validate_user": "the name or number of a user",
}
_LIMITS = ("line", "fields", "field_size")  # of --limit-request-*
# They mean another file in another directory, so they wait until --chdir is obeyed.
_RELATIVE = ("chdir", "reload_extra_files")

GUNICORN_SETTINGS = tuple(KNOWN_SETTINGS)
"""gunicorn's own classes, taken before ours join the list below."""


def available_cpus() -> int:
    """CPUs this process may use: its affinity, capped by the cgroup's quota (cgroups(7))."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    return max(1, min(count, _cgroup_quota(count)))


def _cgroup_quota(default: int) -> int:
    """The quota in whole CPUs, rounded up; `default` where there is none."""
    for path, split in (("/sys/fs/cgroup/cpu.max", True),
                        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", False)):
        try:
            with open(path, encoding="ascii") as file:
                fields = file.read().split()
            if split:
                quota, period = fields[0], fields[1]
            else:
                with open(path.replace("quota", "period"), encoding="ascii") as file:
                    quota, period = fields[0], file.read().strip()
            if quota != "max" and int(quota) > 0:
                return -(-int(quota) // int(period))
        except (OSError, ValueError, IndexError):
            continue
    return default


def _own(
    name: str, cli: list[str], validator: Callable[[Any], Any], default: Any, desc: str,
    meta: str | None = None, action: str | None = None,
) -> type[Any]:
    body: dict[str, Any] = {
        "name": name, "section": "apihour", "cli": cli, "validator": validator,
        "default": default, "desc": desc,
    }
    if meta is not None:
        body["meta"] = meta
    if action is not None:
        body["action"] = action
    made: type[Any] = type(Setting)(f"Own_{name}", (Setting,), body)
    return made


OWN = (
    _own("bind", ["-b", "--bind"], validate_binds, [], meta="[NAME=]ADDRESS", action="append",
         desc="Where a named server listens, over the container's own binds; may be repeated."),
    _own("workers", ["-w", "--workers"], validate_workers, WorkerCount(1, 1), meta="N|MIN..MAX",
         desc="Worker processes: a number, or a range that follows the load."),
    _own("keepalive", ["--keep-alive"], seconds(0.1), 75.0, meta="SECONDS",
         desc="How long an idle HTTP connection is kept."),
    _own("worker_connections", ["--worker-connections"], validate_count, 0, meta="N",
         desc="Open connections a worker accepts at most; 0: no limit."),
    _own("console", ["--console"], validate_plain_address, None, meta="ADDRESS",
         desc="Where the SSH shell listens (default 127.0.0.1:8022)."),
    _own("no_console", ["--no-console"], validate_switch, False, action="store_true",
         desc="No shell: neither console process nor agent threads."),
    _own("keys", ["--keys"], validate_text, "keys", meta="DIR",
         desc="Directory of the host key and authorized_keys of the shell."),
    _own("ssh_strict", ["--ssh-strict"], validate_switch, False, action="store_true",
         desc="Only post-quantum key exchange in the shell (OpenSSH 9.9 and later)."),
    _own("shell_python", ["--shell-python"], validate_switch, False, action="store_true",
         desc="Let admins of the shell evaluate Python in a worker (command `python`)."),
    _own("health", ["--health"], validate_plain_address, None, meta="ADDRESS",
         desc="Serve /livez, /readyz and /metrics there, from the console process."),
    _own("certfile", ["--certfile"], validate_text, None, meta="FILE",
         desc="Certificate chain of the binds with ?tls, and their key unless --keyfile has it."),
    _own("tls_handshake_timeout", ["--tls-handshake-timeout"], seconds(0.1), 10.0, meta="SECONDS",
         desc="How long a client may take for its TLS handshake."),
    _own("boot_timeout", ["--boot-timeout"], seconds(0.1), 60.0, meta="SECONDS",
         desc="How long a new worker may take to be ready."),
    _own("linger", ["--linger"], seconds(), None, meta="SECONDS",
         desc="How long a retiring worker keeps silent keep-alive connections "
              "(default: --keep-alive, at most --graceful-timeout)."),
    _own("drain_delay", ["--drain-delay"], seconds(), 0.0, meta="SECONDS",
         desc="Turn unready that long before accepting stops, for load balancers."),
    _own("surge", ["--surge"], validate_count, 0, meta="N",
         desc="Extra workers a reload may start at a time; 0: all at once."),
    _own("canary", ["--canary"], validate_count, 0, meta="N",
         desc="A reload starts N workers first and watches them."),
    _own("canary_time", ["--canary-time"], seconds(0.1), 10.0, meta="SECONDS",
         desc="How long the canary workers are watched."),
    _own("canary_errors", ["--canary-errors"], validate_share, 0.05, meta="SHARE",
         desc="Share of 5xx responses at which a canary fails the reload."),
    _own("max_rss", ["--max-rss"], validate_bytes, 0, meta="BYTES",
         desc="Replace a worker whose resident memory passes this; 0: never."),
    _own("max_age", ["--max-age"], seconds(), 0.0, meta="SECONDS",
         desc="Replace a worker older than this; 0: never."),
    _own("template", ["--template"], validate_switch, False, action="store_true",
         desc="Import the application once per generation; workers fork from that process."),
    _own("factory", ["--factory"], validate_switch, False, action="store_true",
         desc="The target is a function, async or not, that makes the application in each worker."),
    _own("auto_config", ["-ac", "--auto_config"], validate_switch, False, action="store_true",
         desc="Find all configuration in etc/NAME/, by the name of the application."),
    _own("config_dir", ["--config_dir"], validate_text, None, meta="DIR",
         desc="Configuration directory of this daemon, like etc/hello."),
    _own("debug", ["--debug"], validate_switch, False, action="store_true",
         desc="Tracebacks instead of one-line errors, and asyncio's debug mode."),
)


def _takes(cls: Any) -> str | None:
    """What one of gunicorn's settings takes, in words; None when it says so itself."""
    if inspect.isfunction(cls.default):  # a hook
        return f"a function like {cls.name}{inspect.signature(cls.default)}"
    return _TAKES.get(cls.validator.__name__)


def _most(cls: Any) -> int:
    """The largest number the system takes: a mask, a user or group, any other."""
    return {"umask": 0o777, "user": 2**32 - 2, "group": 2**32 - 2}.get(cls.name, 2**31 - 1)


def _refuse(name: str, cli: list[str] | None, why: str) -> Callable[[Any], Any]:
    shown = cli[-1] if cli else name

    def refuse(value: Any) -> Any:
        raise ValueError(f"refused: {why} (it was given {value!r})" if shown else why)

    return refuse


class HostConfig(Config):  # type: ignore[misc]
    """gunicorn's configuration object with the table applied."""

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        super().__init__(usage, prog)
        self.is_frozen = False
        for cls in GUNICORN_SETTINGS:
            verdict = TABLE.get(cls.name)
            if verdict is not None and verdict.status == "refused":
                setting = self.settings[cls.name]
                setting.validator = _refuse(cls.name, cls.cli, verdict.why)
                setting.desc = setting.short = f"Refused: {verdict.why}."
            elif (expected := _takes(cls)) is not None:
                setting = self.settings[cls.name]
                setting.validator = explained(setting.validator, expected, _most(cls))
        for cls in OWN:
            self.settings[cls.name] = cls()
        self.settings["loglevel"].validator = validate_log_level
        self.settings["raw_env"].validator = validate_environment
        self.settings["syslog_addr"].validator = validate_syslog_address
        self.settings["syslog_facility"].validator = validate_syslog_facility
        self.settings["workers"].set(_default_workers())
        self.settings["logger_class"].default = "apihour.config.log.HostLogger"
        self.settings["logger_class"].set("apihour.config.log.HostLogger")
        self.settings["ciphers"].default = CIPHERS
        self.settings["ciphers"].set(CIPHERS)

    def freeze(self) -> None:
        """Nothing is set any more: it is whole."""
        self.is_frozen = True

    @property
    def address(self) -> tuple[()]:
        """Always empty, so gunicorn never opens, compares or closes a socket."""
        return ()

    @property
    def reuse_port(self) -> bool:
        """Always off: it is an option of a bind here, not of the arbiter."""
        return False

    @property
    def worker_count(self) -> WorkerCount:
        """The configured number or range of workers."""
        count: WorkerCount = self.settings["workers"].get()
        return count

    @property
    def request_limits(self) -> dict[str, int]:
        """What ``--limit-request-*`` were given, by the rest of their names."""
        given = {key: self.settings[f"limit_request_{key}"] for key in _LIMITS}
        return {key: one.get() for key, one in given.items() if one.get() != one.default}

    @property
    def workers(self) -> int:
        """What gunicorn asks for: the smallest number of workers."""
        return self.worker_count.minimum

    @property
    def logger_class(self) -> Any:
        """The class that logs. Raises ConfigurationError when it cannot be imported."""
        path = self.settings["logger_class"].get()
        try:
            return super().logger_class
        except (RuntimeError, AttributeError) as error:
            raise ConfigurationError(
                f"--logger-class {path!r}: expected a class that can be imported"
            ) from error

    @property
    def worker_class_str(self) -> str:
        return "apihour.worker.process.HostWorker"

    @property
    def worker_class(self) -> Any:
        from apihour.worker.process import HostWorker

        return HostWorker

    @property
    def worker_linger(self) -> float:
        """Seconds a silent connection is kept while draining."""
        linger: float | None = self.settings["linger"].get()
        wanted = linger if linger is not None else self.settings["keepalive"].get()
        return min(float(wanted), float(self.settings["graceful_timeout"].get()))

    def set(self, name: str, value: Any) -> None:
        """Set one setting. Raises ValueError naming it, its value and what was expected.

        Raises TypeError once the configuration is whole, see :meth:`freeze`.
        """
        if self.is_frozen:
            raise TypeError(f"setting {name}: {value!r}; expected it where the configuration is "
                            "read from: what is in force does not change")
        try:
            super().set(name, value)
        except (TypeError, ValueError, ConfigError) as error:
            cli = self.settings[name].cli
            shown = f"{name} ({cli[-1]})" if cli else name
            raise ValueError(f"setting {shown}: {error}") from error

    def parser(self) -> Any:
        """The argument parser: gunicorn's options and ours. Raises UsageError."""
        parser = super().parser()
        parser.error = _usage
        for action in parser._actions:
            if action.dest == "version":
                action.version = f"apihour {__version__}"
            elif action.type is not None:
                action.type = _or_as_it_is(action.type)
        explain(parser, self.settings, _REFUSED.keys())
        parse = parser.parse_args

        def parse_args(words: Sequence[str]) -> argparse.Namespace:
            values: argparse.Namespace = parse(words)
            self._judge(values)
            return values

        parser.parse_args = parse_args
        return parser

    def _judge(self, values: argparse.Namespace) -> None:
        """See whether each option takes what it was given. Raises ConfigurationError naming it."""
        for name, value in vars(values).items():
            if value is None or name == "args" or name in _RELATIVE:
                continue
            setting = self.settings[name]
            try:
                setting.validator(value)
            except (TypeError, ValueError, ConfigError) as error:
                raise ConfigurationError(f"{setting.cli[-1]}: {error}") from error

    def get_cmd_args_from_env(self) -> list[str]:
        """The words of GUNICORN_CMD_ARGS: options. Raises ConfigurationError naming it."""
        given = self.env_orig.get("GUNICORN_CMD_ARGS", "")
        try:
            words = shlex.split(given)
            targets = self.parser().parse_args(words).args
        except ValueError as error:
            raise ConfigurationError(
                f"GUNICORN_CMD_ARGS: {given!r}; expected options ({error})") from error
        except ApihourError as error:
            raise ConfigurationError(f"GUNICORN_CMD_ARGS: {error}") from error
        if targets:
            raise ConfigurationError(
                f"GUNICORN_CMD_ARGS: {targets[0]!r}; expected options only, the target stands on "
                "the command line")
        return words


def _usage(message: str) -> NoReturn:
    """argparse's complaint as one line."""
    raise UsageError(f"{message}; 'apihour run --help' lists the options")


def _or_as_it_is(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Leave to the validator what cannot be converted: it says what was expected."""

    def value(text: str) -> Any:
        try:
            return convert(text)
        except ValueError:
            return text

    return value


def _default_workers() -> WorkerCount:
    configured = os.environ.get("WEB_CONCURRENCY")
    if configured:
        try:
            return validate_workers(configured)
        except ValueError as error:
            raise ConfigurationError(f"WEB_CONCURRENCY: {error}") from error
    cpus = available_cpus()
    return WorkerCount(cpus, cpus)

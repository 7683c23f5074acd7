"""This project's own options; some take the place of gunicorn's of the same name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gunicorn.config import KNOWN_SETTINGS, Setting

from apihour.config.values import (
    WorkerCount,
    validate_binds,
    validate_switch,
    validate_text,
    validate_workers,
)

__all__ = ["GUNICORN_SETTINGS", "OWN"]

GUNICORN_SETTINGS = tuple(KNOWN_SETTINGS)
"""gunicorn's own classes, taken before ours join the list below."""


def _rare(name: str, *arguments: Any) -> Callable[[Any], Any]:
    """A validator of apihour.config.rare_values; with `arguments`, the one made by these."""

    def validate(value: Any) -> Any:
        from apihour.config import rare_values  # read where such an option is given

        found = getattr(rare_values, name)
        return (found(*arguments) if arguments else found)(value)

    return validate


def seconds(minimum: float = 0.0) -> Callable[[Any], Any]:
    """As that of apihour.config.rare_values."""
    return _rare("seconds", minimum)


validate_count = _rare("validate_count")
validate_plain_address = _rare("validate_plain_address")


def _as_it_is(setting: Any) -> None:
    """The default of an option of ours is a value already: it is not judged."""


def _own(
    name: str, cli: list[str], validator: Callable[[Any], Any], default: Any, desc: str,
    meta: str | None = None, action: str | None = None,
) -> type[Any]:
    body: dict[str, Any] = {
        "name": name, "section": "apihour", "cli": cli, "validator": validator,
        "default": default, "value": default, "desc": desc, "__init__": _as_it_is,
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
    _own("forwarded_allow_ips", ["--forwarded-allow-ips"], _rare("validate_forwarders"),
         "127.0.0.1,::1,unix", meta="ADDRESSES",
         desc="Proxies that are believed about their clients: addresses, networks, unix for those "
              "of unix sockets, * for all, apart by commas; '' for nobody."),
    _own("limit_request_line", ["--limit-request-line"], validate_count, 8190, meta="BYTES",
         desc="The longest request target that is taken."),
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
    _own("tls_tickets", ["--tls-tickets"], seconds(), 43200.0, meta="SECONDS",
         desc="How long keys of TLS session tickets, shared by all workers, are used (default "
              "12h); 0: each worker has its own."),
    _own("acme_directory", ["--acme-directory"], _rare("validate_acme"),
         "https://acme-v02.api.letsencrypt.org/directory", meta="URL",
         desc="The ACME server that certificates of binds with ?tls=acme are obtained of."),
    _own("acme_state", ["--acme-state"], validate_text, "acme", meta="DIR",
         desc="Directory of its account keys and certificates, made with mode 0700."),
    _own("acme_contact", ["--acme-contact"], validate_text, None, meta="EMAIL",
         desc="Whom the ACME server may write to."),
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
    _own("canary_errors", ["--canary-errors"], _rare("validate_share"), 0.05, meta="SHARE",
         desc="Share of 5xx responses at which a canary fails the reload."),
    _own("max_rss", ["--max-rss"], _rare("validate_bytes"), 0, meta="BYTES",
         desc="Replace a worker whose own resident memory passes this (nothing shared); 0: never."),
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

"""What becomes of each of gunicorn's settings: honoured, replaced or refused, with the reason.

Rule: every setting of gunicorn stands in :data:`TABLE`, once; a test compares it with
``gunicorn.config.KNOWN_SETTINGS``, so a new release cannot add one unnoticed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["HONOURED", "REFUSED", "REPLACED", "TABLE", "Verdict"]

Status = Literal["honoured", "replaced", "refused"]


@dataclass(frozen=True)
class Verdict:
    """What becomes of one of gunicorn's settings; ``why`` is empty for an honoured one."""

    status: Status
    why: str = ""


_WSGI = "it steers gunicorn's own HTTP parser, which is not used here"
_HTTP2 = "HTTP/2 is an option of each server: HTTPServer(..., http2=...)"
_DIRTY = "there are no dirty arbiters; use container.run_cpu() or a service of your own"
_CONTROL = "the console's local socket does this: apihour ctl"

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

REPLACED = {
    "logger_class": "default apihour.config.log.HostLogger, which survives a full disk",
    "worker_connections": "default 0, no limit; binds may have a limit each: ADDRESS?limit=N",
    "bind": "takes name=address as well, and the addresses of apihour.bind.addresses",
    "workers": "default: one per CPU this process may use; MIN..MAX follows the load",
    "forwarded_allow_ips": "takes networks, and unix for unix sockets, too",
    "limit_request_line": "default 8190 bytes, as RFC 9110 (4.1) asks for 8000",
    "keepalive": "default 75 s: clients reuse connections for that long",
    "certfile": "binds ask for TLS one by one: ADDRESS?tls, or ADDRESS?tls=FILE&key=FILE",
    "ciphers": "default: forward secrecy with AES-GCM or ChaCha20 only",
}

REFUSED = {
    **dict.fromkeys(
        "pre_request post_request sendfile "
        "tmp_upload_dir protocol uwsgi_allow_ips permit_obsolete_folding strip_header_spaces "
        "permit_unconventional_http_method permit_unconventional_http_version "
        "casefold_http_method header_map http_parser root_path "
        "websocket_max_message_size".split(),
        _WSGI,
    ),
    **dict.fromkeys(
        "secure_scheme_headers forwarder_headers".split(),
        "what proxies are believed about is the server's forwarded_headers",
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
    **dict.fromkeys("proxy_protocol proxy_allow_ips".split(),
                    "binds read PROXY headers one by one: ADDRESS?proxy=NETWORKS"),
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
    **{name: Verdict("honoured") for name in HONOURED},
    **{name: Verdict("replaced", why) for name, why in REPLACED.items()},
    **{name: Verdict("refused", why) for name, why in REFUSED.items()},
}

"""gunicorn's settings that are refused, each with the reason.

Rule: each of the others is honoured, has another default (apihour.config.settings) or is replaced
by one of ours (apihour.config.own). A test knows which, so a new release of gunicorn cannot add one
unnoticed.
"""

from __future__ import annotations

__all__ = ["REFUSED"]

_WSGI = "it steers gunicorn's own HTTP parser, which is not used here"
_HTTP2 = "HTTP/2 is an option of each server: HTTPServer(..., http2=...)"
_DIRTY = "there are no dirty arbiters; use container.run_cpu() or a service of your own"
_CONTROL = "the console's local socket does this: apihour ctl"

REFUSED = {
    **dict.fromkeys(
        "protocol uwsgi_allow_ips permit_obsolete_folding strip_header_spaces "
        "permit_unconventional_http_method permit_unconventional_http_version "
        "casefold_http_method header_map http_parser".split(),
        _WSGI,
    ),
    **dict.fromkeys(["pre_request", "post_request"], "a middleware of the application does this"),
    "sendfile": "it is always used, for files over 128 KiB",
    "tmp_upload_dir": "uploads over 1 MiB are spooled where TMPDIR says",
    "websocket_max_message_size": "it is ASGIServer(app, ws_max_size=...), or max_size= of a route",
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
        "asgi_loop asgi_lifespan asgi_disconnect_grace_period root_path".split(),
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
    "preload_app": "the arbiter imports no application code, or a reload would not see new code; "
                   "--template imports it once for each generation",
}

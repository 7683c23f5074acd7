"""What the metrics of servers, engines and workers mean, for ``# HELP`` and the reference."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["help_of"]

_TEXTS: Mapping[str, str] = {
    "accepted": "Connections accepted",
    "blocks": "Times a loop was blocked",
    "engine_connections": "Open connections of an engine",
    "engine_down": "Workers for which an engine is down",
    "engine_errors": "Failed queries, connections and waits of an engine",
    "engine_waiting": "Requests that wait for a connection",
    "job_failures": "Runs of jobs that raised, lost their lease, or were cut short",
    "job_runs": "Runs of jobs that have ended",
    "errors": "Requests answered by 5xx",
    "lost_lines": "Log lines that could not be written",
    "refused": "Connections refused, by limits and bans",
    "requests": "Requests answered",
    "server_accepted": "Connections accepted",
    "server_closed_silent": "Connections closed for silence or slowness",
    "server_connections": "Open connections",
    "server_draining": "Connections of workers that retire",
    "server_errors": "Exceptions of protocols",
    "server_handshakes_failed": "TLS handshakes that failed",
    "server_in_flight": "Requests without their whole answer yet",
    "server_latency_seconds": "From a whole request to its whole answer",
    "server_login_failures": "Logins that failed",
    "server_logins": "Logins that succeeded",
    "server_mounted": "Requests of mounted applications, by their paths",
    "server_open_sessions": "Open sessions",
    "server_refused": "Connections refused",
    "server_requests": "Requests answered",
    "server_responses": "Answers by their status",
    "server_session_errors": "Sessions that ended by an exception",
    "server_sessions": "Sessions begun",
    "server_sockets": "Open sockets",
    "server_starting": "Logins under way",
    "server_tasks": "Work after the answer that is under way",
    "server_idled": "Connections closed as nothing moved",
    "server_retries": "Upstreams tried after another one",
    "server_timeouts": "Requests that came too slowly",
    "server_unserved": "Connections that no upstream took",
    "server_upstream_accepted": "Connections that an upstream took",
    "server_upstream_bytes_in": "Bytes from an upstream",
    "server_upstream_bytes_out": "Bytes to an upstream",
    "server_upstream_connections": "Open connections to an upstream",
    "server_upstream_failed": "Connections that an upstream did not take",
    "server_upstream_up": "Workers for which an upstream is up",
    "server_websockets": "Open WebSockets",
}


def help_of(name: str) -> str:
    """The text for a metric's full name; one that a plugin brought is its words."""
    short = name.removeprefix("apihour_").removesuffix("_total")
    words = short.replace("_", " ")
    return f"{_TEXTS.get(short) or words[:1].upper() + words[1:]}, over all workers"

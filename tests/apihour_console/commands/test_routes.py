"""Figures of routes, merged over workers."""

from __future__ import annotations

import pytest

from apihour_console.commands.routes import merged


def row(worker: str, route: str, latency: list[list[int]], cpu: float = 0.0) -> dict[str, object]:
    return {"worker": worker, "server": "http", "route": route, "cpu": cpu, "running": 1,
            "requests": sum(count for _, count in latency), "errors": 2, "latency": latency}


def test_quantiles_rates_and_shares_over_workers() -> None:
    # 1.05 ** -142 is a millisecond, 1.05 ** 0 a second.
    rows = [row("1.1", "GET /a", [[-142, 90]], 1.0), row("2.1", "GET /a", [[-142, 8], [0, 2]], 0.5),
            row("1.1", "GET /b", [], 0.1)]
    hot, other = merged(rows, 2.0)
    assert (hot.route, hot.requests, hot.requests_s, hot.running) == ("GET /a", 100, 50.0, 2)
    assert (hot.cpu, hot.errors_s) == (75.0, 2.0)
    assert hot.p50 == pytest.approx(0.001, rel=0.05) and hot.p99 == pytest.approx(1.0)
    assert (other.route, other.p50, other.p99, other.requests) == ("GET /b", None, None, 0)

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Figure, Scoreboard, WorkerState
from apihour_console.calls.call import Missing
from apihour_console.fleet.census import Census, Seen
from apihour_console.fleet.collected import Collected
from apihour_console.fleet.metrics import FleetMeter, readiness, render


class Asked:
    """A fleet of rows in a scoreboard whose agents' answers are given."""

    def __init__(self, path: Path) -> None:
        runtime = Runtime(path)
        self.board = Scoreboard.create(str(runtime.scoreboard(os.getpid())))
        self.board.set_figure(Figure.WANTED, 2)
        self.board.set_figure(Figure.RELOADS, 3)
        self.census = Census(runtime)
        self.disks = {"the log": str(path)}
        self.answers: dict[str, dict[str, Any] | None] = {}
        self.gauges: set[str] = set()
        self.certificates: list[dict[str, Any]] = []
        self.engines: dict[str, list[dict[str, Any]]] = {}

    def worker(self, slot: int, pid: int) -> Any:
        row = self.board.claim(slot, 1)
        row.pid, row.state, row.accepting = pid, WorkerState.SERVING, 1.0
        self.answers[row.worker] = {}
        return row

    async def collect(
        self, command: str, arguments: Any, role: Any, workers: Sequence[Seen], deadline: float
    ) -> Collected:
        found = Collected()
        for one in workers:
            name = one.row.worker
            answer = self.answers[name]
            if answer is None:
                found.missing.append(Missing(name, "stuck"))
            elif command == "certs":
                found.rows += self.certificates
            elif command == "servers":
                found.rows.append({"name": "http", "protocol": "http", "address": "x",
                                   "connections": 2, "accepted": 5, "refused": 0, "worker": name})
            elif command == "engines":
                found.rows += self.engines.get(name, [])
            else:
                found.rows += [{"worker": name, "server": "" if key[:4] == "job_" else "http",
                                "name": key, "value": value, "gauge": key in self.gauges}
                               for key, value in answer.items()]
        return found


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def latency(*counts: int) -> dict[str, Any]:
    return {"bounds": [0.1, 1.0], "counts": list(counts), "sum": float(sum(counts))}


async def text_of(meter: FleetMeter) -> str:
    families, _ = await meter.collect()
    return render(families)


async def test_engines_are_merged_over_workers_and_their_errors_stay(asked: Asked) -> None:
    for slot, pid in ((1, os.getpid()), (2, os.getppid())):
        row = asked.worker(slot, pid)
        asked.engines[f"{slot}.1"] = [{
            "worker": f"{slot}.1", "engine": "pg", "kind": "pg", "state": ("up", "down")[slot == 2],
            "size": 3, "busy": slot, "waiting": 4, "errors": 10}]
    meter = FleetMeter(asked)
    text = await text_of(meter)
    labels = 'engine="pg",kind="pg"'
    for line in (f'apihour_engine_connections{{{labels},state="busy"}} 3',
                 f'apihour_engine_connections{{{labels},state="idle"}} 3',
                 f"apihour_engine_waiting{{{labels}}} 8", f"apihour_engine_down{{{labels}}} 1",
                 f"apihour_engine_errors_total{{{labels}}} 20"):
        assert line in text.splitlines()
    row.clear()
    text = await text_of(meter)
    assert f"apihour_engine_errors_total{{{labels}}} 20" in text.splitlines()
    assert f"apihour_engine_waiting{{{labels}}} 4" in text.splitlines()


async def test_runs_of_jobs_are_counted_by_job_and_stay(asked: Asked) -> None:
    for slot, pid in ((1, os.getpid()), (2, os.getppid())):
        row = asked.worker(slot, pid)
        asked.answers[f"{slot}.1"] = {"job_runs": {"report": 3}, "job_failures": {"report": slot}}
    meter = FleetMeter(asked)
    for _ in range(2):
        lines = (await text_of(meter)).splitlines()
        assert 'apihour_job_runs_total{job="report"} 6' in lines
        assert 'apihour_job_failures_total{job="report"} 3' in lines
        row.clear()  # that worker has left


async def test_figures_are_merged_over_workers(asked: Asked) -> None:
    first, second = asked.worker(1, os.getpid()), asked.worker(2, os.getppid())
    first.requests, second.requests = 10, 20
    asked.answers["1.1"] = {"requests": 10, "in_flight": 1, "latency": latency(1, 2, 3),
                            "responses": {"2xx": 9, "5xx": 1}, "note": "text is left out"}
    asked.answers["2.1"] = {"requests": 20, "in_flight": 2, "latency": latency(10, 0, 1)}
    lines = (await text_of(FleetMeter(asked))).splitlines()
    labels = 'server="http",protocol="http"'
    for line in (
        "apihour_up 1", "apihour_workers_wanted 2", "apihour_reloads_total 3",
        'apihour_workers{state="serving"} 2', 'apihour_workers{state="stuck"} 0',
        "apihour_requests_total 30", f"apihour_server_requests_total{{{labels}}} 30",
        f"apihour_server_in_flight{{{labels}}} 3", f"apihour_server_connections{{{labels}}} 4",
        f'apihour_server_responses_total{{{labels},code="5xx"}} 1',
        f'apihour_server_latency_seconds_bucket{{{labels},le="0.1"}} 11',
        f'apihour_server_latency_seconds_bucket{{{labels},le="1"}} 13',
        f'apihour_server_latency_seconds_bucket{{{labels},le="+Inf"}} 17',
        f"apihour_server_latency_seconds_count{{{labels}}} 17",
        "# TYPE apihour_server_latency_seconds histogram",
        "# TYPE apihour_server_requests_total counter",
        "# TYPE apihour_server_in_flight gauge",
    ):
        assert line in lines, line
    assert not any("note" in line for line in lines)
    assert len({line for line in lines if line.startswith("# TYPE")}) == len(
        [line for line in lines if line.startswith("# TYPE")])


async def test_gauges_of_a_plugin_fall_again(asked: Asked) -> None:
    asked.worker(1, os.getpid())
    asked.gauges, meter = {"waiting", "up"}, FleetMeter(asked)
    labels = 'server="http",protocol="http"'
    for count in (3, 1):
        asked.answers["1.1"] = {"waiting": count, "up": {"a": count}, "seen": count}
        lines = (await text_of(meter)).splitlines()
        assert f"apihour_server_waiting{{{labels}}} {count}" in lines
        assert f'apihour_server_up{{{labels},code="a"}} {count}' in lines
        assert "# TYPE apihour_server_seen_total counter" in lines


async def test_the_memory_of_a_template(asked: Asked) -> None:
    name = "apihour_template_resident_bytes"
    assert name not in await text_of(FleetMeter(asked))
    asked.board.set_figure(Figure.TEMPLATE, os.getpid())
    lines = (await text_of(FleetMeter(asked))).splitlines()
    values = [line for line in lines if line.startswith(name)]
    assert int(values[0].split()[1]) > 2**20


async def test_sessions_of_ssh_are_counted_and_those_that_are_open_measured(asked: Asked) -> None:
    asked.worker(1, os.getpid())
    asked.answers["1.1"] = {"sessions": 7, "open_sessions": 2, "starting": 1, "own": 3}
    text = await text_of(FleetMeter(asked))
    assert "# TYPE apihour_server_sessions_total counter" in text
    assert "# HELP apihour_server_open_sessions Open sessions, over all workers" in text
    assert "# TYPE apihour_server_open_sessions gauge" in text
    assert "# TYPE apihour_server_starting gauge" in text
    assert "# HELP apihour_server_own_total Server own, over all workers" in text


async def test_counters_never_shrink(asked: Asked) -> None:
    first, _ = asked.worker(1, os.getpid()), asked.worker(2, os.getppid())
    first.requests = 10
    asked.answers["1.1"] = {"requests": 10, "in_flight": 1, "latency": latency(1, 0, 0)}
    asked.answers["2.1"] = {"requests": 5, "in_flight": 1, "latency": latency(1, 0, 0)}
    meter = FleetMeter(asked)
    await meter.collect()
    asked.answers["2.1"] = None
    families, missing = await meter.collect()
    assert [one.worker for one in missing] == ["2.1"]
    labels = '{server="http",protocol="http"}'
    assert f"apihour_server_requests_total{labels} 15" in render(families)
    first.clear()
    text = await text_of(meter)
    assert f"apihour_server_requests_total{labels} 15" in text
    assert f"apihour_server_latency_seconds_count{labels} 2" in text
    assert "apihour_requests_total 10" in text
    assert f"apihour_server_in_flight{labels} 1" in text


def test_readiness(asked: Asked) -> None:
    assert readiness(asked.census) == (False, "none of 0 workers accepts")
    row = asked.worker(1, os.getpid())
    assert readiness(asked.census) == (True, "1 of 1 workers accept")
    row.heartbeat -= 60  # busy is not unready
    assert readiness(asked.census)[0]
    row.accepting = 0.0
    assert not readiness(asked.census)[0]
    row.accepting = 1.0
    asked.board.set_figure(Figure.UNREADY, 1)
    assert readiness(asked.census) == (False, "the daemon is stopping")


async def test_days_left_of_certificates_are_asked_for_once_a_minute(asked: Asked) -> None:
    asked.worker(1, os.getpid())

    def days(left: float | None) -> dict[str, Any]:
        return {"server": "http", "address": "x:443", "subject": "a.test", "days_left": left}

    # Before and after a renewal: the worse counts.
    asked.certificates = [days(10.0), days(9.0), days(None)]
    meter = FleetMeter(asked)
    for _ in range(2):
        (line,) = [line for line in render((await meter.collect())[0]).splitlines()
                   if line.startswith("apihour_certificate_days_left")]
        assert line == ('apihour_certificate_days_left{server="http",address="x:443",'
                        'subject="a.test"} 9')
        asked.certificates = [days(400.0)]

"""The figures of a daemon, merged over its workers, and the Prometheus text of them.

Rules:

- Counters only grow: what a worker had counted stays in the sum when it leaves, and what
  one that does not answer had said last stands for it.
- Nothing waits for a worker's loop: rows come from shared memory, figures of servers from
  the agents.
- What a plugin's ``statistics()`` may hold: a number; a mapping of words to numbers; a
  histogram as a mapping of ``bounds`` (seconds), ``counts`` (per bucket, one more than
  bounds) and ``sum``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from apihour.ops.model import Role
from apihour_console.calls.call import Missing
from apihour_console.fleet.census import Census, DaemonSeen, Seen
from apihour_console.fleet.collected import Collected
from apihour_console.fleet.metric_texts import help_of
from apihour_console.fleet.trouble import Disk, disks

__all__ = ["FleetMeter", "MetricFamily", "MetricRow", "readiness", "render"]

_GAUGES = frozenset({
    "connections", "in_flight", "websockets", "draining", "sockets", "tasks", "servers", "open",
    "open_sessions", "starting", "active", "pending",
})
_COUNTED = ("accepted", "refused", "requests", "errors", "blocks", "lost_lines")
_PLAIN = re.compile(r"[^a-zA-Z0-9_]")
_CERTIFICATES = 60.0  # seconds between two looks at them: each costs a worker a millisecond
_DEADLINE = 0.8  # seconds the agents have; a scraper's patience is about ten

_PER_WORKER: tuple[tuple[str, str, Callable[[Seen], float]], ...] = (
    ("connections", "Open connections", lambda one: one.row.connections),
    ("lag_seconds", "How late the loop is", lambda one: one.lag),
    ("resident_bytes", "Resident memory", lambda one: one.process.rss),
    ("cpu_seconds", "CPU time used by the worker", lambda one: one.process.cpu),
    ("age_seconds", "How long ago the worker started", lambda one: one.row.age),
)

_NAMES = {"lost_lines": "arbiter_lost_lines"}  # beside the workers' counter of that name

_DAY = 86400.0  # seconds

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]


@dataclass(frozen=True)
class MetricRow:
    """One figure."""

    name: str
    labels: str
    value: float
    type: str


@dataclass
class MetricFamily:
    """All figures of one name."""

    name: str
    type: str
    help: str
    values: dict[Labels, float] = field(default_factory=dict)
    histograms: dict[Labels, Histogram] = field(default_factory=dict)

    def rows(self) -> Iterator[MetricRow]:
        """As table rows; a histogram is its count, its sum and its buckets."""
        for name, labels, value in self.samples():
            yield MetricRow(name, _label_text(labels), value, self.type)

    def samples(self) -> Iterator[tuple[str, Labels, float]]:
        """Name, labels and value of every line."""
        for labels, value in self.values.items():
            yield self.name, labels, value
        for labels, one in self.histograms.items():
            total = 0.0
            for bound, count in zip([*one.bounds, float("inf")], one.counts, strict=True):
                total += count
                edge = "+Inf" if bound == float("inf") else f"{bound:g}"
                yield f"{self.name}_bucket", (*labels, ("le", edge)), total
            yield f"{self.name}_sum", labels, one.sum
            yield f"{self.name}_count", labels, total


@dataclass(frozen=True)
class Histogram:
    """Counts per bucket; the last is of what is over every bound."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float

    @classmethod
    def read(cls, value: Any) -> Histogram | None:
        """The histogram in a plugin's figure, None when it is none."""
        if not isinstance(value, Mapping) or not {"bounds", "counts", "sum"} <= value.keys():
            return None
        found = cls(tuple(value["bounds"]), tuple(value["counts"]), float(value["sum"]))
        return found if len(found.counts) == len(found.bounds) + 1 else None

    def __add__(self, other: Histogram) -> Histogram:
        if self.bounds != other.bounds:  # code of two generations disagrees: keep the newer
            return other
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(self.bounds, counts, self.sum + other.sum)


@dataclass
class _Figures:
    """What one worker has counted; gauges leave with it, the rest stays."""

    counters: dict[Key, float] = field(default_factory=dict)
    gauges: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)

    def add(self, other: _Figures, living: bool) -> None:
        for key, value in other.counters.items():
            self.counters[key] = self.counters.get(key, 0.0) + value
        for key, one in other.histograms.items():
            self.histograms[key] = self.histograms[key] + one if key in self.histograms else one
        if living:
            for key, value in other.gauges.items():
                self.gauges[key] = self.gauges.get(key, 0.0) + value

    def keep(self, known: _Figures, gauges: bool) -> None:
        """Take over from `known` what this has not: a part of an answer may not have come."""
        self.counters = {**known.counters, **self.counters}
        self.histograms = {**known.histograms, **self.histograms}
        if gauges:
            self.gauges = {**known.gauges, **self.gauges}


class _Asker(Protocol):
    """The fleet, as far as it is needed here."""

    census: Census
    disks: Mapping[str, str]

    async def collect(
        self, command: str, arguments: Mapping[str, Any], role: Role, workers: Sequence[Seen],
        deadline: float,
    ) -> Collected: ...


class FleetMeter:
    """Collects figures; remembers those of workers that left."""

    def __init__(self, fleet: _Asker) -> None:
        self._fleet = fleet
        self._last: dict[int, _Figures] = {}
        self._gone = _Figures()
        self._expiry: dict[Labels, float] = {}  # by the clock of time.monotonic()
        self._looked = float("-inf")

    async def collect(self) -> tuple[list[MetricFamily], list[Missing]]:
        """All figures now, and the workers whose servers' figures are not fresh."""
        seen = self._fleet.census.workers()
        asked = [one for one in seen if not one.is_stopped]
        found = await self._fleet.collect("statistics", {}, Role.OBSERVER, asked, _DEADLINE)
        silent = {one.worker for one in found.missing}
        heard = [one for one in asked if one.row.worker not in silent]
        more, engines = await asyncio.gather(*(
            self._fleet.collect(command, {}, Role.OBSERVER, heard, _DEADLINE)
            for command in ("servers", "engines")))
        missing = [*found.missing, *(
            Missing(one.row.worker, "stopped by a signal") for one in seen if one.is_stopped)]
        self._note(seen, found.rows, more.rows, engines.rows)
        await self._look_at_certificates(asked)
        return self._families(seen, self._fleet.census.daemons()), missing

    async def _look_at_certificates(self, workers: Sequence[Seen]) -> None:
        now = time.monotonic()
        if now - self._looked < _CERTIFICATES:
            return
        found = await self._fleet.collect("certs", {}, Role.OBSERVER, workers, _DEADLINE)
        if found.missing or found.failures:
            return  # what was seen last stands, and the next scrape looks again
        self._looked = now
        self._expiry = {
            (("server", row["server"]), ("address", row["address"]), ("subject", row["subject"])):
            now + row["days_left"] * _DAY
            for row in sorted(found.rows, key=lambda row: -(row["days_left"] or 0.0))
            if row["days_left"] is not None}

    def _note(
        self, seen: Sequence[Seen], statistics: list[dict[str, Any]],
        servers: list[dict[str, Any]], engines: list[dict[str, Any]],
    ) -> None:
        for pid in self._last.keys() - {one.row.pid for one in seen}:
            self._gone.add(self._last.pop(pid), living=False)
        for one in seen:
            name = one.row.worker
            own = [row for row in statistics if row["worker"] == name]
            listed = [row for row in servers if row["worker"] == name]
            figures = _server_figures(own, listed)
            _add_engines(figures, [row for row in engines if row["worker"] == name])
            known = self._last.get(one.row.pid)
            if known is not None:
                figures.keep(known, gauges=not own or not listed)
            for counted in _COUNTED:
                figures.counters[f"apihour_{counted}_total", ()] = getattr(one.row, counted)
            self._last[one.row.pid] = figures

    def _families(self, seen: Sequence[Seen], daemons: Sequence[DaemonSeen]) -> list[MetricFamily]:
        total = _Figures()
        total.add(self._gone, living=False)
        for figures in self._last.values():
            total.add(figures, living=True)
        families: dict[str, MetricFamily] = {}
        for one in (*_daemon_figures(daemons), *_worker_figures(seen),
                    *_disk_figures(disks(self._fleet.disks)),
                    *_certificate_figures(self._expiry)):
            families[one.name] = one
        for kind, values in (("counter", total.counters), ("gauge", total.gauges)):
            for (name, labels), value in sorted(values.items()):
                family = families.setdefault(name, MetricFamily(name, kind, help_of(name)))
                family.values[labels] = value
        for (name, labels), histogram in sorted(total.histograms.items(), key=lambda i: i[0]):
            family = families.setdefault(name, MetricFamily(name, "histogram", help_of(name)))
            family.histograms[labels] = histogram
        return list(families.values())


def _server_figures(
    statistics: list[dict[str, Any]], servers: list[dict[str, Any]]
) -> _Figures:
    figures = _Figures()
    protocols = {row["name"]: row["protocol"] for row in servers}
    for row in servers:
        labels: Labels = (("server", row["name"]), ("protocol", row["protocol"]))
        figures.gauges["apihour_server_connections", labels] = row["connections"]
        for name in ("accepted", "refused"):
            figures.counters[f"apihour_server_{name}_total", labels] = row[name]
    for row in statistics:
        labels = (("server", row["server"]), ("protocol", protocols.get(row["server"], "")))
        name, value = _PLAIN.sub("_", row["name"]), row["value"]
        if not row["server"]:
            for job, count in value.items():
                figures.counters[f"apihour_{name}_total", (("job", job),)] = count
            continue
        histogram = Histogram.read(value)
        if histogram is not None:
            figures.histograms[f"apihour_server_{name}_seconds", labels] = histogram
        elif isinstance(value, Mapping):
            for word, number in value.items():
                _plain(figures, name, (*labels, ("code", str(word))), number, row.get("gauge"))
        else:
            _plain(figures, name, labels, value, row.get("gauge"))
    return figures


def _add_engines(figures: _Figures, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        labels: Labels = (("engine", row["engine"]), ("kind", row["kind"]))
        for state, count in (("busy", row["busy"]), ("idle", row["size"] - row["busy"])):
            figures.gauges["apihour_engine_connections", (*labels, ("state", state))] = count
        figures.gauges["apihour_engine_waiting", labels] = row["waiting"]
        figures.gauges["apihour_engine_down", labels] = row["state"] == "down"
        figures.counters["apihour_engine_errors_total", labels] = row["errors"]


def _plain(figures: _Figures, name: str, labels: Labels, value: Any, gauge: Any = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    key = f"apihour_server_{name}"
    if gauge or name in _GAUGES:
        figures.gauges.setdefault((key, labels), value)
    else:
        figures.counters.setdefault((f"{key}_total", labels), value)


def _daemon_figures(daemons: Sequence[DaemonSeen]) -> Iterator[MetricFamily]:
    latest = [one for one in daemons if one.alive][-1:]

    def family(name: str, type: str, help: str, value: float) -> MetricFamily:
        return MetricFamily(f"apihour_{name}", type, help, {(): value})

    yield family("up", "gauge", "Whether an arbiter lives", float(bool(latest)))
    yield family("workers_wanted", "gauge", "Workers asked for", sum(d.wanted for d in latest))
    for name, text in (
        ("reloads", "Reloads that succeeded or failed"), ("reloads_failed", "Reloads that failed"),
        ("restarts", "Workers started again after they died"),
        ("timeouts", "Workers killed because their loop was blocked"),
        ("console_restarts", "Times the console was started again"),
        ("lost_lines", "Log lines that could not be written, by the arbiter"),
    ):
        value = sum(getattr(one, name) for one in daemons)
        yield family(f"{_NAMES.get(name, name)}_total", "counter", text, value)
    templates = [one.template for one in latest if one.template is not None]
    if templates:
        yield family("template_resident_bytes", "gauge",
                     "Resident memory of the process that workers are forked from",
                     sum(template.rss for template in templates))
    yield family("start_time_seconds", "gauge", "When the daemon started, as a time of day",
                 min((one.started for one in daemons), default=0.0))


def _worker_figures(seen: Sequence[Seen]) -> Iterator[MetricFamily]:
    states = MetricFamily("apihour_workers", "gauge", "Workers by state")
    for state in ("starting", "serving", "draining", "exiting", "stuck", "stopped"):
        states.values[("state", state),] = 0.0
    for one in seen:
        state = "stopped" if one.is_stopped else "stuck" if one.is_stuck else one.row.state
        label = (("state", state),)
        states.values[label] = states.values.get(label, 0.0) + 1
    yield states
    for name, help, value in _PER_WORKER:
        family = MetricFamily(f"apihour_worker_{name}", "gauge", help)
        for one in seen:
            family.values[("worker", one.row.worker),] = value(one)
        yield family


def _disk_figures(found: Sequence[Disk]) -> Iterator[MetricFamily]:
    free = MetricFamily("apihour_disk_free_bytes", "gauge",
                  "What is left of a file system for who is not root")
    size = MetricFamily("apihour_disk_size_bytes", "gauge", "How large a file system is")
    for one in found:
        labels = ("of", one.what), ("path", one.path)
        free.values[labels], size.values[labels] = one.free, one.size
    yield from (free, size)


def _certificate_figures(expiry: Mapping[Labels, float]) -> Iterator[MetricFamily]:
    family = MetricFamily("apihour_certificate_days_left", "gauge",
                    "Days until a certificate that is served expires")
    now = time.monotonic()
    family.values = {labels: round((until - now) / _DAY, 3) for labels, until in expiry.items()}
    if expiry:
        yield family


def _label_text(labels: Labels) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def render(families: Sequence[MetricFamily]) -> str:
    """The Prometheus text exposition format 0.0.4 of those families."""
    lines: list[str] = []
    for family in families:
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.type}"]
        for name, labels, value in family.samples():
            text = f"{{{_label_text(labels)}}}" if labels else ""
            number = int(value) if float(value).is_integer() else value
            lines.append(f"{name}{text} {number}")
    return "\n".join(lines) + "\n"


def readiness(census: Census) -> tuple[bool, str]:
    """Whether new connections are welcome, and why not or how many workers take them."""
    leaving = {one.arbiter for one in census.daemons() if one.unready or not one.alive}
    there = [one for one in census.workers() if one.arbiter not in leaving]
    taking = [one for one in there if one.row.state == "serving" and one.row.accepting
              and not one.is_stopped]
    ready = [one for one in taking if not one.row.engines_down]
    if ready:
        return True, f"{len(ready)} of {len(there)} workers accept"
    if taking:
        return False, f"of {len(taking)} workers that accept, each has an engine that is down"
    if leaving and not there:
        return False, "the daemon is stopping"
    return False, f"none of {len(there)} workers accepts"

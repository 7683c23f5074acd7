"""HTTP on one core: apihour beside its peers, one table, every ratio from one run.

How to run, about fifteen minutes, nothing else running (wrk is needed: apt-get install wrk;
nginx is optional: apt-get install nginx-light; socketify wants libuv1 and zlib1g)::

    python benchmarks/http.py [--venv DIR] [--python /usr/bin/python3.11] [--chart FILE]

The peers are installed by it, from PyPI, into ``--venv``, made with ``--python``: Debian's is
an optimised build, which most of pyenv's are not. Then each case runs in interleaved rounds,
the server on CPU 1 and wrk on CPU 0, and medians are printed: answers a second, the server's
CPU time an answer, latency. Requests differ from one to the next, as those of clients do; the
case that repeats the same bytes is there to show what that flatters. The goals follow, each
with pass or FAIL. ``--growth``, ``--workers`` and ``--log`` measure apihour alone.

    --cases query,post   only these       --servers apihour,granian   names that contain these
    --rounds N  --seconds S               instead of each case's own
    --quick                               one short round of each, to try the script
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from _bench import Server, interpreter, median, ratio, table
from http_chart import Bar, draw
from http_extras import growth, price_of_log, two_workers
from http_goals import DIFFERING, DIRECT, goals
from http_load import CASES, Case, Sample, WrongAnswer, measure, verify, wrk_missing
from http_servers import SERVERS, Peer, about, awake, environment, running
from peer_options import chosen_peers, peer_arguments

WARM = 0.3  # seconds of load before the first round counts: caches fill, code specialises
OURS = DIRECT["async def"]
BUSY = 1.5  # load of the machine before the first case, from which it has other work to do
SATURATED = 0.97  # of a CPU: from here on wrk is what limits the rate


@dataclass
class Result:
    """What one server did in one case: its samples, or why there are none."""

    peer: Peer
    samples: list[Sample] = field(default_factory=list)
    failure: str = ""

    def rates(self) -> list[float]:
        return [sample.rate for sample in self.samples]

    def costs(self) -> list[float]:
        return [sample.cpu for sample in self.samples]


Results = dict[str, Result]


def run_case(case: Case, servers: dict[str, tuple[Peer, Server]], rounds: int) -> Results:
    """Measure `case` on those of `servers` that can do it, in an order that turns."""
    results: Results = {}
    for name, (peer, server) in servers.items():
        results[name] = result = Result(peer)
        try:
            with awake(peer, server):
                verify(case, server.port)
                measure(case, server, WARM)
        except (RuntimeError, OSError, WrongAnswer) as error:
            result.failure = why(error, server)
    for number in range(rounds):
        names = [name for name, result in results.items() if not result.failure]
        turn = number % max(1, len(names))
        for name in names[turn:] + names[:turn]:
            peer, server = servers[name]
            try:
                with awake(peer, server):
                    results[name].samples.append(measure(case, server, case.seconds))
            except (RuntimeError, OSError) as error:
                results[name].failure = why(error, server)
    return results


def why(error: Exception, server: Server) -> str:
    """One line: the error, or what the server said when it ended."""
    if server.process.poll() is None or not server.lines:
        return str(error).splitlines()[0]
    fatal = [line for line in server.lines if "Fatal" in line or "Error" in line]
    return f"ended with status {server.process.returncode}: {[*server.lines, *fatal][-1].strip()}"


def run_all(
    cases: list[Case], peers: list[Peer], venv: Path, missing: dict[str, str]
) -> dict[str, Results]:
    """Every case; servers are started once, except those that need a form for each."""
    found: dict[str, Results] = {}
    with contextlib.ExitStack() as stack:
        lasting: dict[str, tuple[Peer, Server]] = {}
        for peer in peers:
            if peer.per_case or peer.name in missing:
                continue
            try:
                lasting[peer.name] = (peer, stack.enter_context(running(peer, venv, "")))
            except RuntimeError as error:
                missing[peer.name] = last_words(error)
        for case in cases:
            began = time.monotonic()
            for name, (peer, server) in lasting.items():
                if server.process.poll() is not None:
                    lasting[name] = (peer, stack.enter_context(running(peer, venv, "")))
            with contextlib.ExitStack() as once:
                servers = {
                    peer.name: (peer, once.enter_context(running(peer, venv, case.name)))
                    for peer in peers if peer.per_case and peer.takes(case.name)
                } | {name: pair for name, pair in lasting.items() if pair[0].takes(case.name)}
                found[case.name] = run_case(case, servers, case.rounds)
            print(case_table(case, found[case.name]), flush=True)
            print(f"{time.monotonic() - began:.0f} s\n", file=sys.stderr)
    return found


def last_words(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1][:100]


# What is printed


def case_table(case: Case, results: Results) -> str:
    """The servers of one case, the cheapest first, and why others are missing."""
    done = [result for result in results.values() if not result.failure and result.samples]
    limit = next((result for result in done if result.peer.kind == "limit"), None)
    ours = results.get(OURS)
    by_cpu = any(median([s.load for s in result.samples]) > SATURATED for result in done)
    done.sort(key=lambda result: median(result.costs()))
    rows = []
    for result in done:
        saturated = median([sample.load for sample in result.samples]) > SATURATED
        rows.append([
            result.peer.name, f"{median(result.rates()):,.0f}{'*' if saturated else ''}",
            shown(result, limit, "rates"), shown(result, limit, "costs"),
            shown(ours, result, "rates"), shown(ours, result, "costs"),
            f"{median(result.costs()):.1f}",
            f"{median([s.p50 for s in result.samples]):.2f}",
            f"{median([s.p99 for s in result.samples]):.2f}",
            f"{median([s.load for s in result.samples]):.0%}",
        ])
    said = table([
        f"{case.title} ({case.rounds} x {case.seconds:g} s, {case.connections} connections)",
        "answers/s", "of limit", "by CPU", "ours is", "by CPU", "CPU µs", "p50 ms", "p99 ms",
        "load",
    ], rows)
    notes = [f"{result.peer.name}: {result.failure}" for result in results.values()
             if result.failure]
    if by_cpu:
        notes.insert(0, "* wrk saturates: compare CPU time an answer")
    return "\n".join([said, *notes, ""])


def shown(result: Result | None, base: Result | None, what: str) -> str:
    """How many times `base` the result is, within rounds; by CPU the other way round."""
    figure = compared(result, base, what)
    if figure is None:
        return "-"
    return f"{figure:.2f}" if figure < 10 else f"{figure:.1f}"


def compared(result: Result | None, base: Result | None, what: str = "costs") -> float | None:
    """As :func:`shown`; None when one of both has not been measured in all rounds."""
    if result is None or base is None or not result.samples or result.failure or base.failure:
        return None
    if len(result.samples) != len(base.samples):
        return None
    if what == "costs":
        result, base = base, result
    return ratio(getattr(result, what)(), getattr(base, what)())


def summary(found: dict[str, Results], peers: list[Peer], missing: dict[str, str]) -> str:
    """The one table: what an answer of each server costs, relative to apihour's."""
    rows: list[list[object]] = []
    for peer in peers:
        rows.append([peer.name, *(
            shown(results.get(OURS), results.get(peer.name), "costs")
            for results in found.values())])
    notes = [f"{name}: {reason}" for name, reason in missing.items()]
    for case, results in found.items():
        ahead = [result.peer.name for result in results.values()
                 if result.peer.kind == "python" and below(result, results.get(OURS))]
        if ahead:
            notes.append(f"ahead of apihour in {case}: {', '.join(ahead)}")
    return "\n".join([table(["CPU an answer, apihour = 1", *found], rows), *notes])


def below(result: Result, ours: Result | None) -> bool:
    """Whether an answer of `result` costs less CPU time than ours."""
    if result.failure or not result.samples or ours is None or not ours.samples:
        return False
    return median(result.costs()) < median(ours.costs())


def reached(found: dict[str, Results], busy: bool) -> str:
    """The table of goals; on a busy machine it says nothing of peers that spin."""
    def cost(case: str, peer: str, ours: str) -> float | None:
        results = found.get(case, {})
        theirs = results.get(peer)
        if theirs is not None and busy and theirs.peer.spins:
            return None
        return compared(results.get(ours), theirs)
    return goals(cost)


def chart(found: dict[str, Results], footnote: str, busy: bool) -> str:
    """What a second of a core's time answers of requests that differ, the most first.

    By CPU time, which a wrk that saturates does not change. On a busy machine those that spin
    while they wait are left out: there they wait for the load, and it would count as cost.
    """
    first, *others = (found[case] for case in DIFFERING)
    bars = []
    for name, result in first.items():
        each = [result, *(results[name] for results in others if name in results)]
        if any(one.failure or not one.samples for one in each) or "aiohttp's parser" in name:
            continue
        if busy and result.peer.spins:
            footnote += f", no {name} (spins)"
            continue
        values = tuple(1e6 / median(one.costs()) for one in each)
        bars.append(Bar(name.removeprefix("limit: "), values, result.peer.kind))
    bars.sort(key=lambda bar: -bar.values[0])
    return draw(
        "JSON requests answered in one second of a core's time",
        "every request differs; one worker, keep-alive, the load on another core; more is better",
        ("own query and request id", "a browser's headers, own cookie"), footnote, bars)


# The command


def options() -> argparse.Namespace:
    parser = peer_arguments(__doc__, 0, 0.0)
    parser.add_argument("--cases", default="", help="query,browser,...: only these")
    parser.add_argument("--chart", type=Path, help="write the chart to this SVG file")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    for name in ("growth", "workers", "log"):
        parser.add_argument(f"--{name}", action="store_true", help="measure this, of apihour")
    return parser.parse_args()


def chosen(found: argparse.Namespace) -> tuple[list[Case], list[Peer]]:
    """The cases and servers asked for, with the rounds asked for; SystemExit names a bad one."""
    wanted = [name for name in found.cases.split(",") if name]
    for name in wanted:
        if name not in {case.name for case in CASES}:
            raise SystemExit(f"--cases {name}: expected {', '.join(case.name for case in CASES)}")
    cases = [case for case in CASES if not wanted or case.name in wanted]
    rounds, seconds = found.rounds, found.seconds
    if found.quick:
        rounds, seconds = rounds or 1, seconds or 1.0
    cases = [replace(case, rounds=rounds or case.rounds, seconds=seconds or case.seconds)
             for case in cases]
    return cases, chosen_peers(found.servers, SERVERS)


def main() -> None:
    found = options()
    cases, peers = chosen(found)
    if reason := wrk_missing():
        raise SystemExit(reason)
    missing = environment(found.venv, found.python, peers)
    lines = about(found.venv, peers)
    print(f"servers: {lines[0]}\n{lines[1]}\nhere: {interpreter()}, wrk\n", flush=True)
    alone = {"growth": growth, "workers": two_workers, "log": price_of_log}
    asked = [name for name in alone if getattr(found, name)]
    for name in asked:
        print(alone[name](found.venv, found.quick), end="\n\n", flush=True)
    if asked and not found.cases:
        return
    busy = os.getloadavg()[0] > BUSY
    results = run_all(cases, peers, found.venv, missing)
    print(summary(results, peers, missing))
    print(f"\n{reached(results, busy)}")
    write(found, results, lines[0], busy)


def write(
    found: argparse.Namespace, results: dict[str, Results], built: str, busy: bool
) -> None:
    """The files asked for."""
    if found.chart and all(case in results for case in DIFFERING):
        footnote = f"{built.partition(' at ')[0]}, benchmarks/http.py, {time.strftime('%Y-%m-%d')}"
        footnote += ", preliminary (busy machine)" if busy else ""
        found.chart.write_text(chart(results, footnote, busy))
    if found.json:
        found.json.write_text(json.dumps({
            "interpreter": built,
            "cases": {
                case: {name: {"failure": result.failure,
                              "samples": [asdict(sample) for sample in result.samples]}
                       for name, result in servers.items()}
                for case, servers in results.items()
            },
        }, indent=1))


if __name__ == "__main__":
    main()

"""apihour alone: memory over a million requests, a second worker's price, the log's price."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from _bench import Server, interleave, median, memory, ratio, table, tree
from http_goals import DIRECT
from http_load import CASES, Case, Sample, measure
from http_servers import SERVERS, Peer, running

BY_NAME = {case.name: case for case in CASES}
OURS = next(peer for peer in SERVERS if peer.name == DIRECT["async def"])
HOSTED = next(peer for peer in SERVERS if peer.name == "apihour + aiohttp app")
GROWTH = {"query": 1_000_000, "close": 100_000, "post": 100_000}


def worker_memory(server: Server) -> float:
    """Resident memory of the last process of the tree, the worker, in MB."""
    return memory(tree(server.pid)[-1])["rss"]


def ask_for(case: Case, server: Server, requests: int) -> int:
    """Load until so many requests are answered; returns how many it were."""
    answered = 0
    while answered < requests:
        answered += measure(case, server, 5.0 if requests > 50_000 else 1.0).requests
    return answered


def growth(venv: Path, quick: bool) -> str:
    """Resident memory before and after a million requests, by case, on both lanes."""
    rows: list[list[object]] = []
    for peer in (OURS, HOSTED):
        with running(peer, venv, "") as server:
            for name, requests in GROWTH.items():
                case = BY_NAME[name]
                requests //= 50 if quick else 1
                ask_for(case, server, requests // 10)
                before = worker_memory(server)
                answered = ask_for(case, server, requests)
                after = worker_memory(server)
                rows.append([
                    f"{peer.name}, {case.title}", f"{answered:,}", f"{before:.2f}",
                    f"{after:.2f}", f"{(after - before) * 1e6 / answered:+.3f}",
                ])
    return table(["worker's resident memory, MB", "requests", "before", "after", "bytes each"],
                 rows)


def compared(
    makers: dict[str, Callable[[contextlib.ExitStack], Server]], rounds: int, seconds: float,
    connections: Callable[[str], int] = lambda name: 64,
) -> tuple[dict[str, list[float]], dict[str, list[Sample]]]:
    """CPU time an answer in case (a) of servers in interleaved rounds, and all samples."""
    samples: dict[str, list[Sample]] = {name: [] for name in makers}

    def one(name: str, server: Server) -> float:
        case = replace(BY_NAME["query"], connections=connections(name))
        samples[name].append(measure(case, server, seconds))
        return samples[name][-1].cpu

    with contextlib.ExitStack() as stack:
        servers = {name: make(stack) for name, make in makers.items()}
        costs = interleave({
            name: lambda n=name, s=server: one(n, s)  # type: ignore[misc]
            for name, server in servers.items()
        }, rounds)
    return costs, samples


def two_workers(venv: Path, quick: bool) -> str:
    """CPU time an answer of one worker and of two, all on one CPU, 64 connections each."""
    costs, samples = compared({
        f"{workers} worker{'s' * (workers > 1)}": lambda stack, w=workers: stack.enter_context(  # type: ignore[misc]
            running(OURS, venv, "", workers=w))
        for workers in (1, 2)
    }, *((3, 1.0) if quick else (9, 1.0)), lambda name: 64 * int(name[0]))
    return table(
        ["workers", "CPU µs", "of one", "answers/s"],
        [[name, f"{median(figures):.2f}", f"{ratio(figures, costs['1 worker']):.3f}",
          f"{median([s.rate for s in samples[name][1:]]):,.0f}"]
         for name, figures in costs.items()],
    )


def price_of_log(venv: Path, quick: bool) -> str:
    """CPU time an answer without an access log, and with one in each format."""
    with tempfile.TemporaryDirectory() as where:
        costs, samples = compared({
            style: lambda stack, s=style: stack.enter_context(  # type: ignore[misc]
                running(logged(s, Path(where)), venv, ""))
            for style in ("off", "common", "combined", "json")
        }, *((3, 1.0) if quick else (9, 1.0)))
        written = {path.name: path.stat().st_size for path in Path(where).iterdir()}
    return table(
        ["access log", "CPU µs", "more", "of off", "answers/s", "MB written"],
        [[style, f"{median(figures):.2f}",
          f"{median([a - b for a, b in zip(figures, costs['off'], strict=True)]):+.2f}",
          f"{ratio(figures, costs['off']):.3f}",
          f"{median([s.rate for s in samples[style][1:]]):,.0f}",
          f"{written.get(style, 0) / 1e6:.1f}"] for style, figures in costs.items()],
    )


def logged(style: str, where: Path) -> Peer:
    """apihour with its access log in a file called `style`."""
    if style == "off":
        return OURS
    return replace(OURS, command=lambda start: [
        *OURS.command(start), "--access-logfile", where / style, "--access-logformat", style,
    ])

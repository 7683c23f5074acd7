"""Prints docs/reference/metrics.rst: every metric of a daemon that serves all protocols.

::

    python docs/make_metrics.py > docs/reference/metrics.rst

It starts a daemon, so that what stands there is what is served. A test compares the names in the
committed file with those of a daemon of its own.
"""

from __future__ import annotations

import re
import sys
import tempfile
import textwrap
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.certificates import Authority  # noqa: E402 (as above)

from apihour.testing import Daemon  # noqa: E402 (of this checkout)

APPLICATION = '''\
import asyncio

import apihour
from apihour.engines import SQLite
from apihour_http import HTTPServer, Routes
from apihour_ssh import SSHServer

routes = Routes()


@routes.get("/")
async def index(request):
    return {}


async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0?tls", "asgi": "127.0.0.1:0", "ssh": "127.0.0.1:0",
             "tcp": "127.0.0.1:0", "udp": "udp://127.0.0.1:0"}

    @apihour.every("1h")
    async def tidy(self): ...

    def make_engines(self):
        return {"files": SQLite("files.db")}

    def make_servers(self):
        ssh = SSHServer(lambda: None, host_keys="keys/host", authorized_keys="keys/users")
        return {"http": HTTPServer(routes), "asgi": asgi, "ssh": ssh,
                "tcp": asyncio.Protocol, "udp": asyncio.DatagramProtocol}
'''

_HEAD = """\
Metrics
=======

.. This file is made by docs/make_metrics.py; edit the help texts in the code instead.

What ``--health ADDRESS`` serves at ``/metrics``, in Prometheus' text format. Counters are sums
over all workers, those that have left included, so they only grow. Figures of a worker that does
not answer are its last ones. Nothing waits for a worker's loop.

Metrics of a server have the labels ``server`` (its name) and ``protocol``; which there are depends
on the protocol. What ``statistics()`` of a plugin of yours returns is here as
``apihour_server_NAME_total``. `Operations <../operations.rst#health-and-metrics>`_ says how to
serve them.
"""
_PARTS = (("The daemon", "apihour_"), ("Each worker", "apihour_worker_"),
          ("Each server", "apihour_server_"), ("Each engine", "apihour_engine_"),
          ("Each job", "apihour_job_"))


@dataclass
class Metric:
    """A name, as ``/metrics`` tells of it; `protocols` are those of servers that have it."""

    name: str
    type: str = ""
    help: str = ""
    labels: set[str] = field(default_factory=set)
    protocols: set[str] = field(default_factory=set)


def scraped() -> dict[str, Metric]:
    """All metrics of a daemon with HTTP over TLS, ASGI, SSH, TCP, UDP, an engine."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "house.py").write_text(APPLICATION)
        certificate, _ = Authority(directory).issue("localhost")
        options = ("--template", "--certfile", str(certificate), "--health", "127.0.0.1:0")
        with Daemon("house:Container", *options, cwd=directory, workers=1) as daemon:
            port = daemon.wait_log(r"@health=").rpartition(":")[2]

            def ask() -> str:
                url = f"http://127.0.0.1:{port}/metrics"
                with urllib.request.urlopen(url, timeout=30) as answer:
                    text = answer.read().decode()
                return text if "apihour_certificate_days_left{" in text else ""

            return parsed(daemon.wait(ask, "all metrics"))


def parsed(text: str) -> dict[str, Metric]:
    """The metrics of a text in Prometheus' format."""
    found: dict[str, Metric] = defaultdict(lambda: Metric(""))
    for line in text.splitlines():
        told = re.match(r"# (HELP|TYPE) (\S+) (.*)", line)
        if told:
            metric = found[told[2]]
            metric.name = told[2]
            setattr(metric, told[1].lower(), told[3])
            continue
        sample = re.match(r"(\w+)(?:\{(.*)\})? ", line)
        assert sample is not None, line
        short = re.sub(r"_(bucket|sum|count)$", "", sample[1])
        metric = found[sample[1] if sample[1] in found else short]
        labels = dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or ""))
        metric.labels |= labels.keys() - {"le"}
        metric.protocols |= {labels["protocol"]} if "protocol" in labels else set()
    return dict(found)


def make() -> str:
    """The whole text of docs/reference/metrics.rst."""
    found = scraped()
    lines = [_HEAD]
    for title, prefix in _PARTS:
        longer = [other for _, other in _PARTS if other != prefix and other.startswith(prefix)]
        names = [name for name in sorted(found) if name.startswith(prefix)
                 and not any(name.startswith(other) for other in longer)]
        lines += [title, "-" * len(title), "", ".. list-table::", "   :header-rows: 1",
                  "   :widths: 45 15 40", ""]
        rows = [("Name", "Type", "What it is"), *(_row(found[name]) for name in names)]
        for row in rows:
            lines += _cells(row)
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _row(metric: Metric) -> tuple[str, str, str]:
    own = sorted(metric.labels - {"server", "protocol"})
    text = metric.help + (f", by {', '.join(f'``{one}``' for one in own)}" if own else "")
    if metric.protocols and len(metric.protocols) < 5:
        text += f" ({', '.join(sorted(metric.protocols))})"
    return f"``{metric.name}``", metric.type, f"{text}."


def _cells(row: tuple[str, ...]) -> Iterator[str]:
    for position, cell in enumerate(row):
        yield from textwrap.wrap(
            cell, 99, initial_indent="   * - " if position == 0 else "     - ",
            subsequent_indent=" " * 7, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.stdout.write(make())

"""aiohttp's own functional tests, run against the full lane: what passes, and what not and why.

python benchmarks/suites/aiohttp_functional.py [DIRECTORY] [--theirs] [pytest arguments]

DIRECTORY is an unpacked source distribution of the installed aiohttp; without one it is
downloaded with pip. Its tests that speak to a server through ``aiohttp.test_utils`` are run
where they are, the server being ours (``--theirs``: aiohttp's, for comparison). Needs
pytest-mock, re-assert, trustme, isal, zlib-ng, freezegun, proxy.py and blockbuster beside
apihour[test], and for the download setuptools 77 or newer and pkgconfig. What cannot hold here, by
its nature, is named in ``DIFFERENT`` with the reason, and what fails with aiohttp's server too in
``THEIRS``; the exit status is 1 for anything else, and for one named that does not fail any more.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

FILES = [f"tests/test_{name}.py" for name in (
    "client_functional", "client_middleware", "client_middleware_digest_auth", "client_session",
    "client_ws_functional", "formdata", "test_utils", "web_app", "web_exceptions",
    "web_functional", "web_log", "web_middleware", "web_sendfile_functional", "web_server",
    "web_urldispatcher", "web_websocket_functional",
)]
# What an owner of a connection may tell aiohttp, as ours is told.
OPTIONS = {"keepalive_timeout": "keepalive", "max_line_size": "max_line",
           "max_field_size": "max_field", "max_headers": "max_fields"}
WITHOUT = ("access_log", "access_log_class", "access_log_format", "lingering_time", "tcp_keepalive")
INSIDE = "looks at what is inside aiohttp's connection, which is not in use: "
LOGS = "the text of aiohttp's own log lines"
DIFFERENT = {
    "test_large_header": "431 where aiohttp says 400 (RFC 6585 5)",
    "test_http1_pipelined_requests_are_count_limited": INSIDE + "its queue of messages",
    "test_http1_pipelined_queue_resumes_after_drain": INSIDE + "its queue of messages",
    "test_upgrade_tail_is_byte_limited": INSIDE + "its tail; ours has 64 KiB",
    "test_upgrade_tail_resumes_reading_after_websocket_prepare": INSIDE + "its tail",
    "test_unread_compressed_body_drain_is_bounded":
        INSIDE + "its readany(); an unread body is discarded without decoding it",
    "test_keepalive_expires_on_time": INSIDE + "its timer",
    "test_contextvars_logger": "the access log is ours, not a class of the application's",
    "test_raw_server_logs_invalid_method_with_loop_debug": LOGS,
    "test_raw_server_logs_invalid_method_without_loop_debug": LOGS,
    "test_raw_server_do_not_swallow_exceptions": LOGS,
    "test_raw_server_cancelled_in_write_eof": LOGS,
    "test_trickled_headers_closed_at_first_request_deadline":
        "a head has header_timeout (10 s), not the keep-alive time",
}
ROOT = "fails for root, who may read every file"
THEIRS = {
    "test_static_directory_without_read_permission": ROOT,
    "test_static_file_without_read_permission": ROOT,
}


def unpack(directory: str) -> Path:
    """The sources of the installed aiohttp, downloaded into `directory`."""
    import aiohttp

    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
         "--no-build-isolation", f"aiohttp=={aiohttp.__version__}", "-d", directory], check=True)
    (archive,) = Path(directory).glob("aiohttp-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(directory, filter="data")
    (found,) = (path for path in Path(directory).iterdir() if path.is_dir())
    return found


async def start(site: Any) -> None:
    """In place of ``SockSite.start``: the same application, behind our connection."""
    from aiohttp.web_runner import BaseSite

    from apihour_http import HTTPServer

    await BaseSite.start(site)
    manager = site._runner.server
    told = {OPTIONS[name]: manager._kwargs.pop(name) for name in OPTIONS if name in manager._kwargs}
    for name in WITHOUT:
        manager._kwargs.pop(name, None)
    server = HTTPServer(app=manager, max_body=1 << 26, **told)
    logger = manager._kwargs.get("logger")
    await server.start(SimpleNamespace(logger=logger))
    site._server = await asyncio.get_running_loop().create_server(
        server.stream, sock=site._sock, ssl=site._ssl_context, backlog=site._backlog)


class Outcomes:
    """A plugin for pytest: counts, and leaves out what is known."""

    def __init__(self, known: dict[str, str]) -> None:
        self.known = known
        self.passed = 0
        self.failed: list[str] = []
        self.differing: list[str] = []
        self.run: set[str] = set()

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.rpartition("::")[2].partition("[")[0]
        if report.failed and name in self.known:
            self.differing.append(name)
        elif report.failed:
            self.failed.append(report.nodeid)
        elif report.passed and report.when == "call":
            self.passed += 1
        if report.when == "call" and not report.skipped:
            self.run.add(name)

    def same(self) -> list[str]:
        """What is named as different, was run and did not fail."""
        return sorted(self.run.intersection(self.known).difference(self.differing))


def main() -> int:
    arguments = sys.argv[1:]
    theirs = "--theirs" in arguments
    arguments = [argument for argument in arguments if argument != "--theirs"]
    with tempfile.TemporaryDirectory() as temporary:
        given = bool(arguments) and not arguments[0].startswith("-")
        directory = Path(arguments.pop(0)) if given else unpack(temporary)
        if not theirs:
            from aiohttp import test_utils

            test_utils.SockSite.start = start  # type: ignore[method-assign]
        outcomes = Outcomes(THEIRS if theirs else DIFFERENT | THEIRS)
        files = [str(directory / name) for name in FILES]
        pytest.main([
            "--rootdir", str(directory), "-c", "/dev/null", "-p", "aiohttp.pytest_plugin",
            "-p", "no:asyncio", "-p", "no:cacheprovider", "-q", "--tb=line", "--timeout=60",
            *arguments, *files], plugins=[outcomes])
    print(f"{outcomes.passed} passed, {len(outcomes.differing)} differ for a reason that is "
          f"known, {len(outcomes.failed)} failed")
    for name in sorted(set(outcomes.differing)):
        print(f"  {name}: {outcomes.known[name]}")
    for nodeid in outcomes.failed:
        print(f"  FAILED {nodeid}")
    same = [name for name in outcomes.same() if outcomes.known[name] != ROOT or not os.geteuid()]
    for name in same:
        print(f"  NOT DIFFERENT any more: {name}, expected: {outcomes.known[name]}")
    return bool(outcomes.failed or same)


if __name__ == "__main__":
    sys.exit(main())

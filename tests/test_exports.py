"""The public names: of the core, of each plugin, of the helpers for tests.

A name that goes, or comes, is a change users notice: it belongs in the changelog.
"""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

EXPORTS = {
    "apihour": [
        "AdaptError", "AddressError", "ApihourError", "BindError", "BusDownError",
        "BusError", "BusTimeoutError", "ConfigurationError",
        "Container", "HookError", "JobError", "JobRun", "NoResponderError",
        "Plugin", "PluginError", "Registry",
        "RevisionError", "Server", "ServerContext", "SharedBusyError", "SharedDownError",
        "SharedError",
        "SharedFullError", "TargetError", "UsageError", "__version__", "command", "cron", "every",
    ],
    "apihour.testing": ["Daemon", "Failure", "Load", "Outcome", "Report"],
    "apihour_asgi": ["ASGIServer", "LifespanError"],
    "apihour_grpc": ["GRPCServer"],
    "apihour_http": [
        "CONTAINER", "Depends", "Event", "HTML", "HTTPClient", "HTTPError", "HTTPServer", "JSON",
        "Request", "Response", "RouteError", "Routes", "RowSet", "SSE", "Stream", "WebSocket",
        "WebSocketDisconnect",
    ],
    "apihour_http.testing": ["Answer", "Client"],
    "apihour_mux": ["Mux", "MuxEntry"],
    "apihour_proxy": ["Proxy"],
    "apihour_ssh": [
        "COMPATIBLE", "STRICT", "Admission", "Algorithms", "Limits", "SSHServer", "Shell",
        "TokenBucket",
    ],
    "apihour_tcp": ["LibraryServer", "TCPServer", "UDPServer"],
    "apihour_wsgi": ["WSGIServer"],
}

KEPT = {
    "apihour.bus": [
        "Bus", "BusDownError", "BusError", "BusMessage", "BusTimeoutError", "Gap",
        "NoResponderError", "Subscription", "open_bus",
    ],
    "apihour.ops": [
        "GLOBAL_OPTIONS", "Address", "Bytes", "Catalogue", "Collects", "Column", "Command",
        "CommandFailed", "CommandName", "ConnectionId", "Duration", "Kind", "LoggerName",
        "Parameter", "Percent", "Role", "Scope", "Seconds", "Secret", "ServerName", "Short",
        "TaskId", "Worker", "command", "stamp", "to_rows",
    ],
    "apihour.engines": [
        "EngineBusyError", "EngineDownError", "EngineError", "MySQL", "Postgres", "Psycopg",
        "Redis", "Resource", "SQLite", "Transaction",
    ],
    "apihour.presence": [
        "ContainerPresence", "PresenceChange", "PresenceEntry", "PresenceError",
    ],
    "apihour.shared": [
        "Change", "CompareAndSet", "Entry", "Leases", "Shared", "SharedBackend",
        "SharedCache", "SharedStatistics", "Wish",
    ],
}

STAND_ALONE = [name for name in EXPORTS if name.startswith("apihour_")]
HEAVY = ["aiohttp", "asyncssh", "ujson", "aiodns", "uvicorn", "uvloop", "yaml", "prompt_toolkit",
         "msgspec", "httptools"]


def in_a_fresh_interpreter(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", EXPORTS)
def test_the_public_names(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(EXPORTS[name])
    for each in module.__all__:
        assert getattr(module, each) is not None, each


@pytest.mark.parametrize("name", KEPT)
def test_the_names_that_documents_import_from_a_room(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(KEPT[name])
    for each in KEPT[name]:
        assert getattr(module, each) is not None, each


@pytest.mark.parametrize("name", EXPORTS)
def test_every_public_name_says_what_it_is(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for each in module.__all__:
        item = getattr(module, each)
        if isinstance(item, type) or callable(item):
            assert item.__doc__, each


@pytest.mark.parametrize("name", STAND_ALONE)
def test_a_plugin_package_needs_no_core(name: str) -> None:
    code = (f"import {name}, sys; [getattr({name}, each) for each in {name}.__all__];"
            "print('apihour' in sys.modules)")
    assert in_a_fresh_interpreter(code) == "False\n"


@pytest.mark.parametrize("name", STAND_ALONE)
def test_a_plugin_package_needs_no_other_plugin(name: str) -> None:
    code = (f"import {name}, sys; [getattr({name}, each) for each in {name}.__all__];"
            "print(sorted({m.split('.')[0] for m in sys.modules if m.startswith('apihour_')}))")
    assert in_a_fresh_interpreter(code) == f"['{name.partition('.')[0]}']\n"


def test_the_core_imports_no_protocol_library() -> None:
    code = ("import sys, apihour, apihour.worker.process, apihour.arbiter.arbiter;"
            "import apihour.cli.main, apihour.cli.check;"
            f"print([name for name in {HEAVY!r} if name in sys.modules],"
            "[name for name in sys.modules if name.startswith('apihour_')])")
    assert in_a_fresh_interpreter(code) == "[] []\n"


def test_asking_which_plugins_there_are_imports_no_protocol_library() -> None:
    code = ("import sys; from apihour.plugins import Registry; import asyncio;"
            "registry = Registry.from_entry_points();"
            "server = registry.adapt(asyncio.Protocol, 'stream', 'x');"
            f"print(server.protocol, [name for name in {HEAVY!r} if name in sys.modules])")
    assert in_a_fresh_interpreter(code) == "tcp []\n"


def test_nothing_of_the_bus_is_there_before_it_is_used() -> None:
    code = ("import asyncio, sys, apihour, apihour.worker.process, apihour.arbiter.arbiter\n"
            "async def main():\n"
            "    container = apihour.Container()\n"
            "    container.retire_made()\n"
            "    await container.close_made()\n"
            "asyncio.run(main())\n"
            "print([name for name in sys.modules if name.startswith(('apihour.bus', 'nats'))])")
    assert in_a_fresh_interpreter(code) == "[]\n"

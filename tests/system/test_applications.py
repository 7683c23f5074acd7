"""What can be served: bare applications, the ancestor's forms, and with packages missing."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from apihour.testing import Load
from tests.system.support import echo, get, refused, run

BLOCKED = "aiohttp,asyncssh,ujson,aiodns,uvloop,yaml,prompt_toolkit,uvicorn,httptools"


@pytest.mark.parametrize(("target", "framework"), [("bare:application", "aiohttp"),
                                                   ("bare:asgi", "asgi"),
                                                   ("bare:wsgi", "wsgi")])
def test_bare_application(apihour_daemon, system_apps, target, framework):
    daemon = apihour_daemon(target, "-b", "127.0.0.1:0", cwd=system_apps)
    name = next(line for line in daemon.lines if "Listening" in line).split("at: ")[1]
    address = name.partition("=")[2]
    assert get(address) == {"framework": framework}
    with Load("keep-alive", address, connections=4, think=0.002) as load:
        load.wait_answers(20)
        assert daemon.reload().ok
        load.wait_answers(20)
    assert not load.report.lost, load.report
    assert daemon.terminate() == 0
    if framework == "asgi":
        assert daemon.log.count("lifespan.startup") == 4
        assert daemon.log.count("lifespan.shutdown") == 4


def tree(app, greeting="from yaml"):
    """The ancestor's configuration tree of the application ``ancestors``."""
    root = app / "etc" / "ancestors"
    (root / "main").mkdir(parents=True)
    (root / "api_hour").mkdir()
    (root / "main" / "main.yaml").write_text(f"greeting: {greeting}\n")
    (root / "api_hour" / "gunicorn_conf.py").write_text(
        "bind = ['127.0.0.1:0', '127.0.0.1:0']\nworkers = 1\n")
    (root / "api_hour" / "logging.ini").write_text(
        "[loggers]\nkeys=root,errors\n[logger_errors]\nlevel=INFO\nhandlers=h\n"
        "qualname=gunicorn.error\npropagate=0\n[handlers]\nkeys=h\n[formatters]\nkeys=f\n[logger_root]\n"
        "level=INFO\nhandlers=h\n[handler_h]\nclass=StreamHandler\nformatter=f\n"
        "args=(sys.stdout,)\n[formatter_f]\nformat=ini: %(message)s\n")
    return root


@pytest.mark.parametrize("way", ["-ac", "--config_dir"])
def test_ancestors_list_and_configuration_tree(apihour_daemon, app, way):
    root = tree(app)
    options = ["-ac"] if way == "-ac" else ["--config_dir", str(root)]
    daemon = apihour_daemon("ancestors:ListContainer", *options, cwd=app, workers=None)
    daemon.wait_log("^ini: Listening at")
    first, second = [line.rpartition("=")[2] for line in daemon.lines if "Listening at" in line]
    assert get(first) == {"db": "open", "greeting": "from yaml", "loop": "asyncio"}
    (root / "main" / "main.yaml").write_text("greeting: changed\n")
    assert daemon.reload().ok
    daemon.wait(lambda: get(first)["greeting"] == "changed", "the new configuration")
    (root / "main" / "main.yaml").write_text("greeting: [\n")
    outcome = daemon.reload()
    assert not outcome.ok
    assert "main.yaml" in outcome.error
    host, _, port = second.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as sock:
        echo(sock)
    since = len(daemon.lines)
    assert daemon.terminate() == 0
    life = ["make_event_loop", "pre_start", "make_servers", "start"]
    words = [line.partition(" ")[0] for line in daemon.lines]
    hooks = [word for word in words if word in (*life, "shutdown", "cleanup")]
    assert hooks[:4] == life
    assert hooks[-2:] == ["shutdown", "cleanup"]
    assert "cleanup open" in daemon.lines[since:]


def test_ancestors_sockets_form(apihour_daemon, app):
    daemon = apihour_daemon(
        "ancestors:SocketsContainer", "-b", "a=127.0.0.1:0", "-b", "b=127.0.0.1:0", cwd=app)
    for _ in range(2):
        for name in ("a", "b"):
            for _ in range(5):
                with daemon.connect(name) as sock:
                    sock.sendall(b"hello\n")
                    assert sock.recv(100) == b"HELLO\n"
        assert daemon.reload().ok
    daemon.wait_log("finish_connections")
    assert daemon.terminate() == 0


def test_serves_with_packages_unimportable(apihour_daemon, system_apps):
    daemon = apihour_daemon(
        "echo:Container", cwd=system_apps,
        env={"PYTHONPATH": _path(system_apps), "BLOCKED": BLOCKED})
    with daemon.connect("echo") as sock:
        echo(sock)
    assert daemon.reload().ok
    with daemon.connect("echo") as sock:
        echo(sock)
    assert daemon.terminate() == 0
    assert "Traceback" not in daemon.log


def test_missing_package_names_what_to_install(system_apps):
    env = {"PYTHONPATH": _path(system_apps), "BLOCKED": BLOCKED}
    line = refused("bare:application", "--no-console", cwd=system_apps, env=env)
    assert "aiohttp" in line
    protocols = run("protocols", env=env)
    assert protocols.returncode == 0
    assert "tcp" in protocols.stdout


def test_core_imports_none_of_them():
    code = ("import sys, apihour.arbiter.arbiter, apihour.worker.process, apihour.cli.main\n"
            "print([m for m in sys.modules if m.split('.')[0] in sys.argv[1].split(',')])")
    result = subprocess.run([sys.executable, "-c", code, BLOCKED + ",apihour_http,apihour_tcp"],
                            capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def _path(directory):
    return os.pathsep.join(filter(None, [str(directory), os.environ.get("PYTHONPATH", "")]))


def test_check_says_what_would_be_served_where(system_apps):
    result = run("check", "house:Container", "-b", "echo=unix:/tmp/echo.sock", cwd=system_apps)
    assert result.returncode == 0, result.stderr
    words = [line.split() for line in result.stdout.splitlines()[1:]]
    assert ["echo", "tcp", "unix:/tmp/echo.sock"] in words
    assert ["udp", "udp", "udp://127.0.0.1:0"] in words
    assert ["http", "http", "127.0.0.1:0"] in words


def test_protocols_lists_the_plugins():
    result = run("protocols")
    assert {line.split()[0] for line in result.stdout.splitlines()} >= {
        "asgi", "http", "tcp", "udp"}


def test_dev_starts_again_on_a_change_and_survives_a_bad_one(apihour_daemon, app):
    (app / "etc").mkdir()
    (app / "dev_app.py").write_text(_DEV.format("one"))
    daemon = apihour_daemon("dev_app:Container", cwd=app, workers=None, wait=False,
                            command=(sys.executable, "-m", "apihour", "dev"))
    daemon.wait_log("this is one")
    daemon.wait_ready(1)
    (app / "dev_app.py").write_text("import json\n1 / 0  # broken\n")
    daemon.wait_log(r"dev_app\.py:2: 1 / 0  # broken: ZeroDivisionError")
    (app / "dev_app.py").write_text(_DEV.format("another"))
    daemon.wait_log("this is another")
    # Templates and configuration count as well as code.
    since = len(daemon.lines)
    (app / "page.html").write_text("<p>")
    daemon.wait_log("this is another", since=since)
    daemon.process.send_signal(signal.SIGINT)
    began = time.monotonic()
    daemon.wait(lambda: not daemon.processes(), "its end")
    assert time.monotonic() - began < 5


_DEV = """
import echo
class Container(echo.Container):
    async def start(self):
        print("this is {}", flush=True)
"""

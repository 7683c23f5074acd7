"""examples/plugin: a distribution of its own, installed, found, hosted, and judged by the suite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"
APPLICATION = """
import apihour
from apihour_finger import FingerServer


class Container(apihour.Container):
    binds = {"finger": "127.0.0.1:0"}

    def make_servers(self):
        return {"finger": FingerServer({"ann": "Ann, at her desk"})}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A directory with the distribution, as pip installs it."""
    directory = tmp_path_factory.mktemp("installed")
    source = directory / "source"
    subprocess.run(["cp", "-r", str(PLUGIN), str(source)], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
         "--no-index", "--target", str(directory / "site"), str(source)], check=True, timeout=120)
    return directory / "site"


def test_it_is_found_and_hosted_and_reloaded(apihour_daemon, installed, tmp_path):
    (tmp_path / "house.py").write_text(APPLICATION)
    daemon = apihour_daemon("house:Container", cwd=tmp_path, workers=2,
                            env={"PYTHONPATH": str(installed)})

    def ask():
        with daemon.connect("finger", 30) as sock:
            sock.sendall(b"ann\r\n")
            return sock.makefile("rb").read()

    assert ask() == ask() == b"Ann, at her desk\r\n"
    assert daemon.reload().ok
    assert ask() == b"Ann, at her desk\r\n"


def test_its_own_tests_pass(installed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         str(PLUGIN / "tests"), "--rootdir", str(tmp_path)], capture_output=True,
        text=True, timeout=110, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout or "100%" in done.stdout

"""What the tests with real processes share: applications to serve, and where they may change."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

APPS = Path(__file__).parent / "apps"


@pytest.fixture(scope="session")
def system_apps():
    """The directory of the applications; nobody writes there."""
    return APPS


@pytest.fixture
def app(tmp_path):
    """A copy of the applications for a test that deploys, as a directory to run in."""
    directory = tmp_path / "app"
    shutil.copytree(APPS, directory, ignore=shutil.ignore_patterns("__pycache__"))
    return directory


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, where this process may mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    if os.geteuid() or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "apihour-test", str(path)],
            capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)

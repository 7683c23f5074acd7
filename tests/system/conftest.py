"""What the tests with real processes share: applications to serve, and where they may change."""

import shutil
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

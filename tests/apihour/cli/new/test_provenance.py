"""Where apihour comes from."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.cli.new.provenance import chosen, installed_from
from apihour.errors import ConfigurationError
from apihour.version import __version__


def checkout(path: Path) -> Path:
    (path / "apihour").mkdir(parents=True)
    (path / "setup.cfg").touch()
    (path / "apihour" / "version.py").touch()
    return path


def recorded(record: dict[str, Any] | None) -> Any:
    """A distribution with such a direct_url.json."""
    text = json.dumps(record) if record is not None else None
    return SimpleNamespace(read_text={"direct_url.json": text}.get)


@pytest.mark.parametrize(("text", "expected"), [
    ("1.0", "==1.0"), ("2.1.0rc1", "==2.1.0rc1"), ("1.0.0.dev1", "==1.0.0.dev1"),
    ("https://example.org/apihour-1.0.tar.gz", "@ https://example.org/apihour-1.0.tar.gz"),
    ("git+https://example.org/apihour.git@v1", "@ git+https://example.org/apihour.git@v1"),
])
def test_versions_and_urls(text: str, expected: str) -> None:
    assert chosen(text) == expected


def test_paths_become_urls(tmp_path: Path) -> None:
    source = checkout(tmp_path / "a b")
    wheel = tmp_path / "apihour-1.0-py3-none-any.whl"
    wheel.touch()
    assert chosen(str(source)) == f"@ {tmp_path.as_uri()}/a%20b"
    assert chosen(str(wheel)) == f"@ {wheel.as_uri()}"


@pytest.mark.parametrize("text", [
    "", "latest", "/nonexistent", "https://example.org/a b", "1.0; import os", "1.0\n-e .", ".."])
def test_what_is_none_of_them_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a version, a wheel or a checkout"):
        chosen(text)


def test_a_checkout_is_itself(tmp_path: Path) -> None:
    source = checkout(tmp_path / "source")
    assert installed_from(source, recorded(None)) == f"@ {source.as_uri()}"


def test_this_one_is_found() -> None:
    root = Path(__file__).parents[4]
    assert installed_from() == f"@ {root.as_uri()}"


def test_an_index_gave_a_version(tmp_path: Path) -> None:
    assert installed_from(tmp_path, recorded(None)) == f"=={__version__}"


def test_a_wheel_is_found_again_while_it_is_there(tmp_path: Path) -> None:
    wheel = tmp_path / "a b.whl"
    wheel.touch()
    found = recorded({"url": wheel.as_uri(), "archive_info": {}})
    assert installed_from(tmp_path, found) == f"@ {wheel.as_uri()}"
    wheel.unlink()
    with pytest.raises(ConfigurationError, match=r"not there any more; say with --apihour"):
        installed_from(tmp_path, found)


def test_a_repository_is_named_by_its_commit(tmp_path: Path) -> None:
    found = recorded({"url": "https://example.org/apihour.git", "vcs_info": {
        "vcs": "git", "requested_revision": "main", "commit_id": "0123abc"}})
    assert installed_from(tmp_path, found) == "@ git+https://example.org/apihour.git@0123abc"

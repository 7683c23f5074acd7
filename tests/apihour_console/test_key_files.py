"""What a start says of the console's key files, and that the core asks the console for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from apihour import installed
from apihour.bind.sockets import see_keys
from apihour.errors import ConfigurationError, PluginError
from apihour.installed import key_files
from apihour_console.key_files import check_keys, has_keys

KEY = b"-----BEGIN OPENSSH " + b"PRIVATE KEY-----\n"  # no key, also to who looks for some


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    directory = tmp_path / "keys"
    directory.mkdir(mode=0o700)
    return directory


def write(path: Path, data: bytes, mode: int) -> None:
    path.write_bytes(data)
    path.chmod(mode)


def test_nothing_yet_is_no_fault(keys: Path) -> None:
    check_keys(str(keys), os.geteuid())
    check_keys(str(keys / "missing"), os.geteuid())
    assert not has_keys(str(keys))
    write(keys / "authorized_keys", b"", 0o600)
    write(keys / "ssh_host_ed25519_key", KEY, 0o600)
    check_keys(str(keys), os.geteuid())
    assert has_keys(str(keys))


@pytest.mark.parametrize(("name", "data", "mode", "problem"), [
    ("ssh_host_ed25519_key", b"junk", 0o600, "expected a private key in PEM format"),
    ("ssh_host_ed25519_key", KEY, 0o644, "mode 0644 lets others read a private key; "
     "expected 0600: chmod 600 "),
    ("authorized_keys", b"", 0o666, "mode 0666 lets others write to it; expected 0644: "
     "chmod go-w "),
])
def test_what_is_refused(keys: Path, name: str, data: bytes, mode: int, problem: str) -> None:
    write(keys / name, data, mode)
    with pytest.raises(ValueError, match=f"^{keys / name}: {problem}"):
        check_keys(str(keys), os.geteuid())


def test_a_directory_of_another_user_and_no_directory(keys: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^expected a directory$"):
        check_keys(str(tmp_path / "file"), os.geteuid())
    if os.geteuid() == 0:
        os.chown(keys, 54321, -1)
        with pytest.raises(ValueError, match="is owned by uid 54321; expected 0 or root"):
            check_keys(str(keys), 0)


def test_the_core_asks_the_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_files().has_keys is has_keys
    (tmp_path / "file").touch()
    where = str(tmp_path / "file")
    with pytest.raises(ConfigurationError, match=f"^--keys '{where}': expected a directory$"):
        see_keys(where)
    monkeypatch.setattr(installed, "console_module", lambda: "json")
    with pytest.raises(PluginError, match=r"^the console's json\.key_files cannot be loaded"):
        see_keys(where)

"""fleet.key: what may be in it, and how it is changed while the hosts talk."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from apihour.errors import ConfigurationError
from apihour_console.hosts.fleet_keys import FleetKeys, read_fleet_keys
from tests.apihour_console.hosts.fleet_support import Fleet

OLD, NEW = b"o" * 64, b"n" * 64
LOGGER = logging.getLogger("tests.fleet")


def written(path: Path, *keys: bytes, mode: int = 0o600) -> Path:
    """As an operator copies it: another file takes its place."""
    whole = path.with_name("copied")
    whole.write_bytes(b"".join(key + b"\n" for key in keys))
    whole.chmod(mode)
    os.replace(whole, path)
    return path


def test_a_key_is_a_line(tmp_path: Path) -> None:
    path = written(tmp_path / "fleet.key", OLD, b"", NEW)
    assert read_fleet_keys(path) == (OLD, NEW)


@pytest.mark.parametrize(("keys", "mode", "said"), [
    ((OLD,), 0o644, "mode 0644 lets others read it; expected 0600: chmod 600"),
    ((OLD, b"short"), 0o600, "line 2 has 5 characters; expected 32 or more at random"),
    ((), 0o600, "it is empty; expected one that all hosts of the fleet have"),
    ((OLD, NEW, b"x" * 64, b"y" * 64, b"z" * 64), 0o600, "5 keys or more; expected 4 at most"),
    ((b"x" * 5000,), 0o600, "1 keys or more; expected 4 at most, the one to use first, in 4096"),
])
def test_what_is_no_key_is_said_with_its_file(
    tmp_path: Path, keys: tuple[bytes, ...], mode: int, said: str
) -> None:
    path = written(tmp_path / "fleet.key", *keys, mode=mode)
    with pytest.raises(ConfigurationError) as raised:
        read_fleet_keys(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert said in str(raised.value)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "fleet.key"
    with pytest.raises(ConfigurationError, match="there is none; expected one that all hosts"):
        read_fleet_keys(path)
    path.mkdir()
    with pytest.raises(ConfigurationError, match="expected a regular file"):
        read_fleet_keys(path)


def test_a_file_that_has_changed_is_read_again_and_a_bad_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = written(tmp_path / "fleet.key", OLD)
    keys = FleetKeys(path, LOGGER)
    assert keys() == (OLD,)
    written(path, OLD, NEW)
    assert keys() == (OLD, NEW)
    for wrong in ((b"short",), ()):
        written(path, *wrong)
        assert keys() == keys() == (OLD, NEW)
    path.unlink()
    assert keys() == (OLD, NEW)
    written(path, NEW)
    assert keys() == (NEW,)
    said = [record.message for record in caplog.records]
    assert [one.partition("fleet.key")[2] for one in said] == [
        " has changed: its first key of 2 seals now",
        ": line 1 has 5 characters; expected 32 or more at random, the same on every host; the "
        "keys that were there before stay",
        ": it is empty; expected one that all hosts of the fleet have: apihour keys fleet; the "
        "keys that were there before stay",
        ": there is none; expected one that all hosts of the fleet have: apihour keys fleet; the "
        "keys that were there before stay",
        " has changed: its first key of 1 seals now"]


async def test_a_key_is_changed_host_by_host_and_they_always_talk() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        keys = dict.fromkeys(fleet.hosts, (OLD,))
        for name, host in fleet.hosts.items():
            host._seal._keys = lambda name=name: keys[name]  # type: ignore[misc]
        for step in ((OLD, NEW), (NEW, OLD), (NEW,)):
            for name in fleet.hosts:
                keys[name] = step
                for at in fleet.hosts:
                    assert (await fleet.run(at, "workers", "--host", "all")).status == 0
                    assert not fleet.hosts[at].doubts()


async def test_a_host_with_another_key_is_told_to_who_is_asked() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        fleet.hosts["web-2"]._seal._keys = lambda: (NEW,)
        _, missing = await fleet.hosts["web-2"].rows()
        assert [one.worker for one in missing] == ["web-1"]
        (said,) = fleet.hosts["web-1"].doubts()
        assert "letters came that are sealed with another key, the last " in said

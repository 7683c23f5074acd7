"""Why a host is in no fleet: said by each command for several hosts, until it is mended."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.ipc.runtime import Runtime
from apihour.ops.model import Role
from apihour_console.calls.call import Identity
from apihour_console.calls.parsing import parse_call
from apihour_console.commands import operations
from apihour_console.fleet.fleet import Fleet
from apihour_console.hosts.waiting import joined
from apihour_console.key_files import FLEET_KEY
from apihour_console.shell.audit import AuditLog
from tests.apihour_console.support import wait_until

LOGGER = logging.getLogger("tests.fleet")
WHO = Identity("ann", "SHA256:x", Role.ADMIN, "127.0.0.1:5")


async def test_what_keeps_a_host_out_is_said_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in ("waiting", "joining"):
        monkeypatch.setattr(f"apihour_console.hosts.{module}._LOOK", 0.02)
    (tmp_path / "run").mkdir()
    fleet = Fleet(Runtime(tmp_path / "run"), LOGGER, operations.commands)
    key = tmp_path / "fleet.key"

    async def said(line: str) -> str:
        found = await fleet.execute(parse_call(line.split(), fleet.catalogue), WHO)
        assert found.status == 2
        return found.error or ""

    async with joined(fleet, tmp_path, "shop", AuditLog(None, LOGGER), LOGGER, lambda: True):
        await wait_until(lambda: "there is none" in fleet.alone)
        for line in ("hosts", "workers --host all", "reload --fleet"):
            assert await said(line) == (
                f"this host is in no fleet: {key}: there is none; expected a key that all hosts of "
                "the fleet have: apihour keys fleet")
        assert not caplog.records  # it need not be in one
        key.write_bytes(b"k" * 64 + b"\n")
        key.chmod(0o640)
        await wait_until(lambda: "mode 0640" in fleet.alone)
        assert await said("hosts") == (
            f"this host is in no fleet: {key}: mode 0640 lets others read it; expected 0600: "
            f"chmod 600 {key}")
        key.chmod(0o600)
        await wait_until(lambda: "no worker serves yet" in fleet.alone)
    assert [record.message.partition("fleet.key: ")[2][:9] for record in caplog.records] == [
        "mode 0640", ""]
    await fleet.close()


async def test_what_nobody_foresaw_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def vanished() -> list[Any]:
        raise OSError("the scoreboard is gone")

    key = tmp_path / FLEET_KEY
    key.touch(mode=0o600)
    key.write_text("k" * 64)
    fleet: Any = SimpleNamespace(census=SimpleNamespace(workers=vanished), hosts=None)
    audit: Any = None
    async with joined(fleet, tmp_path, "shop", audit, logging.getLogger("tests.fleet"),
                      lambda: True):
        await wait_until(lambda: "this host is in no fleet" in caplog.text)
    assert "the scoreboard is gone" in caplog.text

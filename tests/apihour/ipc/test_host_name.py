"""What a host is called, by all that tell of several."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from apihour.ipc.host_name import host_name
from apihour.jobs.container_jobs import holder
from apihour_console.shell.audit import daemon_label


@pytest.mark.parametrize(("variable", "machine", "name"), [
    ("", "web-1.example.org", "web-1"),
    ("web-2", "web-1.example.org", "web-2"),
    ("a b/c", "x", "a-b-c"),
])
def test_jobs_the_audit_log_and_the_fleet_have_one_name_for_a_host(
    variable: str, machine: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APIHOUR_HOST", variable)
    monkeypatch.setattr(socket, "gethostname", lambda: machine)
    many = SimpleNamespace(config={"shared": "valkey://127.0.0.1:1"})
    assert host_name() == name
    assert holder(many, "1.2") == f"{name}:1.2"
    assert holder(SimpleNamespace(config={}), "1.2") == "1.2"
    assert daemon_label(Path("/dev/shm/apihour-0/77"), "shop") == f"{name}/77 (shop)"

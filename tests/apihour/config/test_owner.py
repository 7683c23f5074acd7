"""Becoming another user, and being refused it."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn import util

from apihour.cli.dry_run import see_owner
from apihour.config.owner import become_owner
from apihour.errors import ConfigurationError


def configuration(uid: int) -> Any:
    return SimpleNamespace(uid=uid, gid=os.getegid(), initgroups=False)


def test_being_who_one_is_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", None)
    see_owner(configuration(os.geteuid()))
    become_owner(configuration(os.geteuid()))


@pytest.mark.parametrize("how", [become_owner, see_owner])
def test_what_the_system_refuses_is_one_line(how: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(uid: int, gid: int, initgroups: bool) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(util, "set_owner_process", refuse)
    with pytest.raises(ConfigurationError) as caught:
        how(configuration(54321))
    assert str(caught.value) == (
        f"--user 54321 --group {os.getegid()}: Operation not permitted for uid {os.geteuid()}; "
        "expected a start by root, or neither option")


def test_trying_changes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.getresuid()
    monkeypatch.setattr(util, "set_owner_process", lambda uid, gid, initgroups: None)
    see_owner(configuration(54321))
    assert os.getresuid() == before

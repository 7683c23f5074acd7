"""The console's commands beside the agents': one of the same name says that it merges."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from apihour.errors import ConfigurationError
from apihour.ipc.runtime import Runtime
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands import built_in
from apihour.ops.model import Role
from apihour_console.commands import operations
from apihour_console.fleet.fleet import Fleet


def entries(catalogue: Catalogue) -> dict[str, Any]:
    return {one.name: catalogue.entry(one.name) for one in catalogue}


def test_those_that_merge_and_no_others_have_a_namesake_in_the_agents() -> None:
    ours, theirs = entries(operations.commands), entries(built_in())
    merging = {name for name, entry in ours.items() if entry.merges}
    assert merging == ours.keys() & theirs.keys()
    assert {"stack", "conns", "logs"} <= merging


def test_whatever_acts_says_so_or_chooses_whom() -> None:
    every = built_in()
    every.update(operations.commands)
    acting = {one.name for one in every
              if one.acts or one.selects or any(p.acts for p in one.parameters)}
    look = {one.name for one in every if one.role > Role.OBSERVER} - acting
    # The latter are for other commands alone: ban, limit, certs, hosts.
    assert look == {"profile", "audit", "heed-bans", "heed-orders", "reload-certs",
                    "bus-settings"}
    assert {one.name for one in every if one.acts == "daemon"} == {
        "reload", "rollback", "upgrade", "scale", "ban", "unban", "suspend", "resume", "limit"}


def test_a_namesake_that_does_not_say_so_is_refused_at_start(
    tmp_path: Path
) -> None:
    commands = Catalogue()
    commands.update(operations.commands)

    @commands.command(collects="console")
    def statistics(context: Any) -> None:
        """The same name, by accident."""

    with pytest.raises(ConfigurationError) as refused:
        Fleet(Runtime(tmp_path), logging.getLogger("test"), commands)
    assert f"{__name__}." in str(refused.value)
    assert "apihour.ops.commands" in str(refused.value)

"""The arbiter is gunicorn's: what it has of its own under gunicorn's names is documented."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from apihour.arbiter.arbiter import HostArbiter
from apihour.worker.process import HostWorker

DOCUMENT = Path(__file__).parents[3] / "docs" / "gunicorn.rst"
# Told of in the table because whoever knows gunicorn looks for it.
NOT_USED = {"kill_worker", "manage_workers", "murder_workers", "reap_workers", "spawn_worker",
            "wait_for_signals"}


def overridden(ours: type, base: type) -> set[str]:
    """Names of the class that gunicorn's has as well, or sets on its instances."""
    source = inspect.getsource(base)
    return {name for name in vars(ours) if not name.startswith("__")
            and (hasattr(base, name) or re.search(rf"self\.{name}\b", source))}


def documented() -> set[str]:
    """The names in the first column of the table; ``handle_term/int`` are two."""
    table = DOCUMENT.read_text().split("Arbiter\n-------\n")[1].split("\nWorker\n------\n")[0]
    found: set[str] = set()
    for line in table.splitlines():
        for word in re.findall(r"``(\w[\w/]*)``", line[:27]):
            first, *others = word.split("/")
            found |= {first, *(f"{first.rpartition('_')[0]}_{other}" for other in others)}
    return found


def test_the_table_names_what_is_overridden_and_nothing_else() -> None:
    assert documented() - overridden(HostArbiter, Arbiter) == NOT_USED
    assert overridden(HostArbiter, Arbiter) - documented() == set()


@pytest.mark.parametrize("name", sorted(overridden(HostWorker, Worker)))
def test_what_the_worker_replaces_is_told(name: str) -> None:
    told = DOCUMENT.read_text().split("\nWorker\n------\n")[1].split("\nOptions\n")[0]
    assert f"``{name}``" in told


def test_gunicorns_names_are_those_of_the_books() -> None:
    names = {name for name, value in vars(HostArbiter).items() if isinstance(value, property)}
    assert {"WORKERS", "LISTENERS", "num_workers", "cfg", "app", "log", "pid"} <= names

"""The commands a worker carries out, in its agent thread or in its loop.

Each module holds one catalogue; a command is one typed function in it (see
:mod:`apihour.ops.catalogue`). What only reads and merges lives with the console instead.
"""

from __future__ import annotations

from apihour.ops.catalogue import Catalogue
from apihour.ops.commands import (
    cert_list,
    engine_list,
    flag_list,
    job_list,
    presence_list,
    process,
    profile,
    python,
    routes,
    servers,
    tasks,
)

__all__ = ["built_in"]


def built_in() -> Catalogue:
    """A new catalogue of everything that every worker can do."""
    catalogue = Catalogue()
    for module in (servers, cert_list, engine_list, tasks, routes, job_list, flag_list,
                   presence_list, profile, process, python):
        catalogue.update(module.commands)
    return catalogue

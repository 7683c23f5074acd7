"""The commands that the console carries out: about all workers at once, or about itself.

A command here that says ``merges=True`` goes before the agents' of its name, whose rows it
merges.
"""

from __future__ import annotations

from apihour.ops.catalogue import Catalogue
from apihour_console.commands import (
    about,
    banning,
    certs,
    code,
    ending,
    figures,
    host_list,
    limiting,
    lists,
    orders,
    routes,
    sessions,
    timeline,
    upstream_list,
    workers,
)

__all__ = ["commands"]

commands = Catalogue()
for _module in (about, workers, figures, code, orders, sessions,
                lists, banning, limiting, certs, ending, routes, timeline, host_list,
                upstream_list):
    commands.update(_module.commands)

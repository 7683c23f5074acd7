"""Prints docs/options.rst: every option, from the table that the code itself obeys.

::

    python docs/make_options.py > docs/options.rst

A test compares the committed file with this output.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from apihour.config.own import GUNICORN_SETTINGS, OWN
from apihour.config.settings import HostConfig
from apihour.config.verdicts import TABLE

_HEAD = """\
Options
=======

.. This file is made by docs/make_options.py; edit apihour/config/own.py or verdicts.py instead.

Every option can be given on the command line (``apihour module:Container --timeout 10``), in
``GUNICORN_CMD_ARGS``, and in a configuration file: Python assignments by the option's name
(``timeout = 10``), given as ``-c FILE`` or found as ``etc/NAME/api_hour/gunicorn_conf.py``
with ``-ac``. Later wins: the tree's file, ``-c``, the environment, the command line.

A name in a file that is nearly a setting and has no other use there is refused, with its line.

``apihour run --help`` prints those that can be given. A setting of gunicorn is *honoured*,
*replaced* (ours of the same name, or another default) or *refused*: given anyway, it is an error
that says why, not silently ignored.
"""

_OWN = """
apihour's own
-------------
"""

_HONOURED = """
gunicorn's, honoured
--------------------

These mean what gunicorn's documentation says.
"""

_REPLACED = """
gunicorn's, replaced
--------------------
"""

_REFUSED = """
gunicorn's, refused
-------------------
"""


def make() -> str:
    """The whole text of docs/options.rst."""
    settings = {cls.name: cls for cls in GUNICORN_SETTINGS}
    cfg = HostConfig()
    parts = [_HEAD, _OWN]
    parts += _rows(("Option", "Name in a file", "Default", "What it does"), (
        (_words(cls), f"``{cls.name}``", _default(cls), cls.desc) for cls in OWN
    ))
    parts.append(_HONOURED)
    parts += _rows(("Name in a file", "Option", "Default"), (
        (f"``{name}``", _words(settings[name]), _default(cfg.settings[name]))
        for name in _names("honoured")
    ))
    for status, head in (("replaced", _REPLACED), ("refused", _REFUSED)):
        parts.append(head)
        parts += _rows(("Name in a file", "Option", "Why"), (
            (f"``{name}``", _words(settings[name]), TABLE[name].why[0].upper()
             + TABLE[name].why[1:] + ".")
            for name in _names(status)
        ))
    return "\n".join(parts) + "\n"


def _names(status: str) -> list[str]:
    return sorted(name for name, verdict in TABLE.items() if verdict.status == status)


def _words(cls: Any) -> str:
    return ", ".join(f"``{word}``" for word in cls.cli or ()) or "only in a file"


def _default(cls: Any) -> str:
    if cls.name == "workers":
        return "CPUs"  # of the machine that runs it, not of the one that wrote this
    if cls.name == "chdir":
        return "where it is started"
    if cls.name in ("user", "group"):
        return "the starting one"
    value = cls.default
    if value is None or value == "" or value == [] or value == {}:
        return "none"
    if callable(value):
        return "none"  # a hook that does nothing
    return f"``{value}``"


def _rows(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        for position, cell in enumerate(row):
            mark = "   * - " if position == 0 else "     - "
            lines += textwrap.wrap(
                " ".join(cell.split()), 99, initial_indent=mark, subsequent_indent=" " * 7,
                break_long_words=False, break_on_hyphens=False)
    return lines


if __name__ == "__main__":
    sys.stdout.write(make())

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
from apihour.config.verdicts import REFUSED

_HEAD = """\
Options
=======

.. This file is made by docs/make_options.py; edit apihour/config/own.py, verdicts.py or this.

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

_WHY = {
    "logger_class": "default apihour.config.log.HostLogger, which survives a full disk",
    "worker_connections": "default 0, no limit; binds may have a limit each: ADDRESS?limit=N",
    "bind": "takes name=address as well, and the addresses of apihour.bind.addresses",
    "workers": "default: one per CPU this process may use; MIN..MAX follows the load",
    "forwarded_allow_ips": "takes networks, and unix for unix sockets, too",
    "limit_request_line": "default 8190 bytes, as RFC 9110 (4.1) asks for 8000",
    "keepalive": "default 75 s: clients reuse connections for that long",
    "certfile": "binds ask for TLS one by one: ADDRESS?tls, or ADDRESS?tls=FILE&key=FILE",
    "ciphers": "default: forward secrecy with AES-GCM or ChaCha20 only",
}

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
        for name in sorted(settings.keys() - _WHY.keys() - REFUSED.keys())
    ))
    for verdicts, head in ((_WHY, _REPLACED), (REFUSED, _REFUSED)):
        parts.append(head)
        parts += _rows(("Name in a file", "Option", "Why"), (
            (f"``{name}``", _words(settings[name]), why[0].upper() + why[1:] + ".")
            for name, why in sorted(verdicts.items())
        ))
    return "\n".join(parts) + "\n"


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

"""Prints docs/reference/commands.rst: every command of the shell, from the catalogue it obeys.

::

    python docs/make_commands.py > docs/reference/commands.rst

A test compares the committed file with this output.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

from apihour.ops.commands import built_in
from apihour.ops.model import GLOBAL_OPTIONS, Command
from apihour_console.commands.operations import commands

_HEAD = """\
Commands of the shell
=====================

.. This file is made by docs/make_commands.py; edit the commands instead.

What each command takes and tells; ``help COMMAND`` says the same in the shell. They are typed
there, as ``ssh host COMMAND``, as ``apihour ctl COMMAND``, and called as ``await
container.ops.COMMAND(…)``. How they are used is told in `the shell <../shell.rst>`_; commands of
your own appear beside them (`the container <../container.rst#commands>`_).

Options that many commands have:
"""


def make() -> str:
    """The whole text of docs/reference/commands.rst."""
    catalogue = built_in()
    catalogue.update(commands)
    lines = [_HEAD]
    lines += _definitions((f"``--{name}``", text) for name, text in GLOBAL_OPTIONS.items())
    for command in catalogue:
        if not command.hidden:
            lines += _section(command)
    return "\n".join(lines).rstrip() + "\n"


def _section(command: Command) -> Iterator[str]:
    yield from ("", command.name, "-" * len(command.name), "")
    yield from _wrapped(f"{_text(command.summary).rstrip('.')}. Role: {command.role}.")
    yield from ("", "::", "", f"   {command.usage}", "")
    if command.description:
        yield from (*_wrapped(_text(" ".join(command.description.split()))), "")
    yield from _definitions(
        (f"``{one.usage.strip('[]')}``", _text(one.told)) for one in command.parameters if one.help)
    if command.columns:
        yield from _wrapped("Columns: " + ", ".join(f"``{one.name}``" for one in command.columns)
                            + ".")
    if command.grouped:
        yield from ("", *_wrapped(
            "With ``--by``: " + ", ".join(f"``{one.name}``" for one in command.grouped) + "."))
    common = command.common_for({})
    if common:
        yield from ("", *_wrapped("Takes " + ", ".join(f"``--{name}``" for name in common) + "."))


def _definitions(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    for left, right in rows:
        yield left
        yield from textwrap.wrap(right, 96, initial_indent="    ", subsequent_indent="    ",
                                 break_on_hyphens=False)
    yield ""


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)


def _text(text: str) -> str:
    """A help text as it is, whatever reStructuredText makes of a star or an underscore."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("`", "\\`")


if __name__ == "__main__":
    sys.stdout.write(make())

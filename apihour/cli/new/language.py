"""The language of ``apihour/starter``: the part of Jinja's that a starter needs.

Rules:

- What this renders cookiecutter renders to the same bytes, with the environment that
  ``cookiecutter.json`` asks for; so neither it nor Jinja has to be installed.
- ``{{ cookiecutter.NAME }}`` is a value. ``{% if cookiecutter.NAME or cookiecutter.OTHER %}`` keeps
  what stands before its ``{% endif %}``. A tag alone in its line takes the line with it
  (``lstrip_blocks``, ``trim_blocks``).
- Names of files are rendered as their texts are; a file whose name is empty then is not made.
- Anything else in braces is a fault of the template: ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable

__all__ = ["Context", "render", "render_tree"]

Context = Mapping[str, str | bool]

_TAG = re.compile(
    r"(?m:^[ \t]*)?\{%\s*(?P<block>.*?)\s*%\}\n?|\{\{\s*(?P<value>.*?)\s*\}\}|(?P<other>\{#)")
_NAME = re.compile(r"cookiecutter\.(\w+)")


def render(text: str, context: Context) -> str:
    """`text` with its values put in, and without what its conditions leave out."""
    made: list[str] = []
    kept = [True]  # one for each condition that is open: whether it and all around it hold
    at = 0
    for tag in _TAG.finditer(text):
        if kept[-1]:
            made.append(text[at:tag.start()])
        at = tag.end()
        block = tag["block"]
        if block is None:
            made.append(str(_value(tag["value"] or tag[0], context)) if kept[-1] else "")
        elif block == "endif" and len(kept) > 1:
            kept.pop()
        elif block.startswith("if "):
            kept.append(_holds(block.removeprefix("if "), context) and kept[-1])
        else:
            raise ValueError(f"{tag[0].strip()!r}: expected if, or the endif of one")
    if len(kept) > 1:
        raise ValueError(f"{len(kept) - 1} endif missing in {text[:50]!r}")
    return "".join([*made, text[at:]])


def _holds(condition: str, context: Context) -> bool:
    return any([_value(name, context) for name in condition.split(" or ")])


def _value(name: str, context: Context) -> str | bool:
    found = _NAME.fullmatch(name)
    if found is None or found[1] not in context:
        raise ValueError(f"{name!r}: expected one of "
                         f"{', '.join(f'cookiecutter.{key}' for key in sorted(context))}")
    return context[found[1]]


def render_tree(directory: Traversable, context: Context) -> Iterator[tuple[str, str]]:
    """The files that a template makes, as relative paths and their texts."""
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        name = render(entry.name, context)
        if entry.is_dir():
            for path, text in render_tree(entry, context):
                yield f"{name}/{path}", text
        elif name:
            yield name, render(entry.read_text(encoding="utf-8"), context)

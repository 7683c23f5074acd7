"""``apihour new NAME``: writes an application whole, or not at all."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NoReturn

from apihour.cli.new.language import Context, render_tree
from apihour.cli.new.provenance import chosen, installed_from
from apihour.errors import ConfigurationError, UsageError

__all__ = ["PARTS", "new"]

PARTS = {
    "http": "HTTP: endpoints that return data",
    "asgi": "an ASGI application (Starlette)",
    "ssh": "sessions over SSH",
    "tcp": "lines over TCP",
    "pg": "a database, PostgreSQL",
}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")  # also of a unit of systemd, an image, a user
_TEMPLATE = "{{cookiecutter.name}}"
_BESIDE = {"tests", "etc", "deploy", "packaging", "build", "dist", "wheels", "keys"}  # its make's
_TOOLS = {"asyncpg", "iniconfig", "mypy", "pluggy", "pygments", "pytest", "ruff", "starlette"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"new: {message}")


def new(words: Sequence[str]) -> int:
    """Make the directory of an application.

    Raises UsageError for words that are none of this command's, ConfigurationError for a name or a
    place that cannot be had; then nothing was made.
    """
    options = _parser().parse_args(list(words))
    _see_name(options.name)
    target = Path(options.directory or options.name)
    if target.exists() or target.is_symlink():
        raise ConfigurationError(f"{str(target)!r} exists; expected a name that is free, "
                                 "or --directory with another")
    if not target.parent.is_dir():
        raise ConfigurationError(f"{str(target)!r}: expected an existing directory to make it in")
    _see_unique(options.name)
    parts = _see_parts(options.parts)
    origin = installed_from() if options.apihour is None else chosen(options.apihour)
    context: Context = {
        "name": options.name, "apihour": origin, "_py": ".py",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        **{part: part in parts for part in PARTS}}
    _write(target, render_tree(files("apihour") / "starter" / _TEMPLATE, context))
    print(f"{target} is made, with apihour {origin}; now:\n\n"
          f"  cd {shlex.quote(str(target))}\n  make run\n  make test")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="apihour new", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Make an application: a container with its endpoints and services, "
                    "configuration,\ntests, a Makefile, units of systemd and a Dockerfile.",
        epilog="parts:\n" + "\n".join(f"  {name:<6} {what}" for name, what in PARTS.items()))
    parser.add_argument("name", metavar="NAME", help="of the package, and of its directory")
    parser.add_argument("--with", dest="parts", metavar="PART,…", default="http",
                        help="what it serves (default: http)")
    parser.add_argument("--apihour", metavar="VERSION|PATH|URL",
                        help="where it gets apihour from (default: from where this one came)")
    parser.add_argument("--directory", metavar="DIR", help="make DIR, instead of ./NAME")
    return parser


def _see_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r}: expected the name of a Python package: up to 32 lower-case letters, digits "
            "and _, beginning with a letter")
    if keyword.iskeyword(name):
        raise ConfigurationError(f"{name!r} is a word of Python itself; expected another name")


def _see_unique(name: str) -> None:
    if name == "root":  # the user whom its service runs as has its name
        raise ConfigurationError("'root' is nobody to serve as; expected another name")
    if name in _BESIDE:
        raise ConfigurationError(f"{name!r} is a directory that it has beside its package; "
                                 "expected another name")
    if name in _TOOLS or name in sys.stdlib_module_names or importlib.util.find_spec(name):
        raise ConfigurationError(f"{name!r} is the name of another package already; "
                                 "expected one of its own")


def _see_parts(text: str) -> set[str]:
    parts = text.split(",")
    for part in parts:
        if part not in PARTS:
            raise UsageError(f"new: --with {part!r}: expected some of {', '.join(PARTS)}, "
                             "with commas between them")
    return set(parts)


def _write(target: Path, made: Iterable[tuple[str, str]]) -> None:
    """Make `target` with those files, in one step at the end."""
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            draft = aside / "made"  # with the mode that the user's umask gives
            for name, text in made:
                path = draft / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            draft.rename(target)
        finally:
            shutil.rmtree(aside)
    except OSError as error:
        raise ConfigurationError(
            f"{str(target)!r} cannot be made: {error.filename}: {error.strerror}") from error

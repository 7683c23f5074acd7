"""A configuration file or module: run, and its names set.

Not gunicorn's own loader: that prints beside raising, and keeps ``python:`` modules imported, so
that a reload would not see new ones.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
from typing import Any

from apihour.blame import blame
from apihour.config.misspelt import find_misspelt
from apihour.config.settings import HostConfig
from apihour.errors import ApihourError, ConfigurationError

__all__ = ["apply_source"]


def apply_source(cfg: HostConfig, location: str) -> None:
    """Apply a configuration file, ``python:MODULE`` or a path, with ``file:`` or without.

    Raises ConfigurationError with its file and line.
    """
    scheme, _, rest = location.partition(":")
    path = rest if scheme in ("file", "python") else location
    names = _run_module(path) if scheme == "python" else _run_file(path)
    _see_names(cfg, path, names["__file__"])
    for key, value in names.items():
        if key in cfg.settings:
            try:
                cfg.set(key, value)
            except (ApihourError, TypeError, ValueError) as error:
                raise ConfigurationError(f"config file {path!r}: {error}") from error


def _see_names(cfg: HostConfig, path: str, file: str | None) -> None:
    """Refuse a misspelt setting, which would be ignored without a word."""
    if file is None or not file.endswith(".py"):
        return
    with open(file, "rb") as source:
        found = find_misspelt(source.read(), cfg.settings)
    if found is not None:
        raise ConfigurationError(
            f"config file {path!r}: {file}:{found.line}: {found.name!r} is no setting; did you "
            f"mean {found.setting!r}?")


def _run_file(path: str) -> dict[str, Any]:
    """Run a configuration file. Raises ConfigurationError with its file and line."""
    if not os.path.isfile(path):
        raise ConfigurationError(f"config file {path!r}: expected an existing file")
    names: dict[str, Any] = {"__file__": path, "__name__": "__config__"}
    try:
        with open(path, "rb") as file:
            exec(compile(file.read(), path, "exec"), names)
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"config file {path!r}: {_place(error)}") from error
    return names


def _run_module(name: str) -> dict[str, Any]:
    """Run a configuration module, anew each time. Raises ConfigurationError."""
    if not _is_module(name):
        raise ConfigurationError(f"config file 'python:{name}': expected a module that is there")
    try:
        return runpy.run_module(name, run_name="__config__")
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"config file 'python:{name}': {_place(error)}") from error


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:  # a package of its name, or one that such a package wants
        return not f"{name}.".startswith(f"{error.name}.")
    except ValueError:  # no name of a module
        return False
    except Exception:
        return True  # running it says what is wrong with it


def _place(error: BaseException) -> str:
    """What went wrong in a configuration file, and where."""
    if isinstance(error, SyntaxError) and error.lineno:
        # Its place is in no traceback: the last line there is ours.
        return f"{error.filename}:{error.lineno}: SyntaxError: {error.msg}"
    return blame(error)

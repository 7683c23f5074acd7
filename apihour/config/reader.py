"""Reading a daemon's configuration from every source.

Precedence, later wins: defaults, binds on the container class, the tree's files, ``-c``
file, ``GUNICORN_CMD_ARGS``, ``APIHOUR_BIND_NAME``, the command line.

Rules:

- It is read into a value, :class:`~apihour.config.configuration.Configuration`, or an error of
  one line is raised. This process is afterwards as it was: directory, ``sys.path``, what is in
  force.
- Relative paths are relative to where the command was started, also after a reload.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.config import get_default_config_file

from apihour.config.configuration import Configuration, as_it_was
from apihour.config.naming import daemon_name, split_target
from apihour.config.settings import HostConfig
from apihour.errors import ApihourError, ConfigurationError, UsageError

if TYPE_CHECKING:
    from apihour.config.tree import ConfigTree

__all__ = ["Reader"]


class Reader:
    """The sources of one daemon, which stay the same; what they say may change.

    `directory` is where the command was started.
    """

    def __init__(self, arguments: Sequence[str], prog: str = "apihour") -> None:
        self.arguments = tuple(arguments)
        self.directory: str = util.getcwd()
        self._prog = prog
        self._paths = tuple(sys.path)
        self._environment = dict(os.environ)  # later it has what --env puts there as well

    def read(self, release: str = "") -> Configuration:
        """Read every source anew; with `release` enter that in place of ``--chdir``.

        Raises ApihourError with one line, SystemExit for ``--help`` and ``--version``.
        """
        with as_it_was():
            try:
                return self._read(release)
            except ApihourError:
                raise
            except (Exception, SystemExit) as error:
                if isinstance(error, SystemExit) and error.code in (0, 2):
                    raise  # --help, --version and argparse's own message
                raise ConfigurationError(str(error) or repr(error)) from error

    def _read(self, release: str) -> Configuration:
        self._enter_start_directory()
        cfg = HostConfig(f"{self._prog} module:Container [options]", prog=self._prog)
        cfg.env_orig = dict(self._environment)
        cfg.set("chdir", self.directory)
        parser = cfg.parser()
        line = parser.parse_args(list(self.arguments))
        variable = parser.parse_args(cfg.get_cmd_args_from_env())
        target = _only_target(line.args)
        for source in (variable, line):
            if source.chdir is not None:
                cfg.set("chdir", source.chdir)
                source.chdir = cfg.chdir  # absolute: it is set again when the directory is new
        _enter(cfg, release)
        tree = _find_tree(target, variable, line)
        levels, notes = _apply_all(cfg, target, tree, variable, line)
        _enter(cfg, release)
        cfg.validate()
        cfg.is_frozen = True
        return Configuration(
            cfg, target, tree, tuple(tuple(level) for level in levels if level), os.getcwd(),
            tuple(sys.path), release, tuple(notes))

    def _enter_start_directory(self) -> None:
        try:
            os.chdir(self.directory)
        except OSError as error:
            raise ConfigurationError(
                f"{self.directory!r}, where apihour was started: {error.strerror}; expected a "
                "directory that stays: a link to the release that is current, say"
            ) from error
        sys.path[:] = self._paths  # those of another release would be before this one's


def _only_target(words: Sequence[str]) -> str:
    if len(words) != 1:
        raise UsageError(
            f"expected one target, module:Container; got {' '.join(words) or 'none'}")
    split_target(words[0])
    return words[0]


def _enter(cfg: HostConfig, release: str) -> None:
    """Be where relative paths are meant, and import from there first."""
    directory = release or cfg.chdir
    try:
        os.chdir(directory)
    except OSError as error:
        raise ConfigurationError(
            f"--chdir {directory!r}: {error.strerror}; expected a directory"
        ) from error
    if release and release in sys.path:
        sys.path.remove(release)  # its place is before any link to another release
    paths = [directory, *(cfg.pythonpath.split(",") if cfg.pythonpath else [])]
    for path in paths:
        if os.path.abspath(path) not in sys.path:
            sys.path.insert(0, os.path.abspath(path))


def _find_tree(target: str, variable: Any, line: Any) -> ConfigTree | None:
    config_dir = _last(variable.config_dir, line.config_dir)
    is_auto = bool(line.auto_config or variable.auto_config)
    if config_dir is None and not is_auto:
        return None
    from apihour.config.tree import ConfigTree  # read where one is asked for only

    return ConfigTree.find(daemon_name(split_target(target)[0]), config_dir, is_auto)


def _apply_all(
    cfg: HostConfig, target: str, tree: ConfigTree | None, variable: Any, line: Any
) -> tuple[list[list[str]], list[str]]:
    """Set what each source says, later ones over earlier; returns the binds of each, and notes.

    `variable` is what GUNICORN_CMD_ARGS says, `line` the command line.
    """
    cfg.set("default_proc_name", daemon_name(split_target(target)[0]))
    levels: list[list[str]] = []
    if tree is not None and tree.options_file is not None:
        levels.append(_apply_file(cfg, str(tree.options_file)))
    if tree is not None and tree.logging_file is not None:
        cfg.set("logconfig", str(tree.logging_file))
    path = _last(variable.config, line.config) or get_default_config_file()
    if path:
        levels.append(_apply_file(cfg, path))
    _apply_options(cfg, variable)
    levels += [_take_binds(cfg), _environment_binds(cfg.env_orig)]
    _apply_options(cfg, line)
    levels.append(_take_binds(cfg))
    return levels, _without_console(cfg, variable, line)


def _apply_file(cfg: HostConfig, path: str) -> list[str]:
    """Set what a configuration file says; returns its binds."""
    from apihour.config.source import apply_source  # read where there is one only

    apply_source(cfg, path)
    return _take_binds(cfg)


def _environment_binds(environ: Mapping[str, str]) -> list[str]:
    if not any(name.startswith("APIHOUR_BIND_") for name in environ):
        return []
    from apihour.config.environment import environment_binds  # read where there are some only

    return environment_binds(environ)


def _apply_options(cfg: HostConfig, values: Any) -> None:
    for key, value in vars(values).items():
        if value is not None and key != "args":
            cfg.set(key.lower(), value)


def _take_binds(cfg: HostConfig) -> list[str]:
    binds = list(cfg.bind)
    cfg.set("bind", [])
    return binds


def _without_console(cfg: HostConfig, *later: Any) -> list[str]:
    """A later ``--no-console`` takes the health of an earlier source back, and says so.

    Both at one place contradict each other, and are refused later on.
    """
    sources = [index for index, values in enumerate(later) if values.no_console]
    given = [index for index, values in enumerate(later) if values.health]
    if not cfg.health or not sources or (given and given[-1] >= sources[-1]):
        return []
    note = f"health {cfg.health}: off, the console process serves it (--no-console)"
    cfg.set("health", None)
    return [note]


def _last(*values: Any) -> Any:
    given = [value for value in values if value is not None]
    return given[-1] if given else None

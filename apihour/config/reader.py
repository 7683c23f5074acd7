"""The daemon's configuration, read in the order of apihour.config, and its start."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from gunicorn import util
from gunicorn.app.base import Application
from gunicorn.config import get_default_config_file

from apihour.bind.addresses import Address
from apihour.bind.binds import resolve_binds
from apihour.blame import blame
from apihour.config.misspelt import find_misspelt
from apihour.config.naming import daemon_name, split_target
from apihour.config.settings import HostConfig
from apihour.config.tree import ConfigTree, environment_binds
from apihour.errors import ApihourError, ConfigurationError, UsageError

__all__ = ["AppState", "HostApplication"]


class AppState(NamedTuple):
    """What reading the configuration changes: the application's values, and the process'."""

    cfg: HostConfig
    target: str
    tree: ConfigTree | None
    bind_levels: list[list[str]]
    directory: str
    paths: list[str]
    release: str


class HostApplication(Application):  # type: ignore[misc]
    """One daemon: a target, and options from every source."""

    def __init__(self, arguments: Sequence[str], prog: str = "apihour") -> None:
        self.arguments = list(arguments)
        self.target = ""
        self.tree: ConfigTree | None = None
        self.bind_levels: list[list[str]] = []
        self.notes: list[str] = []
        self.directory = util.getcwd()
        self.release = ""  # what a rollback enters in place of --chdir
        self._paths = list(sys.path)
        super().__init__(usage=f"{prog} module:Container [options]", prog=prog)

    # -- loading ---------------------------------------------------------------------------

    def do_load_config(self) -> None:
        """Read every source anew into a fresh configuration; all or nothing.

        Relative paths are relative to where the command was started, also after a reload.
        Raises ApihourError with one line.
        """
        # By descriptor: a deploy may have removed the directory that this process is in. To
        # enter it again needs no right to read it.
        before = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
        try:
            self._enter_start_directory()
            cfg, target, tree, levels = self._read()
        except ApihourError:
            os.fchdir(before)
            raise
        except (Exception, SystemExit) as error:
            os.fchdir(before)
            if isinstance(error, SystemExit) and error.code in (0, 2):
                raise  # --help, --version and argparse's own message
            raise ConfigurationError(str(error) or repr(error)) from error
        finally:
            os.close(before)
        self.cfg, self.target, self.tree, self.bind_levels = cfg, target, tree, levels

    def _read(self) -> tuple[HostConfig, str, ConfigTree | None, list[list[str]]]:
        cfg = HostConfig(self.usage, prog=self.prog)
        sys.path[:] = self._paths  # those of another release would be before this one's
        cfg.set("chdir", self.directory)
        self.cfg = cfg
        parser = cfg.parser()
        args = parser.parse_args(self.arguments)
        env_args = parser.parse_args(cfg.get_cmd_args_from_env())
        if len(args.args) != 1:
            raise UsageError(
                f"expected one target, module:Container; got {' '.join(args.args) or 'none'}"
            )
        target = args.args[0]
        module, _ = split_target(target)
        for source in (env_args, args):
            if source.chdir is not None:
                cfg.set("chdir", source.chdir)
                source.chdir = cfg.chdir  # absolute: it is set again when the directory is new
        self._enter_directory(cfg)
        name = daemon_name(module)
        tree = ConfigTree.find(
            name, _last(env_args.config_dir, args.config_dir),
            bool(args.auto_config or env_args.auto_config),
        )
        cfg.set("default_proc_name", name)
        levels = []
        if tree is not None and tree.options_file is not None:
            self._load_file(str(tree.options_file))
            levels.append(self._take_binds(cfg))
        if tree is not None and tree.logging_file is not None:
            cfg.set("logconfig", str(tree.logging_file))
        path = _last(env_args.config, args.config) or get_default_config_file()
        if path:
            self._load_file(path)
            levels.append(self._take_binds(cfg))
        self._apply(cfg, env_args)
        levels.append(self._take_binds(cfg))
        levels.append(environment_binds(cfg.env_orig))
        self._apply(cfg, args)
        self.notes = _without_console(cfg, env_args, args)
        levels.append(self._take_binds(cfg))
        self._enter_directory(cfg)
        cfg.validate()
        return cfg, target, tree, [level for level in levels if level]

    def _enter_start_directory(self) -> None:
        try:
            os.chdir(self.directory)
        except OSError as error:
            raise ConfigurationError(
                f"{self.directory!r}, where apihour was started: {error.strerror}; expected a "
                "directory that stays: a link to the release that is current, say"
            ) from error

    def _enter_directory(self, cfg: HostConfig) -> None:
        directory = self.release or cfg.chdir
        try:
            os.chdir(directory)
        except OSError as error:
            raise ConfigurationError(
                f"--chdir {directory!r}: {error.strerror}; expected a directory"
            ) from error
        if self.release and self.release in sys.path:
            sys.path.remove(self.release)  # its place is before any link to another release
        paths = [directory, *(cfg.pythonpath.split(",") if cfg.pythonpath else [])]
        for path in paths:
            if os.path.abspath(path) not in sys.path:
                sys.path.insert(0, os.path.abspath(path))

    @staticmethod
    def _apply(cfg: HostConfig, values: Any) -> None:
        for key, value in vars(values).items():
            if value is not None and key != "args":
                cfg.set(key.lower(), value)

    @staticmethod
    def _take_binds(cfg: HostConfig) -> list[str]:
        binds = list(cfg.bind)
        cfg.set("bind", [])
        return binds

    def _load_file(self, location: str) -> None:
        """Apply a configuration file, ``python:MODULE`` or a path, with ``file:`` or without.

        Not gunicorn's own loader: that prints beside raising, and keeps ``python:`` modules
        imported, so that a reload would not see new ones.
        """
        scheme, _, rest = location.partition(":")
        path = rest if scheme in ("file", "python") else location
        names = _run_module(path) if scheme == "python" else _run_file(path)
        self._see_names(path, names["__file__"])
        for key, value in names.items():
            if key in self.cfg.settings:
                try:
                    self.cfg.set(key, value)
                except (ApihourError, TypeError, ValueError) as error:
                    raise ConfigurationError(f"config file {path!r}: {error}") from error

    def _see_names(self, path: str, file: str | None) -> None:
        """Refuse a misspelt setting, which would be ignored without a word."""
        if file is None or not file.endswith(".py"):
            return
        with open(file, "rb") as source:
            found = find_misspelt(source.read(), self.cfg.settings)
        if found is not None:
            raise ConfigurationError(
                f"config file {path!r}: {file}:{found.line}: {found.name!r} is no setting; did you "
                f"mean {found.setting!r}?")

    # -- what the processes ask ------------------------------------------------------------

    def container_config(self) -> dict[str, Any]:
        """The configuration a container gets, read anew in each worker."""
        return self.tree.load() if self.tree is not None else {}

    def resolve(self, declared: dict[str, list[str]] | None) -> dict[str, list[Address]]:
        """The binds after every override. Raises ConfigurationError."""
        return resolve_binds(declared, self.bind_levels)

    def state(self) -> AppState:
        """What reading the configuration changes, here and in this process."""
        return AppState(self.cfg, self.target, self.tree, self.bind_levels,
                        self.working_directory(), list(sys.path), self.release)

    def working_directory(self) -> str:
        """Where this process is; when a deploy has removed that, where one like it would be."""
        try:
            return os.getcwd()
        except FileNotFoundError:
            return str(self.cfg.chdir)

    def restore(self, state: AppState) -> None:
        """Put everything back as it was when :meth:`state` was taken."""
        self.cfg, self.target, self.tree, self.bind_levels = state[:4]
        with contextlib.suppress(FileNotFoundError):  # removed: we stay in what is left of it
            os.chdir(state.directory)
        sys.path[:] = state.paths
        self.release = state.release

    def reload(self) -> None:
        """Read the configuration anew. Raises ApihourError and changes nothing on failure."""
        before = self.cfg
        try:
            self.do_load_config()
        except BaseException:
            self.cfg = before
            raise


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


def _last(*values: Any) -> Any:
    given = [value for value in values if value is not None]
    return given[-1] if given else None

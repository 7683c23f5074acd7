"""The settings of a daemon: gunicorn's, as its verdicts say, and this project's own.

Rules:

- A refused setting is an error that says why, wherever it is set: command line, file,
  environment.
- What was typed is judged before anything is done with it. A command line that cannot be read
  is a UsageError; a value is a ConfigurationError wherever it stands, on the command line, in a
  file or in the environment. What a value may be: apihour.config.values, of gunicorn's settings
  apihour.config.judging.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from gunicorn.config import Config
from gunicorn.errors import ConfigError

from apihour.config.cpus import available_cpus
from apihour.config.own import GUNICORN_SETTINGS, OWN
from apihour.config.values import WorkerCount
from apihour.errors import ConfigurationError, UsageError
from apihour.ipc.private import parser_options
from apihour.tls import CIPHERS
from apihour.version import __version__

__all__ = ["HostConfig"]

_LIMITS = ("line", "fields", "field_size")  # of --limit-request-*
# They mean another file in another directory, so they wait until --chdir is obeyed.
_RELATIVE = ("chdir", "reload_extra_files")
# gunicorn's settings that most daemons are given: those that it takes need no further judgement.
_USUAL = ("chdir", "default_proc_name", "graceful_timeout", "timeout")
_MOST = 2**31 - 1  # the largest number the system takes
_DEFAULTS = {"logger_class": "apihour.config.log.HostLogger", "ciphers": CIPHERS}


def _judged(cls: Any) -> Callable[[Any], Any]:
    """The validator of one of gunicorn's settings."""

    def validate(value: Any) -> Any:
        if cls.name in _USUAL:
            with contextlib.suppress(TypeError, ValueError, AttributeError, ConfigError):
                found = cls.validator(value)
                if not isinstance(found, int) or found <= _MOST:
                    return found
        from apihour.config.judging import judge  # read where others are given, or wrong ones

        return judge(cls, value)

    return validate


class HostConfig(Config):  # type: ignore[misc]
    """gunicorn's configuration object with the table applied."""

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        super().__init__(usage, prog)
        self.is_frozen = False
        for cls in GUNICORN_SETTINGS:
            self.settings[cls.name].validator = _judged(cls)
        for cls in OWN:
            self.settings[cls.name] = cls()
        if os.environ.get("WEB_CONCURRENCY"):
            self._take("workers", "WEB_CONCURRENCY")
        else:
            cpus = available_cpus()
            self.settings["workers"].value = WorkerCount(cpus, cpus)
        if "FORWARDED_ALLOW_IPS" in os.environ:
            self._take("forwarded_allow_ips", "FORWARDED_ALLOW_IPS")
        for name, value in _DEFAULTS.items():
            self.settings[name].default = self.settings[name].value = value

    @property
    def address(self) -> tuple[()]:
        """Always empty, so gunicorn never opens, compares or closes a socket."""
        return ()

    @property
    def reuse_port(self) -> bool:
        """Always off: it is an option of a bind here, not of the arbiter."""
        return False

    @property
    def worker_count(self) -> WorkerCount:
        """The configured number or range of workers."""
        count: WorkerCount = self.settings["workers"].get()
        return count

    @property
    def request_limits(self) -> dict[str, int]:
        """What ``--limit-request-*`` were given, by the rest of their names."""
        given = {key: self.settings[f"limit_request_{key}"] for key in _LIMITS}
        return {key: one.get() for key, one in given.items() if one.get() != one.default}

    @property
    def workers(self) -> int:
        """What gunicorn asks for: the smallest number of workers."""
        return self.worker_count.minimum

    @property
    def logger_class(self) -> Any:
        """The class that logs. Raises ConfigurationError when it cannot be imported."""
        path = self.settings["logger_class"].get()
        try:
            return super().logger_class
        except (RuntimeError, AttributeError) as error:
            raise ConfigurationError(
                f"--logger-class {path!r}: expected a class that can be imported"
            ) from error

    @property
    def worker_class(self) -> None:
        """gunicorn's arbiter asks for it; ours knows its worker."""

    @property
    def worker_linger(self) -> float:
        """Seconds a silent connection is kept while draining."""
        linger: float | None = self.settings["linger"].get()
        wanted = linger if linger is not None else self.settings["keepalive"].get()
        return min(float(wanted), float(self.settings["graceful_timeout"].get()))

    def set(self, name: str, value: Any) -> None:
        """Set one setting. Raises ValueError naming it, its value and what was expected.

        Raises TypeError once the configuration is whole, and so `is_frozen`.
        """
        if self.is_frozen:
            raise TypeError(f"setting {name}: {value!r}; expected it where the configuration is "
                            "read from: what is in force does not change")
        try:
            super().set(name, value)
        except (TypeError, ValueError, ConfigError) as error:
            cli = self.settings[name].cli
            shown = f"{name} ({cli[-1]})" if cli else name
            raise ValueError(f"setting {shown}: {error}") from error

    def _take(self, name: str, variable: str) -> None:
        """Set what a variable of the environment says. Raises ConfigurationError naming it."""
        try:
            self.settings[name].set(os.environ[variable])
        except ValueError as error:
            raise ConfigurationError(f"{variable}: {error}") from error

    def parser(self) -> Any:
        """The argument parser: gunicorn's options and ours. Raises UsageError."""
        parser = super().parser()
        parser.error = _usage
        for action in parser_options(parser):
            if action.dest == "version":
                action.version = f"apihour {__version__}"
            elif action.type is not None:
                action.type = _or_as_it_is(action.type)
        shown = parser.format_help

        def format_help() -> str:
            from apihour.config.helptext import explain  # read where help is asked for only

            explain(parser, self.settings)
            return str(shown())

        parser.format_help = format_help
        parse = parser.parse_args

        def parse_args(words: Sequence[str]) -> argparse.Namespace:
            values: argparse.Namespace = parse(words)
            self._judge(values)
            return values

        parser.parse_args = parse_args
        return parser

    def _judge(self, values: argparse.Namespace) -> None:
        """See whether each option takes what it was given. Raises ConfigurationError naming it."""
        for name, value in vars(values).items():
            if value is None or name == "args" or name in _RELATIVE:
                continue
            setting = self.settings[name]
            try:
                setting.validator(value)
            except (TypeError, ValueError, ConfigError) as error:
                raise ConfigurationError(f"{setting.cli[-1]}: {error}") from error

    def get_cmd_args_from_env(self) -> list[str]:
        """The words of GUNICORN_CMD_ARGS: options. Raises ConfigurationError naming it."""
        given = self.env_orig.get("GUNICORN_CMD_ARGS")
        if not given:
            return []
        from apihour.config.environment import option_words  # read where there are some

        return option_words(given, self.parser())


def _usage(message: str) -> NoReturn:
    """argparse's complaint as one line."""
    raise UsageError(f"{message}; 'apihour run --help' lists the options")


def _or_as_it_is(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Leave to the validator what cannot be converted: it says what was expected."""

    def value(text: str) -> Any:
        try:
            return convert(text)
        except ValueError:
            return text

    return value

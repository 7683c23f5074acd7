"""The command ``apihour``: what was asked for, and one clear line when it cannot be had.

Exit statuses: 0 done; 2 the command line cannot be read (an unknown command or option, an
option without its value, no target or two); 1 anything else that could not be done, also a
value that is refused; 130 interrupted. ``ctl`` has those of the shell's commands.
"""

from __future__ import annotations

import importlib
import os
import select
import sys
import traceback
from collections.abc import Callable, Sequence

from apihour.cli.brought import command_names, find_command
from apihour.errors import ApihourError, ConfigurationError, UsageError
from apihour.ipc.signals import ORDERS, blocked
from apihour.printable import printable
from apihour.version import __version__

__all__ = ["commands", "main"]

USAGE = """\
usage: apihour [run] module:Container [options]     serve it, on every CPU
       apihour new NAME [options]                   make an application to begin with
       apihour dev module:Container [options]       one worker, started again on every change
       apihour check module:Container [options]     say what would be served where
       apihour protocols                            the plugins and what they accept
       apihour ctl COMMAND [options]                run a shell command over the local socket
       apihour upgrade [options]                    a new arbiter on the same sockets
       apihour keys list|add|remove|rotate-host|fleet  who may log into the shell
       apihour explain [NAME]                       what to do about an error
       apihour completion bash|zsh|fish             a script that completes this in a shell
       apihour --version | --help

module:Container names a subclass of apihour.Container; a bare aiohttp, ASGI or WSGI
application works too. 'apihour run --help' lists every option.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        return _dispatch(words)
    except BrokenPipeError:
        if not _is_unread():
            raise
        return 0  # as of ctl: whoever reads has seen enough
    except ApihourError as error:
        if debug:
            sys.stderr.write(printable(traceback.format_exc() + error.detail))
        print(f"apihour: error: {error.told()}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    finally:
        _flush()


def _flush() -> None:
    """Write what is left, or drop it where nobody reads: Python would complain at its end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_unread() -> bool:
    """Whether nobody reads any more what is printed: ``apihour check … | head -1``."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # only errors
    return bool(poll.poll(0))


def commands() -> list[str]:
    """The commands of the core; packages bring more (:mod:`apihour.installed`)."""
    return sorted(_COMMANDS)


def _dispatch(words: list[str]) -> int:
    if not words:
        print(USAGE, end="", file=sys.stderr)
        return 2
    if words[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if words[0] in ("-v", "--version", "version"):
        print(f"apihour {__version__}")
        return 0
    command = _find(words[0])
    if command is not None:
        return command(words[1:])
    if not words[0].startswith("-") and ":" not in words[0] and _is_alone(words):
        known = sorted({*_COMMANDS, *command_names()})
        raise UsageError(f"{words[0]!r}: expected module:Container or one of {', '.join(known)}")
    return _run(words)


def _is_alone(words: list[str]) -> bool:
    """Whether the first word is no option's target: nothing, or another word, comes next."""
    return len(words) == 1 or not words[1].startswith("-")


def _mind_web_concurrency() -> None:
    """gunicorn reads the variable as a number when it is imported, and trips over others."""
    value = os.environ.get("WEB_CONCURRENCY")
    if value is not None and not value.strip():
        del os.environ["WEB_CONCURRENCY"]  # as good as not there
    elif value is not None and not value.strip().isdecimal():
        raise ConfigurationError(
            f"WEB_CONCURRENCY: {value!r}; expected a number from 1 to 128")


def _own(module: str, function: str) -> Callable[[list[str]], int]:
    """A command that is imported when it is carried out: ``ctl`` must not wait for gunicorn."""

    def command(words: list[str]) -> int:
        _mind_web_concurrency()
        return getattr(importlib.import_module(f"apihour.cli.{module}"), function)(words) or 0

    return command


def _find(word: str) -> Callable[[list[str]], int] | None:
    """The command of that name: one of those here, or one that a package brings."""
    if word.startswith("-") or ":" in word:
        return None
    return _COMMANDS.get(word) or find_command(word)


def _run(words: list[str]) -> int:
    """``apihour run``; what is asked of the daemon while it is imported waits until it can obey."""
    with blocked(ORDERS):  # the arbiter lets them through
        return _own("run", "run")(words)


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": _run,
    "check": _own("check", "check"),
    "completion": _own("completion_scripts", "completion"),
    "dev": _own("dev", "develop"),
    "explain": _own("explain", "explain"),
    "new": _own("new.making", "new"),
    "protocols": _own("check", "list_protocols"),
}

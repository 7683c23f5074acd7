"""The command ``apihour``: what was asked for, and one clear line when it cannot be had."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Sequence

from apihour.errors import ApihourError, UsageError
from apihour.version import __version__

__all__ = ["main"]

USAGE = """\
usage: apihour [run] module:Container [options]     serve it, on every CPU
       apihour dev module:Container [options]       one worker, started again on every change
       apihour check module:Container [options]     say what would be served where
       apihour protocols                            the plugins and what they accept
       apihour ctl COMMAND [options]                run a shell command over the local socket
       apihour upgrade [options]                    a new arbiter on the same sockets
       apihour keys list|add|remove|rotate-host     who may log into the shell
       apihour --version | --help

module:Container names a subclass of apihour.Container; a bare aiohttp or ASGI application
works too. 'apihour run --help' lists every option.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status. 1: failed, 2: the command line is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        return _dispatch(words)
    except ApihourError as error:
        if debug:
            traceback.print_exc()
            sys.stderr.write(error.detail)
        print(f"apihour: error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130


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
    command = _COMMANDS.get(words[0])
    if command is not None:
        return command(words[1:])
    if not words[0].startswith("-") and ":" not in words[0] and len(words) == 1:
        raise UsageError(
            f"{words[0]!r}: expected module:Container or one of {', '.join(sorted(_COMMANDS))}"
        )
    return _run(words)


def _run(words: list[str]) -> int:
    from apihour.application import HostApplication

    HostApplication(words).run()
    return 0


def _check(words: list[str]) -> int:
    from apihour.check import check

    return check(words)


def _dev(words: list[str]) -> int:
    from apihour.dev import develop

    return develop(words)


def _protocols(words: list[str]) -> int:
    from apihour.check import list_protocols

    if words:
        raise UsageError(f"apihour protocols: takes no arguments, got {' '.join(words)!r}")
    return list_protocols()


def _elsewhere(module: str) -> Callable[[list[str]], int]:
    """A command that lives with the console; core knows its name only."""

    def command(words: list[str]) -> int:
        main: Callable[[list[str]], int] = importlib.import_module(module).main
        return main(words)

    return command


def _upgrade(words: list[str]) -> int:
    return _COMMANDS["ctl"](["upgrade", *words])


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": _run,
    "check": _check,
    "dev": _dev,
    "protocols": _protocols,
    "ctl": _elsewhere("apihour_console.local"),
    "keys": _elsewhere("apihour_console.keys_command"),
    "upgrade": _upgrade,
}

"""``apihour ctl [--instance NAME] command ...``: finds the daemon, prints what it says.

Rules:

- The only running daemon of this user is meant unless ``--instance`` names one; of several the
  one that runs in the present directory, and stderr says that it was taken.
- When whoever reads our output goes away (``| head -1``) the command ends at once, whether
  or not another line would come.
- Exit statuses are the command's; 1 when there is no daemon, 130 on Ctrl-C.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from apihour.errors import ApihourError, ConfigurationError, UsageError
from apihour.ipc.bases import base_directory
from apihour.ipc.daemons import has_arbiter, read_instance
from apihour.ipc.runtime import Runtime
from apihour.ipc.taken_bases import private_bases
from apihour.ipc.wire import Framer, encode
from apihour_console.shell.runner import CANCELLED

__all__ = ["find_instance", "run", "upgrade"]

USAGE = "usage: apihour ctl [--instance NAME] COMMAND [ARGUMENTS]; try: apihour ctl help"
_HELP = """usage: apihour {} [--instance NAME]{}

What commands there are and what they take is told by the daemon, once it runs: apihour ctl help.
{}
"""
_CONNECT = 5.0  # seconds; a console starts in well under one
_GOODBYE = 1.0  # seconds for what a cancelled command still says
_AGAIN = 0.05  # seconds between two tries to connect


def run(argv: Sequence[str], typed: str = "ctl") -> int:
    """Run ``apihour ctl`` with those arguments (without ``ctl``); returns the exit status.

    `typed` is the command that errors name: ``apihour upgrade`` is one of these too.
    """
    try:
        name, words = _parse(list(argv))
        try:
            runtime = find_instance(name)
        except ConfigurationError as error:
            if not {"-h", "--help"} & {*argv}:
                raise
            print(_HELP.format(typed, " COMMAND [ARGUMENTS]" * (typed == "ctl"), error), end="")
            return 0
        return _talk(runtime, words)
    except ApihourError as error:
        print(f"apihour {typed}: {error}", file=sys.stderr)
        return error.exit_status


def upgrade(argv: Sequence[str]) -> int:
    """``apihour upgrade``: ``ctl upgrade``; which daemon is meant may stand behind it here."""
    words, which = list(argv), 0
    if words and words[0].startswith("--instance"):
        which = 1 if "=" in words[0] else 2
    command = ["upgrade"] if len(words) >= which else []  # else a name is missing, which it says
    return run([*words[:which], *command, *words[which:]], "upgrade")


def _parse(argv: list[str]) -> tuple[str, list[str]]:
    name = ""
    while argv and argv[0].startswith("-"):
        option, _, value = argv.pop(0).partition("=")
        if option in ("-h", "--help"):
            return name, ["help"]
        if option != "--instance":
            raise UsageError(f"option {option!r}: expected --instance; {USAGE}")
        if not value and not argv:
            raise UsageError(f"option --instance: expected a name after it; {USAGE}")
        name = value or argv.pop(0)
    return name, argv or ["help"]


def find_instance(name: str = "") -> Runtime:
    """The daemon of that name (its directory's, pid, or name); without one, the only one.

    Of several without a name, the only one that runs in the present directory, and says so.
    Raises ConfigurationError when there is none, or more than one.
    """
    found = [one for base in _bases() for one in Runtime.instances(base) if has_arbiter(one)]
    shown = ", ".join(f"{one.path.name} ({_title(one)})" for one in found)
    bases = ", ".join(map(str, _bases() or [base_directory(os.getuid())]))
    if name:
        # In two containers both are pid 1: the directory's name tells them apart.
        found = ([one for one in found if one.path.name == name]
                 or [one for one in found if name in _names(one)])
        if not found:
            raise ConfigurationError(
                f"no daemon {name!r:.80} in {bases}; running: {shown or 'none'}")
    if not found:
        raise ConfigurationError(
            f"no daemon is running: none found in {bases}; expected one of this user, with "
            "the same APIHOUR_RUNTIME_DIR")
    if len(found) > 1 and not name:
        here = [one for one in found if _runs_here(one)]
        if len(here) == 1:
            print(f"of several daemons that of this directory: {here[0].path.name} "
                  f"({_title(here[0])}); others by --instance NAME", file=sys.stderr)
            return here[0]
    if len(found) > 1:
        raise ConfigurationError(f"several daemons: {shown}; choose with --instance NAME"
                                 f"{'' if name else ', or type it in the directory of one'}")
    return found[0]


def _runs_here(runtime: Runtime) -> bool:
    """Whether the daemon's directory is the present one, whatever links lead there."""
    try:
        return os.path.samefile(str(read_instance(runtime).get("directory") or "/dev/null"), ".")
    except OSError:
        return False  # it has been removed, or is another container's


def _bases() -> list[Path]:
    """Where this user's daemons may be; root sees everybody's, but none made by a stranger."""
    return private_bases(os.getuid() or None)


def _names(runtime: Runtime) -> set[str]:
    facts = read_instance(runtime)
    return {runtime.path.name, str(facts.get("pid", "")), _title(runtime)}


def _title(runtime: Runtime) -> str:
    facts = read_instance(runtime)
    return str(facts.get("name") or facts.get("target") or "starting")


def _connect(runtime: Runtime) -> socket.socket:
    """Connect to the console; one that is just being started or replaced is waited for."""
    if read_instance(runtime).get("console") is False:
        raise ConfigurationError(
            f"{_title(runtime)} ({runtime.path.name}) has no console; expected a daemon that was "
            "started without --no-console"
        )
    deadline = time.monotonic() + _CONNECT
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(_CONNECT)
        try:
            sock.connect(str(runtime.console_socket))
        except OSError as error:
            sock.close()
            if time.monotonic() > deadline or not has_arbiter(runtime):
                raise ConfigurationError(
                    f"{runtime.console_socket}: {error.strerror or error}; "
                    "expected a running console"
                ) from error
            time.sleep(_AGAIN)
        else:
            sock.settimeout(None)
            return sock


def _talk(runtime: Runtime, words: list[str]) -> int:
    with _connect(runtime) as sock:
        terminal = sys.stdout.isatty()
        arguments = {
            "words": words, "colour": terminal and not os.environ.get("NO_COLOR"),
            "width": shutil.get_terminal_size().columns if terminal else None,
            "height": _height() if terminal else None,
        }
        sock.sendall(encode({"id": 1, "command": "run", "arguments": arguments}))
        try:
            return _print_replies(sock)
        except KeyboardInterrupt:
            return _cancel(sock)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


def _height() -> int | None:
    """Lines of the screen; None where nothing can be painted."""
    plain = os.environ.get("TERM", "") in ("", "dumb", "unknown")
    return None if plain else shutil.get_terminal_size().lines


def _cancel(sock: socket.socket) -> int:
    """Cancel the command; its last words give the screen back as it was."""
    try:
        sock.sendall(encode({"id": 1, "cancel": True}))
        _print_replies(sock, _GOODBYE)
    except (KeyboardInterrupt, ApihourError, OSError):
        pass  # it is over, one way or another
    return CANCELLED


def _print_replies(sock: socket.socket, patience: float | None = None) -> int:
    """Print until the result, which is returned. Raises TimeoutError after `patience` seconds
    of silence."""
    framer = Framer()
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(sys.stdout.fileno(), 0)  # only errors: the reader is gone
    while True:
        events = dict(poll.poll(None if patience is None else patience * 1000))
        if not events:
            raise TimeoutError
        if events.get(sys.stdout.fileno(), 0) & select.POLLERR:
            raise BrokenPipeError
        data = sock.recv(64 * 1024)
        if not data:
            raise ConfigurationError("the console closed the connection; expected a result")
        for message in framer.feed(data):
            if "result" in message:
                return int(message["result"]["status"])
            if "error" in message:
                raise ConfigurationError(str(message["error"]))
            item = message.get("item", {})
            sys.stderr.write(item.get("err", ""))
            sys.stdout.write(item.get("out", ""))
            sys.stdout.flush()

"""Whose fault a failure is: the user's own file, line and text in a traceback.

The user's code is what lies outside the standard library, site-packages and this
distribution. This module stands at the root of its package: where it lies says what is ours.
"""

from __future__ import annotations

import linecache
import os
import traceback
from collections.abc import Sequence
from types import TracebackType

from apihour.errors import ApihourError, one_line
from apihour.excerpt import DETAIL, LINE, excerpt

__all__ = ["account", "blame", "blame_frames", "blamed", "is_user_code", "user_traceback"]


def blame(error: BaseException) -> str:
    """``file:line: text: Error: message`` for the last line of the user's code in a traceback.

    The user's code is what lies outside the standard library, site-packages and this
    package; where there is none of it, the innermost frame is named.
    """
    summary = traceback.TracebackException(type(error), error, None)
    summary.__notes__ = None  # they would come last, where the message is looked for
    message = " ".join(list(summary.format_exception_only())[-1].split())
    place = blamed(error)
    return f"{place}: {message}" if place else message


def blamed(error: BaseException) -> str:
    """``file:line: text`` of :func:`blame`; empty where the error was never raised."""
    return blame_frames(_frames(error.__traceback__))


def blame_frames(frames: Sequence[tuple[str, int]]) -> str:
    """``file:line: text`` of the user's innermost frame, as above; empty without frames.

    `frames` are files and lines, the innermost last.
    """
    frames = [frame for frame in frames if not frame[0].startswith("<frozen")]
    own = [frame for frame in frames if is_user_code(frame[0])]
    if not frames:
        return ""
    path, line = (own or frames)[-1]
    text = linecache.getline(path, line).strip()
    return f"{path}:{line}: {text}" if text else f"{path}:{line}"


def _frames(trace: TracebackType | None) -> list[tuple[str, int]]:
    return [(f.filename, f.lineno or 0) for f in traceback.extract_tb(trace)]


def user_traceback(error: BaseException) -> str:
    """The traceback of what lies behind `error`, from the user's first frame on.

    The frames of this package and of the import system say nothing about a mistake in the
    application. Empty when there are no others: then ``str(error)`` says it all.
    """
    while isinstance(error, ApihourError) and error.__cause__ is not None:
        error = error.__cause__
    told = traceback.TracebackException.from_exception(error)
    chained: list[traceback.TracebackException | None] = [told]
    for one in chained:
        if one is not None:
            one.stack = traceback.StackSummary.from_list(_from_the_users(one.stack))
            chained += [one.__cause__, one.__context__, *(one.exceptions or ())]
    if told.stack:
        return "".join(told.format())
    if isinstance(error, SyntaxError):
        return "".join(told.format_exception_only())
    own = isinstance(error, ApihourError | ModuleNotFoundError)
    return "" if own else "".join(traceback.format_exception(error))


def account(error: BaseException, detail: str = "") -> dict[str, str]:
    """What a child tells the arbiter of its failure: one line, and `detail` or the traceback."""
    message = error.told() if isinstance(error, ApihourError) else one_line(repr(error))
    return {"message": excerpt(message, LINE),
            "detail": excerpt(detail or user_traceback(error), DETAIL)}


def _from_the_users(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    first = next((at for at, one in enumerate(frames) if is_user_code(one.filename)), len(frames))
    return [one for one in frames[first:] if not one.filename.startswith((*_OURS, "<frozen"))]


_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
# Not of sysconfig: asking it costs a third of a megabyte in every worker.
_STDLIB = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_OURS = (_HERE, os.path.join(os.path.dirname(os.path.dirname(_HERE)), "protocols") + os.sep)
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def is_user_code(path: str) -> bool:
    """Whether a file lies outside the standard library, site-packages and this distribution."""
    foreign = path.startswith((*_OURS, _STDLIB, "<")) or path.endswith((".pyx", ".pxd"))
    return not foreign and not any(one in path for one in _INSTALLED)

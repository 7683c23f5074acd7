"""The text of ``--help``: gunicorn's words without its markup, and what cannot be given left out.

Rule: a default is shown where it says something to who reads it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any

from apihour.config.verdicts import REFUSED
from apihour.ipc.private import parser_options

__all__ = ["explain", "plain"]

_ROLE = re.compile(r":\w+:`([^`<]*?)\s*(?:<[^>]*>)?`")
_CODE = re.compile(r"``([^`]*)``|`([^`]*)`|(?<!\w)\*\*?([\w-]+)\*\*?(?!\w)")
# Defaults that are found out at the start.
_FOUND_OUT = {"workers": "one for each CPU it may use", "user": "who starts it",
              "group": "who starts it", "umask": "0", "chdir": "where it is started"}

# Where gunicorn's words speak of gunicorn, end early, or name an option that is refused here.
_OWN_WORDS = {
    "config": "A configuration file: options as Python assignments, or python:MODULE",
    "reload_extra_files": "More files that apihour dev watches",
    "print_config": "Print the configuration and exit",
    "daemon": "Detach from the terminal and serve in the background",
    "umask": "A bit mask for the mode of the files it makes",
    "initgroups": "Give the workers every group that --user is in",
    "logger_class": "The class that logs",
    "capture_output": "Send stdout and stderr to --error-logfile",
    "logconfig_json": "A log configuration in JSON, as of logging.config.dictConfig()",
    "syslog": "Send the log to syslog",
    "syslog_prefix": "The program's name in the entries of syslog",
    "cert_reqs": "Whether clients have a certificate: 0 no, 1 they may, 2 they must",
}


_ABOUT = {
    "apihour": "Serve it, on every CPU this process may use.",
    "apihour dev": "One worker, started again on every change of code, configuration or templates.",
    "apihour check": "Say what would be served where, and refuse what a start would refuse.",
}


def explain(parser: argparse.ArgumentParser, settings: Mapping[str, Any]) -> None:
    """Give the options of `parser` the help of their settings; none to those that are refused."""
    parser.description = _ABOUT.get(parser.prog)
    for action in parser_options(parser):
        setting = settings.get(action.dest)
        if action.dest in REFUSED:
            action.help = argparse.SUPPRESS
        elif setting is not None:
            text = plain(_OWN_WORDS.get(setting.name, setting.short))
            default = _default(setting)
            action.help = f"{text}{f' [{default}]' if default else ''}".replace("%", "%%")


def plain(text: str) -> str:
    """A sentence of reStructuredText as one of a terminal's."""
    text = _ROLE.sub(r"\1", " ".join(text.split()))
    text = _CODE.sub(lambda match: next(filter(None, match.groups()), ""), text)
    return text if text.endswith((".", ")")) else f"{text}."


def _default(setting: Any) -> str:
    if setting.name in _FOUND_OUT:
        return _FOUND_OUT[setting.name]
    default = setting.default
    if default is None or default is False or default in ("", []) or callable(default):
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)

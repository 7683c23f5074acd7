"""What --help says, and what it leaves out."""

from __future__ import annotations

import re

import pytest

from apihour.config.helptext import plain
from apihour.config.own import OWN
from apihour.config.settings import HostConfig
from apihour.config.verdicts import REFUSED


def text() -> str:
    return " ".join(HostConfig("apihour module:Container [options]").parser().format_help().split())


def test_no_markup_and_no_default_that_says_nothing() -> None:
    found = re.findall(r":\w+:`|``|`|\[\[\]\]|\[None\]|\[False\]|\[\]|Refused|Gunicorn", text())
    assert not found


def test_every_option_that_can_be_given_is_there_and_no_other() -> None:
    settings = HostConfig().settings
    own = {cls.name for cls in OWN}
    said = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text()))
    for name, setting in settings.items():
        if not setting.cli:
            continue
        is_refused = name not in own and name in REFUSED
        assert (setting.cli[-1] in said) != is_refused, name


def test_the_workers_default_is_not_a_number() -> None:
    assert "that follows the load. [one for each CPU it may use]" in text()


@pytest.mark.parametrize(("marked", "said"), [
    (":ref:`The file<configuration_file>`.", "The file."),
    ("Extends :ref:`reload` option", "Extends reload option."),
    ("added to the *max_requests* setting", "added to the max_requests setting."),
    ("(see ``ssl`` module)", "(see ssl module)"),
    ("2 * 3 * 4", "2 * 3 * 4."),
])
def test_plain(marked: str, said: str) -> None:
    assert plain(marked) == said

"""What a command line shows to others, by what its command declares."""

from __future__ import annotations

import pytest

from apihour.masking import MASK
from apihour.ops.annotations import Secret
from apihour.ops.catalogue import Catalogue
from apihour_console.shell.hidden import hide_secrets

catalogue = Catalogue()


@catalogue.command()
def deploy(agent: object, where: str, key: Secret = "", *more: Secret, pin: Secret = "") -> None:
    """Deploy somewhere"""


@pytest.mark.parametrize(("words", "line"), [
    (["deploy", "prod", "hunter2"], f"deploy prod '{MASK}'"),
    (["deploy", "prod", "hunter2", "abc", "de"], f"deploy prod '{MASK}' '{MASK}' '{MASK}'"),
    (["deploy", "--pin", "1234", "prod"], f"deploy --pin '{MASK}' prod"),
    (["deploy", "--pin=1234", "prod"], f"deploy '--pin={MASK}' prod"),
    (["deploy", "prod"], "deploy prod"),
    (["deploy", "--nonsense", "hunter2"], f"deploy '{MASK}'"),
    (["deploy"], "deploy"),
])
def test_declared_secrets(words: list[str], line: str) -> None:
    assert hide_secrets(words, catalogue.get("deploy"))[0] == line


def test_messages_about_the_line() -> None:
    hidden = hide_secrets(["deploy", "prod", "hunter2"], catalogue.get("deploy"))[1]
    assert hidden("hunter2: no such key at prod") == f"{MASK}: no such key at prod"
    hidden = hide_secrets(["deploy", "--x", "hunter2"], catalogue.get("deploy"))[1]
    assert hidden("unexpected word 'hunter2'") == f"unexpected word '{MASK}'"


def test_what_sounds_like_a_secret_needs_no_declaration() -> None:
    line, hidden = hide_secrets(["unknown", "--token", "s3cr3t"], None)
    assert line == f"unknown --token '{MASK}'"
    assert hidden("token=s3cr3t") == f"token={MASK}"

"""What a command line shows to others, by what its command declares."""

from __future__ import annotations

import pytest

from apihour.masking import MASK
from apihour.ops.annotations import Secret
from apihour.ops.catalogue import Catalogue
from apihour_console.shell.hidden import has_secret, hide_secrets

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


@pytest.mark.parametrize("secret", ["two words", "it's \"quoted\"", "x" * 100, "a\\b\nc"])
@pytest.mark.parametrize("words", [["unknown", "--token"], ["unknown", "password", "="],
                                   ["unknown", "Authorization:", "Bearer"]])
def test_messages_quote_no_value_that_the_line_hides(words: list[str], secret: str) -> None:
    line, hidden = hide_secrets([*words, secret], None)
    assert secret[:5] not in line
    for message in (f"bad {secret}", f"bad {secret!r}", f"bad {secret!r:.80}"):
        assert secret[:5] not in hidden(message) and secret[-3:] not in hidden(message)


def test_lines_with_a_secret_are_known() -> None:
    for line in ("deploy prod hunter2", "login --token 'a b'", "workers\nlogin --token=x",
                 "login --token 'a b"):
        assert has_secret(line, catalogue), line
    assert not has_secret("deploy prod\nworkers 'a", catalogue)
    assert has_secret("password = 'x'", None) and not has_secret("1 + 1", None)

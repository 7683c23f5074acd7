"""The authorized_keys text: options, roles, problems, and who matches from where."""

from __future__ import annotations

import asyncssh
import pytest

from apihour_console.keys.authorized import parse_authorized_keys, split_entry

KEY = asyncssh.generate_private_key("ssh-ed25519", comment="me@here")
TEXT = KEY.export_public_key("openssh").decode().strip()
WEAK = asyncssh.generate_private_key("ssh-rsa", key_size=1024)


def test_roles_and_comments() -> None:
    found = parse_authorized_keys(f'# who\n\n{TEXT}\nrole="admin" {TEXT}\n')
    assert [(key.number, key.role, key.comment) for key in found.keys] == [
        (3, "observer", "me@here"), (4, "admin", "me@here")
    ]
    assert found.problems == ()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f'role="king" {TEXT}', "expected one of observer, operator, admin"),
        (f'role="admin",role="observer" {TEXT}', "role given twice"),
        (f'role="admin {TEXT}', "expected name="),
        (f'expiry-time="soon" {TEXT}', "expected YYYYMMDD"),
        ("ssh-ed25519 AAAA", "expected an OpenSSH public key"),
        ("hello", "expected an OpenSSH public key"),
        (WEAK.export_public_key("openssh").decode(), "expected at least 2048"),
    ],
    # Not by the lines: the key in them is another one in each process of the suite.
    ids=["role", "twice", "quotes", "time", "half a key", "no key", "weak key"],
)
def test_a_bad_line_is_named_and_spoils_no_other(line: str, expected: str) -> None:
    found = parse_authorized_keys(f"{line}\n{TEXT}\n", "keys/authorized_keys")
    assert len(found.keys) == 1
    assert len(found.problems) == 1
    assert found.problems[0].startswith("keys/authorized_keys, line 1: ")
    assert expected in found.problems[0]


def test_from_is_honoured() -> None:
    found = parse_authorized_keys(f'from="10.0.0.0/8,!10.9.*",role="admin" {TEXT}')
    public = KEY.convert_to_public()
    assert found.match(public, "10.1.2.3", "10.1.2.3") is not None
    assert found.match(public, "10.9.2.3", "10.9.2.3") is None
    assert found.match(public, "127.0.0.1", "127.0.0.1") is None


def test_expired_and_foreign_keys_do_not_match() -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").convert_to_public()
    found = parse_authorized_keys(f'expiry-time="20200101Z" {TEXT}')
    assert found.match(KEY.convert_to_public(), "h", "127.0.0.1") is None
    assert found.find(found.keys[0].fingerprint) is None
    later = parse_authorized_keys(f'expiry-time="29991231235959" {TEXT}')
    assert later.match(KEY.convert_to_public(), "h", "127.0.0.1") is not None
    assert later.match(other, "h", "127.0.0.1") is None


def test_an_authority_signs_and_does_not_log_in() -> None:
    found = parse_authorized_keys(f'cert-authority,principals="ops",role="operator" {TEXT}')
    public = KEY.convert_to_public()
    assert found.match(public, "h", "127.0.0.1") is None
    assert found.match(public, "h", "127.0.0.1", ["dev"], authority=True) is None
    entry = found.match(public, "h", "127.0.0.1", ["ops"], authority=True)
    assert entry is not None and entry[0].role == "operator"


def test_split_entry_reads_quotes() -> None:
    options, key = split_entry(r'command="echo \"a, b\"",no-pty,role="admin" ssh-ed25519 AAAA c')
    assert options == (("command", 'echo "a, b"'), ("no-pty", ""), ("role", "admin"))
    assert key == "ssh-ed25519 AAAA c"


def test_a_huge_file_authorises_nobody() -> None:
    found = parse_authorized_keys((TEXT + "\n") * 20_000)
    assert found.keys == () and "nobody may log in" in found.problems[0]

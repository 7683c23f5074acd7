"""The keys directory: what a first start makes, what it refuses, what the commands edit."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import asyncssh
import pytest

from apihour_console.keys.command import run as main
from apihour_console.keys.directory import KeyDirectory, KeysError, prepare


@pytest.fixture
def directory(tmp_path: Path) -> KeyDirectory:
    return KeyDirectory(tmp_path / "keys")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    return tmp_path / "home"


def public_key(comment: str = "me@here") -> str:
    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    return key.export_public_key("openssh").decode().strip()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_first_start_from_a_terminal_authorises_own_keys(
    directory: KeyDirectory, home: Path
) -> None:
    (home / ".ssh" / "id_ed25519.pub").write_text(public_key())
    (home / ".ssh" / "id_broken.pub").write_text("nonsense")
    found = prepare(directory, terminal=True, root=False, home=home, port=8022)
    assert not found.off
    assert [(key.role, key.comment) for key in found.authorized.keys] == [("admin", "me@here")]
    assert "ssh admin@127.0.0.1 -p 8022" in found.notes[0]
    assert not directory.admin_key.exists()
    assert mode(directory.host_key) == mode(directory.authorized) == 0o600
    assert mode(directory.path) == 0o700


@pytest.mark.parametrize("root", [True, False])
def test_admin_key_is_made_for_root_and_for_who_has_none(
    directory: KeyDirectory, home: Path, root: bool
) -> None:
    if root:
        (home / ".ssh" / "id_ed25519.pub").write_text(public_key())
    found = prepare(directory, terminal=True, root=root, home=home, port=8022)
    assert not found.off
    assert mode(directory.admin_key) == 0o600
    assert f"ssh -i {directory.admin_key.absolute()} admin@127.0.0.1 -p 8022" in found.notes[0]
    again = prepare(directory, terminal=True, root=root, home=home, port=8022)
    assert again.notes == ()
    assert again.host_key is not None and found.host_key is not None
    assert again.host_key.get_fingerprint() == found.host_key.get_fingerprint()


def test_first_start_without_a_terminal_invents_nothing(
    directory: KeyDirectory, home: Path
) -> None:
    found = prepare(directory, terminal=False, root=False, home=home)
    assert "apihour keys add" in found.off and "\n" not in found.off
    assert not directory.path.exists()


def test_a_start_with_authorized_keys_makes_the_host_key(directory: KeyDirectory) -> None:
    directory.path.mkdir()
    directory.authorized.write_text(f'role="operator" {public_key()}\n')
    found = prepare(directory, terminal=False, root=False, home=None)
    assert not found.off and mode(directory.host_key) == 0o600


def test_read_only_directory_is_served_and_not_written(directory: KeyDirectory) -> None:
    directory.path.mkdir()
    directory.authorized.write_text(public_key())
    directory.make_host_key()
    before = sorted(path.name for path in directory.path.iterdir())
    directory.path.chmod(0o500)
    try:
        assert not prepare(directory, terminal=True, root=False, home=None).off
        assert sorted(path.name for path in directory.path.iterdir()) == before
    finally:
        directory.path.chmod(0o700)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("authorized_keys", b"\xff\xfe", "expected a text file"),
        ("authorized_keys", b"# nobody\n", "authorises no key"),
        ("ssh_host_ed25519_key", b"rubbish", "expected an OpenSSH private key"),
    ],
)
def test_bad_files_are_one_line(
    directory: KeyDirectory, name: str, content: bytes, expected: str
) -> None:
    directory.path.mkdir()
    directory.authorized.write_text(public_key())
    (directory.path / name).write_bytes(content)
    (directory.path / name).chmod(0o600)
    found = prepare(directory, terminal=False, root=False, home=None)
    assert expected in found.off and name in found.off and "\n" not in found.off


@pytest.mark.parametrize(("harm", "mend"), [
    ("file", "mode 0666 lets others write to it; expected 0644: chmod go-w {0}/authorized_keys"),
    ("group", "mode 0664 lets others write to it; expected 0644: chmod go-w {0}/authorized_keys"),
    ("directory", "mode 0777 lets others write to it; expected 0755: chmod go-w {0}"),
    ("owner", "authorized_keys: is owned by "),
])
def test_what_others_may_have_written_is_refused(
    directory: KeyDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    harm: str, mend: str,
) -> None:
    directory.path.mkdir()
    directory.authorized.write_text(public_key())
    if harm == "owner":
        if os.geteuid() != 0:
            pytest.skip("needs root, to give files away")
        os.chown(directory.authorized, 54321, -1)
    else:
        path = directory.path if harm == "directory" else directory.authorized
        path.chmod({"file": 0o666, "group": 0o664, "directory": 0o777}[harm])
    with pytest.raises(KeysError) as caught:
        directory.read_authorized()
    assert mend.format(directory.path) in str(caught.value)
    found = prepare(directory, terminal=True, root=True, home=None)
    assert found.off == f"network shell off: {caught.value}" and "\n" not in found.off
    assert main(["add", "--keys", str(directory.path), public_key("other")]) == 1
    assert capsys.readouterr().err == f"apihour keys: {caught.value}\n"
    assert "other" not in directory.authorized.read_text()


def test_a_directory_that_others_may_write_gets_no_first_keys(directory: KeyDirectory) -> None:
    directory.path.mkdir()
    directory.path.chmod(0o777)
    found = prepare(directory, terminal=True, root=True, home=None)
    assert "chmod go-w" in found.off and list(directory.path.iterdir()) == []


def test_a_private_key_that_others_may_read_is_refused(directory: KeyDirectory) -> None:
    directory.path.mkdir()
    directory.authorized.write_text(public_key())
    directory.make_host_key()
    directory.host_key.chmod(0o644)
    found = prepare(directory, terminal=False, root=False, home=None)
    assert found.host_key is None
    assert found.off == (
        f"network shell off: {directory.host_key}: mode 0644 lets others read a private key; "
        f"expected 0600: chmod 600 {directory.host_key}")
    directory.host_key.chmod(0o600)
    assert not prepare(directory, terminal=False, root=False, home=None).off


def test_a_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")
    found = prepare(KeyDirectory(tmp_path / "keys"), terminal=True, root=True, home=None)
    assert "keys" in found.off and "\n" not in found.off


def test_commands_add_list_remove_rotate(
    directory: KeyDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ["--keys", str(directory.path)]
    file = tmp_path / "you.pub"
    file.write_text(public_key("you@there"))
    assert main(["add", *keys, str(file), "--role", "operator", "--from", "10.0.0.0/8"]) == 0
    assert main(["add", *keys, public_key("other")]) == 0
    assert main(["add", *keys, str(file)]) == 1
    err = capsys.readouterr().err
    fingerprint = err.split()[2]
    assert err == (f"apihour keys: {fingerprint} is there already as operator (line 1); to change "
                   f"it, first: apihour keys remove {fingerprint} {' '.join(keys)}\n")
    for word, count in (("nosuch", "no key"), ("", "no key")):
        assert main(["remove", *keys, word]) == 1
        assert capsys.readouterr().err == (
            f"apihour keys: {word!r} names {count}; expected a fingerprint (or its first six "
            "characters), comment or line that names one, as apihour keys list "
            f"{' '.join(keys)} shows them\n")
    assert main(["list", *keys, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["role"], row["comment"]) for row in rows] == [
        ("operator", "you@there"), ("observer", "other")
    ]
    assert rows[0]["options"] == 'from="10.0.0.0/8"'
    assert main(["remove", *keys, rows[0]["fingerprint"]]) == 0
    assert [key.comment for key in directory.read_authorized().keys] == ["other"]
    first = directory.read_host_key()
    assert main(["rotate-host", *keys]) == 0
    second = directory.read_host_key()
    assert first is not None and second is not None
    assert first.get_fingerprint() != second.get_fingerprint()


def test_commands_refuse_what_is_no_public_key(
    directory: KeyDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = tmp_path / "id"
    private.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    for name in (str(private), str(tmp_path / "absent"), "not a key"):
        assert main(["add", "--keys", str(directory.path), name]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "expected" in error
    assert not directory.path.exists()
    assert main(["remove", "--keys", str(directory.path), "SHA256:nobody"]) == 1


def test_rewriting_keeps_other_lines(directory: KeyDirectory) -> None:
    directory.path.mkdir()
    directory.authorized.write_text(f"# mine\n{public_key('a')}\n\n{public_key('b')}\n")
    assert main(["remove", "--keys", str(directory.path), "b"]) == 0
    text = directory.authorized.read_text()
    assert text.startswith("# mine\n") and " a\n" in text and " b\n" not in text
    assert os.listdir(directory.path) == ["authorized_keys"]


@pytest.mark.parametrize("words", [
    ("--keys", "{}", "list", "--json"), ("list", "--keys", "{}", "--json"),
    ("list", "--json", "--keys={}"), ("--keys", "elsewhere", "list", "--json", "--keys", "{}"),
])
def test_the_directory_may_be_named_before_or_after(
    directory: KeyDirectory, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert main(["--keys", str(directory.path), "add", public_key("before")]) == 0
    assert main(["add", public_key("after"), "--keys", str(directory.path)]) == 0
    capsys.readouterr()
    assert main([word.format(directory.path) for word in words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["comment"] for row in found] == ["before", "after"]

"""Files that only root and this user can have written, as sshd(8) wants them."""

import os
from types import SimpleNamespace

import pytest

from apihour_ssh.private_files import (
    PrivateFileError,
    check_directory,
    check_trusted,
    open_private,
    read_tail,
)


@pytest.mark.parametrize(("mode", "is_fine"), [
    (0o40700, True), (0o40755, True), (0o41777, True), (0o40775, False), (0o40777, False),
    (0o100600, True), (0o100644, True), (0o100664, False), (0o100666, False), (0o101666, False),
])
def test_modes(tmp_path, mode, is_fine):
    path = tmp_path / "a file"
    facts = SimpleNamespace(st_mode=mode, st_uid=os.geteuid())
    if is_fine:
        check_trusted(path, facts)
        return
    with pytest.raises(PrivateFileError) as caught:
        check_trusted(path, facts)
    octal = f"{mode & 0o7777:04o}"
    assert str(caught.value) == (
        f"{path}: mode {octal} lets others write to it; expected "
        f"{mode & 0o7777 & ~0o022:04o}: chmod go-w '{path}'")


def test_owners(tmp_path, monkeypatch):
    path = tmp_path / "keys"
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    for uid in (0, 54321):
        check_trusted(path, SimpleNamespace(st_mode=0o100600, st_uid=uid))
    with pytest.raises(PrivateFileError) as caught:
        check_trusted(path, SimpleNamespace(st_mode=0o100600, st_uid=54322))
    assert str(caught.value) == (
        f"{path}: is owned by 54322; expected 54321 or root: chown 54321 {path}")


def test_directory(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(PrivateFileError, match="chmod go-w"):
        check_directory(tmp_path)
    tmp_path.chmod(0o700)
    check_directory(tmp_path)


@pytest.mark.parametrize(("make", "message"), [
    (lambda path: path.symlink_to(path.with_name("target")), "is a symbolic link; expected a fi"),
    (lambda path: path.symlink_to("/dev/null"), "is a symbolic link; expected a file: rm "),
    (lambda path: os.mkfifo(path, 0o600), "expected a regular file"),
    (lambda path: path.touch(0o644), "mode 0644 lets others read it; expected 0600: chmod 600 "),
], ids=["link", "link to a device", "fifo", "mode"])
def test_what_is_no_file_of_ours_is_not_opened(tmp_path, make, message):
    path = tmp_path / "file"
    make(path)
    with pytest.raises(PrivateFileError, match=message) as caught:
        open_private(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert not path.with_name("target").exists()


def test_a_new_one_is_private(tmp_path):
    os.close(open_private(tmp_path / "file", os.O_WRONLY | os.O_CREAT))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert read_tail(tmp_path / "file", 10) == ""
    (tmp_path / "file").write_text("0123456789")
    assert read_tail(tmp_path / "file", 3) == "789"

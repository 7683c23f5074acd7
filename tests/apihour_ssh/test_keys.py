"""Host keys made once, and authorised keys read line by line."""

import datetime
import logging
import os
import stat
import subprocess
import sys

import asyncssh
import pytest

from apihour_ssh.authorized import AuthorizedKeysError, AuthorizedKeysFile, is_expired
from apihour_ssh.hostkeys import HostKeyError, load_host_keys

LOGGER = logging.getLogger("test.keys")


def test_a_missing_key_is_made_once(tmp_path):
    path = tmp_path / "keys" / "host"
    (first,) = load_host_keys(path)
    (second,) = load_host_keys(str(path))
    assert first.public_data == second.public_data
    assert first.get_algorithm() == "ssh-ed25519"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(path.parent)) == ["host", "host.pub"]
    assert (path.parent / "host.pub").read_bytes() == first.export_public_key()


def test_workers_that_start_at_once_agree(tmp_path):
    code = ("import sys; from apihour_ssh.hostkeys import load_host_keys\n"
            "input()\nprint(load_host_keys(sys.argv[1])[0].get_fingerprint())")
    workers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "host")], text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(6)]
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    prints = {worker.communicate(timeout=30)[0] for worker in workers}
    assert len(prints) == 1 and prints.pop().startswith("SHA256:")


def test_keys_and_several_sources(tmp_path):
    key = asyncssh.generate_private_key("ssh-ed25519")
    assert load_host_keys(key) == [key]
    assert load_host_keys([key, tmp_path / "other"])[0] is key


@pytest.mark.parametrize(("content", "mode", "message"), [
    (b"nonsense", 0o600, "expected an unencrypted private key"),
    (asyncssh.generate_private_key("ssh-ed25519").export_private_key(), 0o644,
     "mode 0644 lets others read it, expected 0600: chmod 600 /"),
    (asyncssh.generate_private_key("ssh-ed25519").export_private_key(
        "pkcs8-pem", passphrase="secret"), 0o600, "expected an unencrypted private key"),
], ids=["nonsense", "mode", "encrypted"])
def test_unusable_keys(tmp_path, content, mode, message):
    path = tmp_path / "host"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(HostKeyError, match=message) as caught:
        load_host_keys(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HostKeyError, match="cannot be made"):
        load_host_keys(tmp_path / "file" / "host")
    with pytest.raises(HostKeyError, match="cannot be read"):
        load_host_keys(tmp_path)


@pytest.fixture
def public():
    key = asyncssh.generate_private_key("ssh-ed25519")
    return key.convert_to_public(), key.export_public_key().decode().strip()


def test_a_bad_line_is_named_and_spoils_no_other(tmp_path, public, caplog):
    key, line = public
    path = tmp_path / "authorized_keys"
    path.write_text(f'# mine\n\nssh-rsa broken\nfrom="unbalanced {line}\nrole="admin" {line}\n')
    keys = AuthorizedKeysFile(path, LOGGER).load()
    assert keys.validate(key, "", "127.0.0.1") == {"role": ["admin"]}
    assert "line 3: ignored" in caplog.text and "line 4: ignored" in caplog.text


def test_nobody_is_an_error_at_the_start_and_a_revocation_later(tmp_path, public, caplog):
    key, line = public
    path = tmp_path / "authorized_keys"
    path.write_text("# nobody\n")
    with pytest.raises(AuthorizedKeysError, match="holds no key"):
        AuthorizedKeysFile(path, LOGGER).load()
    path.write_text(line + "\n")
    file = AuthorizedKeysFile(path, LOGGER)
    assert file.load() is file.current()
    path.write_text("# revoked\n")
    assert file.current().validate(key, "", "127.0.0.1") is None
    assert "nobody can log in by key" in caplog.text
    path.write_text(line + "  # again\n")
    assert file.current().validate(key, "", "127.0.0.1") == {}


@pytest.mark.parametrize(("harm", "mend"), [("file", "chmod go-w {}/authorized_keys"),
                                           ("directory", "chmod go-w {}")])
def test_a_file_that_others_may_write_lets_nobody_in(tmp_path, public, caplog, harm, mend):
    key, line = public
    path = tmp_path / "keys" / "authorized_keys"
    path.parent.mkdir(mode=0o700)
    path.write_text(line + "\n")
    file = AuthorizedKeysFile(path, LOGGER)
    assert file.load().validate(key, "", "127.0.0.1") == {}
    harmed = path if harm == "file" else path.parent
    harmed.chmod(0o777)
    assert file.current().validate(key, "", "127.0.0.1") is None
    assert caplog.text.count(mend.format(path.parent)) == 1
    with pytest.raises(AuthorizedKeysError, match="mode 0777 lets others write to it; expected 07"):
        AuthorizedKeysFile(path, LOGGER).load()
    harmed.chmod(0o700)
    assert file.current().validate(key, "", "127.0.0.1") == {}


def test_too_large(tmp_path):
    path = tmp_path / "authorized_keys"
    path.write_bytes(b"#" * (1 << 21))
    with pytest.raises(AuthorizedKeysError, match="expected at most"):
        AuthorizedKeysFile(path, LOGGER).load()


@pytest.mark.parametrize(("value", "expired"), [
    (None, False), (["20300101"], False), (["20200101"], True), (["202601021200Z"], True),
    (["20260102120001Z"], False), ("20260102120001Z", False), (["soon"], True),
    (["20269999"], True), (True, True),
])
def test_expiry(value, expired):
    now = datetime.datetime(2026, 1, 2, 12, 0, 0, tzinfo=datetime.UTC)
    assert is_expired(value, now) is expired


def test_a_file_that_comes_in_time_is_not_missed(tmp_path, public, caplog):
    key, line = public
    path = tmp_path / "authorized_keys"
    file = AuthorizedKeysFile(path, LOGGER)
    assert file.expect().validate(key, "", "127.0.0.1") is None
    path.write_text(line + "\n")
    file.remind()
    assert file.current().validate(key, "", "127.0.0.1") == {}
    assert caplog.text == ""


@pytest.mark.parametrize(("name", "how"), [
    ("authorized_keys", "add a public key: apihour keys add --keys {} FILE.pub"),
    ("operators", "write public keys to it, one a line"),
])
def test_a_file_that_does_not_come_is_said_once_with_what_to_do(tmp_path, caplog, name, how):
    file = AuthorizedKeysFile(tmp_path / name, LOGGER)
    file.expect()
    for _ in range(3):
        file.remind()
        file.current()
    (line,) = caplog.messages
    assert line == (f"nobody can log in by key: {tmp_path / name} is not there; "
                    + how.format(tmp_path))

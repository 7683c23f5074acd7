"""Secrets by file, systemd's credential or environment."""

import pytest

from apihour.secret import read_secret


def test_where_a_secret_may_be(tmp_path, monkeypatch):
    (tmp_path / "pw").write_text("s3cret \n")
    monkeypatch.setenv("PW", "of-env")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret("plain:ish") == "plain:ish"
    assert read_secret("env:PW") == "of-env"
    assert read_secret(f"file:{tmp_path}/pw") == read_secret("credential:pw") == "s3cret "


@pytest.mark.parametrize(("text", "said"), [
    ("env:NOT_SET_ANYWHERE", "env:NOT_SET_ANYWHERE: the variable is not set"),
    ("file:/nowhere/at/all", "file:/nowhere/at/all: No such file"),
    ("credential:pw", "CREDENTIALS_DIRECTORY is not set.*LoadCredential=pw:PATH"),
])
def test_a_place_without_one(text, said, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ValueError, match=said):
        read_secret(text)


@pytest.mark.parametrize("name", ["../pw", ""])
def test_a_credential_is_a_name(name, tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ValueError, match="expected credential:NAME"):
        read_secret(f"credential:{name}")


def test_a_file_that_is_no_secret(tmp_path):
    for data, said in ((b"", "0 bytes"), (b"\xff", "UTF-8"), (b"x" * 70_000, "65537 bytes")):
        (tmp_path / "pw").write_bytes(data)
        with pytest.raises(ValueError, match=said):
            read_secret(f"file:{tmp_path}/pw")

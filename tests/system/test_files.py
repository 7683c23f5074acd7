"""Files over HTTP with curl: parts, a download that goes on, uploads of every end."""

import hashlib
import json
import os
import shutil
import subprocess

import pytest

BIG = os.urandom(20_000_000)


@pytest.fixture(scope="module")
def house(apihour_module_daemon, system_apps, tmp_path_factory):
    directory = tmp_path_factory.mktemp("files")
    shutil.copy(system_apps / "files.py", directory)
    (directory / "site" / "docs").mkdir(parents=True)
    (directory / "site" / "big.bin").write_bytes(BIG)
    (directory / "site" / "docs" / "index.html").write_text("<p>docs</p>")
    (directory / "site" / "etc").symlink_to("/etc")
    (directory / "big.bin").write_bytes(BIG)
    daemon = apihour_module_daemon("files:Container", cwd=directory, workers=1)
    daemon.directory = directory
    return daemon


def begin(house, path, *options):
    return subprocess.Popen(
        ["curl", "-sS", "-m", "60", "--path-as-is", *options,
         f"http://{house.address('http')}{path}"], cwd=house.directory,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def curl(house, path, *options):
    """What curl prints, and the status of the answer."""
    process = begin(house, path, "-w", "\n%{http_code}", *options)
    said, errors = process.communicate(timeout=90)
    body, _, status = said.rpartition(b"\n")
    assert process.returncode == 0, errors
    return body, int(status)


def test_a_download_that_broke_off_goes_on(house):
    assert curl(house, "/static/big.bin") == (BIG, 200)
    assert curl(house, "/static/big.bin", "-r", "100-199") == (BIG[100:200], 206)
    part = house.directory / "part.bin"
    part.write_bytes(BIG[:7_000_001])
    assert curl(house, "/static/big.bin", "-C", "-", "-o", "part.bin")[1] == 206
    assert part.read_bytes() == BIG


def test_a_file_that_is_there_already_is_not_sent_again(house):
    curl(house, "/static/docs/", "-o", "first.html", "--etag-save", "etag")
    body, status = curl(house, "/static/docs/", "--etag-compare", "etag")
    assert (body, status) == (b"", 304)
    assert curl(house, "/static/docs", "-L") == (b"<p>docs</p>", 200)


def test_nothing_else_is_there(house):
    for path in ("../files.py", "..%2ffiles.py", "docs/../../files.py", "etc/passwd", "etc/",
                 "..\\files.py", "%2e%2e/files.py", "/etc/passwd", "docs/index.html%00"):
        assert curl(house, f"/static/{path}")[1] == 404, path


def test_text_is_compressed(house):
    plain = curl(house, "/rows")[0]
    assert curl(house, "/rows", "--compressed") == (plain, 200)
    size = curl(house, "/rows", "-H", "Accept-Encoding: gzip", "-o", "-")[0]
    assert len(size) < len(plain) / 5


def test_uploads(house):
    digest = hashlib.sha256(BIG).hexdigest()
    for options in ((), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect:")):
        body, status = curl(house, "/inbox/big", "-T", "big.bin", *options)
        assert status == 200 and json.loads(body) == {"sha256": digest}
    assert (house.directory / "inbox" / "big").read_bytes() == BIG
    body, status = curl(house, "/form", "-F", "name=ada", "-F", "file=@big.bin")
    assert json.loads(body) == {"name": "ada", "file": "big.bin", "sha256": digest}


@pytest.mark.parametrize("options", [
    (), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect:"),
])
def test_an_upload_beyond_the_limit_is_told_so(house, options):
    with (house.directory / "huge.bin").open("wb") as file:
        file.truncate(40 << 20)
    body, status = curl(house, "/inbox/huge", "-T", "huge.bin", *options)
    assert status == 413 and json.loads(body)["detail"] == "a body over 33554432 bytes"
    assert not list((house.directory / "inbox").glob("huge*"))


def test_a_client_that_disappears_within_its_upload_leaves_nothing(house):
    inbox = house.directory / "inbox"
    process = begin(house, "/inbox/lost", "-T", "big.bin", "--limit-rate", "100k")
    house.wait(lambda: list(inbox.glob("lost*")), "its begin", timeout=30)
    process.kill()
    process.communicate()
    house.wait(lambda: not list(inbox.glob("lost*")), "its end", timeout=30)
    assert curl(house, "/rows")[1] == 200
    assert "ClientGone" not in house.log and "Traceback" not in house.log

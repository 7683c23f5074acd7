"""The networks from which somebody has logged in, with two processes over one file."""

import logging
import os
import stat
import time

import pytest

from apihour_ssh.known import KnownNetworks

LOGGER = logging.getLogger("test.known")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "networks"


def known(path):
    return KnownNetworks(path, LOGGER)


def test_it_outlives_the_process_and_is_private(path):
    one = known(path)
    assert "192.0.2.1" not in one and not path.exists()
    one.add("192.0.2.1")
    one.add("2001:db8::/64")
    one.add("")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = known(path)
    assert "192.0.2.1" in again and "2001:db8::/64" in again
    assert "" not in again and "192.0.2.2" not in again
    assert os.listdir(path.parent) == ["networks"]


def test_two_processes_learn_from_each_other_and_lose_nothing(path):
    one, two = known(path), known(path)
    one.add("192.0.2.1")
    assert "192.0.2.1" in two
    before = path.read_text()
    two.add("192.0.2.2")
    path.write_text(before)  # as if `one` had replaced it in the same moment
    path.chmod(0o600)
    assert "192.0.2.2" in two
    assert {"192.0.2.1", "192.0.2.2"} == {
        line.split()[0] for line in path.read_text().splitlines()}
    assert "192.0.2.2" in one


def test_a_login_a_day_is_written_once(path):
    one = known(path)
    one.add("192.0.2.1")
    inode = path.stat().st_ino
    one.add("192.0.2.1")
    assert path.stat().st_ino == inode


def test_old_ones_and_nonsense_are_forgotten(path):
    now = int(time.time())
    path.write_text(f"192.0.2.1 {now - 91 * 86400}\nrubbish\n192.0.2.2 {now}\n192.0.2.3 -5\n"
                    f"../x {now}\n192.0.2.4 99999999999999999999\n")
    path.chmod(0o600)
    one = known(path)
    assert [f"192.0.2.{n}" in one for n in (1, 2, 3, 4)] == [False, True, False, True]
    assert "../x" not in one


def test_it_is_bounded(path):
    one = known(path)
    for number in range(600):
        one._logins[f"10.0.{number >> 8}.{number & 255}"] = 1.0 + number
    one.add("192.0.2.1")
    assert len(path.read_text().splitlines()) == 512 and "192.0.2.1" in known(path)


@pytest.mark.parametrize("harm", ["link", "mode", "directory"])
def test_what_others_may_have_written_is_not_believed(path, caplog, harm):
    caplog.set_level(logging.INFO)
    text = f"192.0.2.1 {int(time.time())}\n"
    if harm == "link":
        (path.parent / "elsewhere").write_text(text)
        (path.parent / "elsewhere").chmod(0o600)
        path.symlink_to(path.parent / "elsewhere")
    elif harm == "directory":
        path.mkdir()
    else:
        path.write_text(text)
        path.chmod(0o666)
    one = known(path)
    assert "192.0.2.1" not in one and "192.0.2.1" not in one
    (line,) = caplog.messages
    assert line.startswith(f"known networks {path}: ") and line.endswith("; kept in memory")
    one._logins["192.0.2.9"] = time.time()
    assert "192.0.2.9" in one

"""The Unix sockets between a daemon's processes: whose they are, who is heard, frames."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from apihour.ipc import peer_socket
from apihour.ipc.peer_socket import PeerConnection, PeerListener, peer_uid
from apihour.ipc.wire import FrameError, encode


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.sock"


@pytest.fixture
def pair() -> Iterator[tuple[PeerConnection, PeerConnection]]:
    left, right = socket.socketpair()
    for sock in (left, right):
        sock.setblocking(False)
    with left, right:
        yield PeerConnection(left, 1000), PeerConnection(right, 1000)


def connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return sock


def test_the_file_is_private_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        listener = PeerListener(path, 4)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]
    listener.close()


def test_what_others_planted_under_the_other_name_is_not_followed(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("mine")
    victim.chmod(0o644)
    path.with_name(f".{os.getpid()}").symlink_to(victim)
    PeerListener(path, 4).close()
    assert victim.read_text() == "mine" and stat.S_IMODE(victim.stat().st_mode) == 0o644
    assert stat.S_ISSOCK(path.lstat().st_mode)


def test_nothing_is_left_of_one_that_cannot_be_made(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        PeerListener(path, 4)
    assert os.listdir(path.parent) == [path.name]


def test_who_takes_over_keeps_the_path(path: Path) -> None:
    old = PeerListener(path, 4)
    new = PeerListener(path, 4)
    assert new.is_ours() and not old.is_ours()
    old.unlink()
    assert path.exists()
    with connect(path):
        accepted = new.accept(0)
        assert accepted is not None and old.accept(0) is None
        accepted.close()
    new.unlink()
    new.unlink()
    assert not path.exists()
    old.close()
    new.close()


def test_a_peer_is_known_and_heard(path: Path) -> None:
    listener = PeerListener(path, 4)
    assert listener.accept(0) is None  # nobody there, and nobody is waited for
    with connect(path):
        sock = listener.accept(3)
        assert sock is not None and not sock.getblocking()
        assert peer_uid(sock) == os.geteuid()
        sock.close()
    listener.close()


@pytest.mark.parametrize(("uid", "others"), [(12345, 0), (os.geteuid(), 2)])
def test_who_is_not_welcome_is_hung_up_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, others: int
) -> None:
    refused: list[int] = []
    listener = PeerListener(path, 2, refused=refused.append)
    monkeypatch.setattr(peer_socket, "peer_uid", lambda sock: uid)
    with connect(path) as client:
        assert listener.accept(others) is None
        assert client.recv(1) == b"" and refused == [uid]
    listener.close()


def test_the_owner_of_the_file_is_heard(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int, bool]] = []
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, follow_symlinks: given.append(
        (uid, gid, follow_symlinks)))
    listener = PeerListener(path, 2, (12345, 54321))
    assert given == [(12345, 54321, False)]
    assert listener.uids == {0, os.geteuid(), 12345}
    listener.close()


def test_frames_there_and_back(pair: tuple[PeerConnection, PeerConnection]) -> None:
    left, right = pair
    assert right.receive() == []
    left.put({"id": 1})
    left.put({"id": 2})
    assert left.out
    left.flush()
    assert not left.out and right.receive() == [{"id": 1}, {"id": 2}]


def test_what_cannot_be_sent_now_is_kept(pair: tuple[PeerConnection, PeerConnection]) -> None:
    left, right = pair
    for number in range(5000):
        left.put({"id": number, "text": "x" * 500})
    left.flush()
    assert left.out
    got = 0
    while got < 5000:
        got += len(right.receive())
        left.flush()
    assert got == 5000 and not left.out


def test_a_frame_over_the_limit_and_the_end(pair: tuple[PeerConnection, PeerConnection]) -> None:
    left, right = pair
    left.sock.send(encode({"text": "x" * 2000}))
    with pytest.raises(FrameError, match="expected at most 1000"):
        right.receive()
    left.sock.close()
    with pytest.raises(EOFError):
        right.receive()
    with pytest.raises(OSError):
        right.put({})
        right.flush()

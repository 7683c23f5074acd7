"""Line histories and the audit log: private, bounded, and at home on read-only disks."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

import apihour_console.shell.audit
import apihour_console.shell.history
from apihour_console.shell.audit import AuditLog
from apihour_console.shell.history import LineHistory, history_path
from apihour_console.shell.providers import deeds_provider

LOGGER = logging.getLogger("tests.history")


def test_lines_are_kept_privately_and_cleanly(tmp_path: Path) -> None:
    path = history_path(tmp_path, "SHA256:abc/def")
    first = LineHistory(path, LOGGER)
    for line in ("workers", "workers", "", "  secret", "a\nb", "esc\x1b[2J", "x" * 5000):
        first.append(line)
    again = LineHistory(path, LOGGER)
    assert again.lines == first.lines == ["workers", "a b", "esc[2J"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert history_path(tmp_path, "SHA256:other") != path


def test_lines_with_a_secret_are_not_written(tmp_path: Path) -> None:
    path = history_path(tmp_path, "me")
    history = LineHistory(path, LOGGER, lambda line: "--token" in line)
    for line in ("workers", "login --token x", "tasks"):
        history.append(line)
    assert history.lines == ["workers", "login --token x", "tasks"]
    assert LineHistory(path, LOGGER).lines == ["workers", "tasks"]


def test_a_history_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apihour_console.shell.history, "_BYTES", 2000)
    monkeypatch.setattr(apihour_console.shell.history, "KEPT", 10)
    path = history_path(tmp_path, "me")
    history = LineHistory(path, LOGGER)
    for number in range(500):
        history.append(f"command number {number}")
    again = LineHistory(path, LOGGER)
    assert again.lines == [f"command number {number}" for number in range(490, 500)]
    assert path.stat().st_size < 500


def test_no_place_to_write_keeps_lines_for_the_session(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("a file in the way")
    history = LineHistory(history_path(tmp_path, "me"), LOGGER)
    history.append("workers")
    assert history.lines == ["workers"]
    assert LineHistory(None, LOGGER).lines == []


def write(log: AuditLog, command: str) -> None:
    log.record("command", user="me", fingerprint="SHA256:x", role="admin", address="a",
               command=command, workers="all", status=0, duration=0.1)


def test_audit_rotates_and_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apihour_console.shell.audit, "_SIZE", 1000)
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, LOGGER)
    for number in range(50):
        write(log, f"command {number}\n\x1b[2J")
    files = sorted(one.name for one in tmp_path.iterdir())
    assert files == ["audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.3"] or files == [
        "audit.jsonl", "audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.3"
    ]
    newest = path if path.exists() else tmp_path / "audit.jsonl.1"
    last = json.loads(newest.read_text().splitlines()[-1])
    assert last["command"].startswith("command 49") and last["workers"] == "all"
    assert newest.stat().st_mode & 0o777 == 0o600
    assert newest.stat().st_size < 1500


def test_audit_is_read_back_and_bad_lines_are_passed_by(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(AuditLog(path, LOGGER), "one")
    with path.open("a") as file:
        file.write("garbage\n{\"a\": 1}\n")
    log = AuditLog(path, LOGGER)
    write(log, "two")
    assert [record.command for record in log.recent(5)] == ["one", "two"]


def test_a_disk_that_refuses_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "keys"
    place.mkdir(mode=0o700)
    log = AuditLog(place / "audit.jsonl", LOGGER)
    place.rmdir()
    for number in range(3):
        write(log, str(number))
    assert len(caplog.records) == 1
    assert [record.command for record in log.recent()] == ["0", "1", "2"]


def test_what_happens_before_there_is_a_keys_directory_is_written_once_there_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys" / "audit.jsonl"
    log = AuditLog(path, LOGGER)
    write(log, "0")
    path.parent.mkdir(mode=0o700)  # as ``apihour keys add`` does
    write(log, "1")
    told = [json.loads(line)["command"] for line in path.read_text().splitlines()]
    assert (told, caplog.records) == (["0", "1"], [])


def test_audit_hides_secrets(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", LOGGER)
    write(log, "deploy --token=s3cr3t https://me:s3cr3t@host")
    log.record("python", user="me", command="password = 's3cr3t'", outcome="token: s3cr3t")
    assert "s3cr3t" not in (tmp_path / "audit.jsonl").read_text()
    assert all("s3cr3t" not in repr(record) for record in log.recent())


@pytest.mark.parametrize("harm", ["link", "mode", "directory"])
def test_audit_goes_into_no_file_that_others_may_have_put_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    caplog.set_level(logging.INFO)
    place = tmp_path / "state"
    place.mkdir(mode=0o700)
    path, target = place / "audit.jsonl", tmp_path / "target"
    target.touch(0o600)
    if harm == "link":
        path.symlink_to(target)
    elif harm == "mode":
        path.touch()
        path.chmod(0o664)
    else:
        place.chmod(0o777)
    log = AuditLog(path, LOGGER)
    for command in ("one", "two"):
        write(log, command)
    assert target.read_bytes() == b""
    (line,) = caplog.messages
    mend = {"link": f"rm {path}", "mode": f"chmod go-w {path}", "directory": f"chmod go-w {place}"}
    assert mend[harm] in line and "entries are kept in memory" in line
    path.unlink(missing_ok=True)
    place.chmod(0o700)
    write(log, "three")  # and once it is mended, nothing is missing
    assert [json.loads(line)["command"] for line in path.read_text().splitlines()] == [
        "one", "two", "three"]
    assert caplog.messages[1:] == [f"audit log {path}: is written again"]


def test_two_writers_rotate_one_audit_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apihour_console.shell.audit, "_SIZE", 10_000)
    path = tmp_path / "audit.jsonl"
    logs = [AuditLog(path, LOGGER) for _ in range(2)]
    for number in range(120):
        write(logs[number % 2], f"command {number}")
    files = [tmp_path / f"audit.jsonl{end}" for end in (".3", ".2", ".1", "")]
    found = [json.loads(line)["command"] for file in files if file.exists()
             for line in file.read_text().splitlines()]
    assert found == [f"command {number}" for number in range(120)]


def test_two_daemons_of_one_keys_directory_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for daemon in ("host/7 (shop)", "host/9 (shop)"):
        write(AuditLog(path, LOGGER, daemon), f"by {daemon}")
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["daemon"] for one in told] == ["host/7 (shop)", "host/9 (shop)"]
    log = AuditLog(path, LOGGER, "host/9 (shop)")
    assert [one.daemon for one in log.recent()] == ["host/7 (shop)", "host/9 (shop)"]
    deeds = deeds_provider(log)(None)  # type: ignore[arg-type]  # what it does not look at
    assert [one.command for one in deeds] == ["by host/9 (shop)"], "of another's nothing"


async def test_followers_get_what_comes(tmp_path: Path) -> None:
    log = AuditLog(None, LOGGER)
    write(log, "before")
    with log.follow() as queue:
        write(log, "during")
        assert (await asyncio.wait_for(queue.get(), 1)).command == "during"
        for number in range(2000):
            write(log, str(number))
        assert queue.qsize() == 1000  # a slow follower loses some, the log none
    write(log, "after")
    assert queue.qsize() == 1000

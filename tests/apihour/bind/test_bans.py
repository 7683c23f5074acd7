"""Bans: what is a network, who falls under one, the book and its readers."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from apihour.bind.ban_book import MOST, BanBook, parse_network, read_bans
from apihour.bind.bans import Bans

OWNER = os.geteuid(), os.getegid()


@pytest.fixture
def book(tmp_path: Path) -> BanBook:
    return BanBook(tmp_path / "bans.json", OWNER)


@pytest.fixture
def reader(tmp_path: Path) -> Bans:
    return Bans(tmp_path / "bans.json", logging.getLogger("bans"))


@pytest.mark.parametrize(("text", "network"), [
    ("10.0.0.7", "10.0.0.7/32"), ("10.0.0.7:4711", "10.0.0.7/32"), ("10.1.2.3/8", "10.0.0.0/8"),
    ("::1", "::1/128"), ("[::1]:80", "::1/128"), ("2001:db8::5/64", "2001:db8::/64"),
    ("fe80::1%eth0", "fe80::1/128"), ("::ffff:10.0.0.7", "10.0.0.7/32"), ("0.0.0.0/0", "0.0.0.0/0"),
    ("::/0", "::/0"),
])
def test_networks(text: str, network: str) -> None:
    assert str(parse_network(text)) == network


def test_a_full_disk_leaves_the_bans_as_they_are_and_no_piece_of_a_file(
    book: BanBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.add(parse_network("10.0.0.7"), 60, "me")

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("apihour.bind.ban_book.json.dump", full)
    with pytest.raises(OSError, match="No space left"):
        book.add(parse_network("10.0.0.8"), 60, "me")
    assert os.listdir(tmp_path) == ["bans.json"]
    assert [ban.network for ban in read_bans(tmp_path / "bans.json")] == ["10.0.0.7/32"]


@pytest.mark.parametrize("text", ["", "all", "10.0.0", "10.0.0.0/33", "::/129", "example.com",
                                  "unix", "10.0.0.7/8/8", "x" * 9999])
def test_what_is_no_network_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="expected an address or a network") as raised:
        parse_network(text)
    assert len(str(raised.value)) < 200 and "\n" not in str(raised.value)


@pytest.mark.parametrize(("network", "peer", "refused"), [
    ("10.0.0.7", ("10.0.0.7", 1), True), ("10.0.0.7", ("10.0.0.8", 1), False),
    ("10.0.0.0/8", ("10.255.0.1", 1), True), ("10.0.0.0/8", ("11.0.0.1", 1), False),
    ("10.0.0.7", ("::ffff:10.0.0.7", 1, 0, 0), True), ("::1", ("::1", 1, 0, 0), True),
    ("2001:db8::/64", ("2001:db8::ffff", 1, 0, 0), True), ("0.0.0.0/0", ("1.2.3.4", 1), True),
    ("2001:db8::/64", ("2001:db8:0:1::1", 1, 0, 0), False), ("0.0.0.0/0", ("::1", 1, 0, 0), False),
    ("fe80::1", ("fe80::1%lo", 1, 0, 1), True), ("::/0", ("1.2.3.4", 1), False),
    ("0.0.0.0/0", "", False), ("0.0.0.0/0", b"\0name", False), ("0.0.0.0/0", None, False),
])
def test_who_falls_under_it(
    book: BanBook, reader: Bans, network: str, peer: object, refused: bool
) -> None:
    book.add(parse_network(network), 60, "me")
    reader.look()
    assert reader.refuses(peer) is refused
    assert reader.refused.total() == refused


def test_without_bans_nobody_is_refused_and_nothing_is_there(reader: Bans) -> None:
    reader.look()
    assert not reader and not reader.refuses(("10.0.0.7", 1))


def test_the_file_is_private_whole_and_taken_by_every_reader(
    book: BanBook, reader: Bans, tmp_path: Path
) -> None:
    made = book.add(parse_network("10.0.0.7"), 60, "me")
    book.add(parse_network("10.1.0.0/16"), 60, "you")
    path = tmp_path / "bans.json"
    assert path.stat().st_mode & 0o777 == 0o600 and os.listdir(tmp_path) == ["bans.json"]
    assert [(ban.network, ban.by) for ban in read_bans(path)] == [
        ("10.0.0.7/32", "me"), ("10.1.0.0/16", "you")]
    assert 59 < made.left <= 60
    other = Bans(path, logging.getLogger())
    for one in (reader, other):
        one.look()
        assert one.refuses(("10.0.0.7", 1)) and one.refuses(("10.1.9.9", 1))
    assert [ban.network for ban in book.remove(parse_network("10.0.0.7"))] == ["10.0.0.7/32"]
    assert reader.refuses(("10.0.0.7", 1))
    reader.look()
    assert not reader.refuses(("10.0.0.7", 1)) and reader.refuses(("10.1.9.9", 1))


def test_a_symbolic_link_in_its_place_is_replaced_not_followed(
    book: BanBook, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f".bans.json.{os.getpid()}").symlink_to(victim)
    book.add(parse_network("10.0.0.7"), 60, "me")
    assert victim.read_text() == "mine" and not (tmp_path / "bans.json").is_symlink()


def test_it_ends_by_itself(
    book: BanBook, reader: Bans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.add(parse_network("10.0.0.7"), 60, "me")
    reader.look()
    assert reader.refuses(("10.0.0.7", 1))
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 61, time=time.time)
    monkeypatch.setattr("apihour.bind.ban_book.time", later)
    assert not reader.refuses(("10.0.0.7", 1)) and read_bans(tmp_path / "bans.json") == []


def test_whoever_watches_is_told_of_each_change(
    book: BanBook, reader: Bans, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    reader.watchers.append(lambda: told.append(len(reader)))
    reader.look()
    book.add(parse_network("10.0.0.7"), 60, "me")
    for _ in range(2):
        reader.look()
    assert told == [1]
    book.remove(None)
    reader.look()
    assert told == [1, 0]
    book.add(parse_network("10.0.0.7"), 60, "me")
    book.add(parse_network("10.0.0.8"), 30, "me")
    reader.look()
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 31, time=time.time)
    monkeypatch.setattr("apihour.bind.ban_book.time", later)
    reader.look()
    assert told == [1, 0, 1]
    later.monotonic = lambda: time.monotonic() + 61
    for _ in range(2):
        reader.look()  # nobody has written: it is over
    assert told == [1, 0, 1, 0] and not reader


def test_again_is_longer_not_twice(book: BanBook, tmp_path: Path) -> None:
    book.add(parse_network("10.0.0.7"), 60, "me")
    book.add(parse_network("10.0.0.7:99"), 600, "you")
    [ban] = read_bans(tmp_path / "bans.json")
    assert ban.left > 500 and ban.by == "you"


def test_what_is_not_banned_cannot_be_unbanned(book: BanBook) -> None:
    book.add(parse_network("10.0.0.0/8"), 60, "me")
    with pytest.raises(ValueError, match=r"10\.0\.0\.7/32: it is not banned, but 10\.0\.0\.0/8 is"):
        book.remove(parse_network("10.0.0.7"))
    with pytest.raises(ValueError, match=r"::1/128: it is not banned; "
                       "expected a network that bans lists$"):
        book.remove(parse_network("::1"))
    assert len(book.remove(None)) == 1 and book.remove(None) == []


def test_too_many_are_refused(book: BanBook, tmp_path: Path) -> None:
    bans = [{"network": f"10.0.{n // 256}.{n % 256}/32", "until": time.monotonic() + 60,
             "since": 0.0} for n in range(MOST)]
    (tmp_path / "bans.json").write_text(json.dumps(bans))
    with pytest.raises(ValueError, match="there are 1000 bans"):
        book.add(parse_network("::1"), 60, "me")


def test_a_file_that_is_none_is_said_once_and_what_was_known_holds_on(
    book: BanBook, reader: Bans, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    book.add(parse_network("10.0.0.7"), 60, "me")
    reader.look()
    for text in ("{", "[1]", '[{"colour": 1}]'):
        (tmp_path / "bans.json").write_text(text)
        caplog.clear()
        reader.look()
        reader.look()
        assert len(caplog.records) == 1 and "bans cannot be read" in caplog.text
        assert reader.refuses(("10.0.0.7", 1))


def test_a_thousand_bans_cost_a_look_per_prefix(book: BanBook, reader: Bans) -> None:
    for number in range(50):
        book.add(parse_network(f"10.0.{number}.0/24"), 60, "me")
        book.add(parse_network(f"10.1.0.{number}"), 60, "me")
    reader.look()
    assert len(reader) == 2
    assert reader.refuses(("10.0.49.255", 1)) and reader.refuses(("10.1.0.49", 1))


def test_who_has_no_heartbeat_looks_by_itself(book: BanBook, reader: Bans) -> None:
    assert not reader.refuses_now(("10.0.0.7", 1))
    book.add(parse_network("10.0.0.7"), 60, "me")
    until = time.monotonic() + 5
    while not reader.refuses_now(("10.0.0.7", 1)):
        assert time.monotonic() < until
        time.sleep(0.02)

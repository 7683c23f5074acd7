"""Sealed letters, and what is none though it has the seal."""

from __future__ import annotations

import contextlib
import json
import os
import time

import pytest

from apihour_console.calls.parsing import parse_call
from apihour_console.hosts.letters import LetterError, Seal, _digest
from tests.apihour_console.hosts.fleet_support import KEY, Fleet, WiredBus

SUBJECT = "a.b"


def sealed(text: bytes, subject: str = SUBJECT) -> bytes:
    return _digest(KEY, subject, text) + text


def test_what_was_sealed_is_read_once() -> None:
    seal = Seal(lambda: (KEY,))
    data = seal.close(SUBJECT, {"from": "web-1"})
    assert seal.open(SUBJECT, data)["from"] == "web-1"
    with pytest.raises(LetterError, match="second time"):
        seal.open(SUBJECT, data)


NONE = [
    b"", b"\xff", b"[]", b"5", b"null", b"{}", b'{"time": 1}', b'{"time": "soon", "number": "1"}',
    b'{"time": NaN, "number": "1"}', b'{"time": Infinity, "number": "1"}',
    b'{"time": %d, "number": "1"}' % 9**400, b"[" * 100_000, b'{"time": [], "number": "1"}',
]


@pytest.mark.parametrize("text", NONE, ids=lambda text: text[:30].decode(errors="replace"))
def test_what_is_no_letter_is_refused_though_it_has_the_seal(text: bytes) -> None:
    seal = Seal(lambda: (KEY,))
    with pytest.raises(LetterError):
        seal.open(SUBJECT, sealed(text))


async def test_a_host_goes_on_hearing_after_what_is_none() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        subject = "_apihour.fleet.shop.host.web-2"
        bus = WiredBus(fleet.wire, "web-1")
        for text in NONE:
            await bus.publish(subject, sealed(text, subject))
        for who in (None, 5, {}, {"name": 1}):
            letter = {"kind": "ask", "words": 5, "who": who, "time": time.time(),
                      "number": os.urandom(8).hex()}
            await bus.publish(subject, sealed(json.dumps(letter).encode(), subject))
        assert (await fleet.run("web-1", "workers", "--host", "web-2")).status == 0


async def test_a_host_that_fails_to_tell_of_itself_goes_on_hearing(
    caplog: pytest.LogCaptureFixture
) -> None:
    def vanished() -> dict[str, object]:
        raise OSError("the scoreboard is gone")

    async with Fleet("web-1", "web-2") as fleet:
        facts, fleet.hosts["web-2"].facts = fleet.hosts["web-2"].facts, vanished
        _, missing = await fleet.hosts["web-1"].rows()
        assert [one.worker for one in missing] == ["web-2"]
        fleet.hosts["web-2"].facts = facts
        _, missing = await fleet.hosts["web-1"].rows()
        assert missing == []
        assert "the scoreboard is gone" in caplog.text


async def test_a_hello_that_fails_is_said_again_by_one_who_listens_once() -> None:
    fleet = Fleet("web-1")
    host = await fleet.join("web-1", hello=False)
    for _ in range(2):
        await host.start()
    for subject in ("host.web-1", "all"):
        assert fleet.wire.listening(f"_apihour.fleet.shop.{subject}") == 1
    await host.close()


async def test_rows_that_cannot_go_on_are_said(caplog: pytest.LogCaptureFixture) -> None:
    async with Fleet("web-1", "web-2") as fleet:
        async def stream(call: object, identity: object) -> object:
            yield {"time": 0.0, "message": b"no text"}

        fleet.doubles["web-2"].stream = stream  # type: ignore[assignment]
        call = parse_call(["logs", "-f", "--host", "web-2"], fleet.doubles["web-1"].catalogue)
        async with contextlib.aclosing(fleet.hosts["web-1"].stream(call, fleet.who)) as rows:
            seen = [row["message"] async for row in rows]
        assert len(seen) == 1
        assert "internal error" in seen[0]
        assert "not JSON serializable" in caplog.text

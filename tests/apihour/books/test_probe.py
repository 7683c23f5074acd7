"""The child that imports the application."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable

import pytest

from apihour.books.probe import Probe, ProbeReport
from apihour.errors import TargetError

Examine = Callable[[], dict[str, list[str]]]


def nothing() -> None:
    pass


def probed(examine: Examine, in_child: Callable[[], None] = nothing) -> ProbeReport:
    probe = Probe(examine, in_child)
    probe.start()
    try:
        return probe.wait(20.0)
    finally:
        probe.close()
        assert os.waitpid(probe.pid, 0)[0] == probe.pid


def test_reports_the_binds() -> None:
    assert probed(lambda: {"http": [":80"]}) == ProbeReport(binds={"http": [":80"]})


def test_an_own_error_is_its_line_with_the_traceback_beside() -> None:
    def examine() -> dict[str, list[str]]:
        raise TargetError("no such thing")

    report = probed(examine)
    assert report.error == "no such thing (apihour explain TargetError)"
    assert "test_probe.py" in report.detail and "TargetError" in report.detail


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(0), KeyboardInterrupt()])
def test_any_other_end_is_an_error(error: BaseException) -> None:
    def examine() -> dict[str, list[str]]:
        raise error

    assert probed(examine).error == repr(error)


def test_what_cannot_be_sent_is_an_error() -> None:
    assert probed(lambda: {"http": [object()]}).error  # type: ignore[list-item]


def test_a_child_that_dies_is_told() -> None:
    def examine() -> dict[str, list[str]]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    assert probed(examine).error == "the process that imports the application died"


def test_the_child_sheds_first() -> None:
    order: list[str] = []

    def examine() -> dict[str, list[str]]:
        return {"order": [*order, "examine"]}

    assert probed(examine, lambda: order.append("shed")).binds == {"order": ["shed", "examine"]}
    assert order == []  # that was in the child


def test_a_report_larger_than_the_pipe() -> None:
    many = {f"server{n}": ["127.0.0.1:0"] * 100 for n in range(200)}
    assert probed(lambda: many).binds == many


def test_polling_never_blocks_and_its_descriptor_wakes() -> None:
    reading, writing = os.pipe()

    def examine() -> dict[str, list[str]]:
        os.read(reading, 1)
        return {}

    probe = Probe(examine, nothing)
    probe.start()
    try:
        began = time.monotonic()
        assert probe.poll() is None
        assert time.monotonic() - began < 1.0
        os.write(writing, b"x")
        assert select.select([probe], [], [], 20)[0]
        while probe.poll() is None:
            select.select([probe], [], [], 20)
        assert probe.report == ProbeReport()
    finally:
        probe.close()
        os.waitpid(probe.pid, 0)
        os.close(reading)
        os.close(writing)


def test_one_that_hangs_is_ended() -> None:
    def examine() -> dict[str, list[str]]:
        time.sleep(60)
        return {}

    probe = Probe(examine, nothing)
    probe.start()
    report = probe.wait(0.05)
    probe.close()
    assert report.error == "the application did not import within 0.05 s"
    assert os.waitstatus_to_exitcode(os.waitpid(probe.pid, 0)[1]) == -signal.SIGKILL
    probe.kill()  # gone already: nothing happens


def test_a_process_the_application_forked_does_not_hold_the_report_up() -> None:
    def examine() -> dict[str, list[str]]:
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
        return {"http": [":1"]}

    began = time.monotonic()
    assert probed(examine).binds == {"http": [":1"]}
    assert time.monotonic() - began < 4

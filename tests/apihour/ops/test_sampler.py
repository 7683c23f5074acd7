"""The CPU profile: where a busy main thread spends its time, whoever has the interpreter's lock."""

from __future__ import annotations

import asyncio
import hashlib
import os
import selectors
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from apihour.ops.sampler import CpuSampler, CpuSamples


@pytest.fixture
def sampler() -> Iterator[CpuSampler]:
    before = signal.getsignal(signal.SIGPROF)
    made = CpuSampler()
    made.install()
    yield made
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


def share(samples: CpuSamples, name: str) -> float:
    """The part of the CPU time used that was seen in or below a function."""
    seen = sum(spent for stack, spent in samples.stacks.items()
               if any(code.co_name == name for code in stack))
    return seen / samples.used


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def burn_between_reads(seconds: float) -> None:
    """What a busy loop looks like: it lets go of the lock again and again, and never rests."""
    poll = selectors.DefaultSelector()
    reader, writer = os.pipe()
    poll.register(reader, selectors.EVENT_READ)
    os.write(writer, b"x")
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        poll.select(0)
        burn(0.0005)
    poll.close()
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("work", [burn, burn_between_reads])
def test_the_busy_function_has_the_time(sampler: CpuSampler, work: object) -> None:
    samples = sampler.start(0.01)
    work(0.4)  # type: ignore[operator]
    sampler.stop(samples)
    assert samples.used >= 0.4
    assert share(samples, "burn") > 0.8
    assert sum(samples.stacks.values()) + samples.unseen == pytest.approx(samples.used)


def test_c_code_is_its_callers(sampler: CpuSampler) -> None:
    def caller() -> None:
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 400_000)
        burn(0.02)  # comes back to Python

    samples = sampler.start(0.01)
    caller()
    sampler.stop(samples)
    assert share(samples, "caller") > 0.8


def test_who_waits_uses_nothing(sampler: CpuSampler) -> None:
    samples = sampler.start(0.01)
    threading.Event().wait(0.3)
    sampler.stop(samples)
    assert samples.used < 0.2 and samples.unseen <= samples.used


def test_two_profiles_at_a_time_are_both_whole(sampler: CpuSampler) -> None:
    long = sampler.start(0.01)
    burn(0.15)
    short = sampler.start(0.005)
    burn(0.15)
    sampler.stop(short)
    burn(0.15)
    sampler.stop(long)
    assert share(long, "burn") > 0.8 and share(short, "burn") > 0.8
    assert long.used >= 0.45 and 0.15 <= short.used < 0.45
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_started_from_another_thread_it_looks_at_the_main_one(sampler: CpuSampler) -> None:
    made: list[CpuSamples] = []

    def beside() -> None:
        made.append(sampler.start(0.01))

    for step in (beside, lambda: sampler.stop(made[0])):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
        if len(made) and not made[0].used:
            burn(0.3)
    assert share(made[0], "burn") > 0.8


async def test_a_loop_answers_on_meanwhile(sampler: CpuSampler) -> None:
    samples = sampler.start(0.002)
    until, turns = time.monotonic() + 0.3, 0
    while time.monotonic() < until:
        await asyncio.sleep(0)
        turns += 1
    sampler.stop(samples)
    assert turns > 100 and samples.stacks


def test_another_profilers_signal_is_left_to_it(sampler: CpuSampler) -> None:
    assert sampler.is_installed
    signal.signal(signal.SIGPROF, signal.SIG_IGN)
    assert not sampler.is_installed

"""Sessions by a real OpenSSH client: one command, stdin, exit statuses, readers that leave."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.apihour_console.support import Shells, run, wait_until


async def test_a_command_prints_a_table(shells: Shells) -> None:
    status, out, err = await shells.run("workers")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].split() == ["WORKER", "PID", "STATE", "AGE"]
    assert "\x1b" not in out and "draining[2J" in out


async def test_json_and_csv(shells: Shells) -> None:
    status, out, _ = await shells.run("workers", "--json")
    assert status == 0 and [row["pid"] for row in json.loads(out)] == [11, 12]
    status, out, _ = await shells.run("workers", "--csv")
    assert out.splitlines()[:2] == ["worker,pid,state,age", "1.1,11,serving,1.5"]


@pytest.mark.parametrize(
    ("words", "role", "status", "message"),
    [
        (["nothing"], "admin", 127, "no such command"),
        (["workers", "--nonsense"], "admin", 2, "unknown option"),
        (["workers", "'"], "admin", 2, "quot"),
        (["reload"], "observer", 126, "needs role operator"),
        (["kick"], "operator", 126, "needs role admin"),
        (["fail"], "admin", 1, "it failed\\x1b[31m"),
        (["partial"], "admin", 75, "worker 3.1: no answer in 2 s"),
        (["reload"], "operator", 0, ""),
    ],
)
async def test_exit_statuses(
    shells: Shells, words: list[str], role: str, status: int, message: str
) -> None:
    got, out, err = await shells.run(*words, role=role)
    assert got == status
    assert message in err and "\x1b" not in err
    if status == 75:
        assert "1.1" in out


async def test_commands_from_stdin(shells: Shells) -> None:
    status, out, _ = await shells.run(stdin=b"version\nworkers --csv\nnothing\n")
    assert status == 127
    assert out.startswith("apihour 1.0\nworker,pid")
    status, out, err = await shells.run(stdin=b"")
    assert (status, out) == (2, "") and "no command and no terminal" in err
    status, _, err = await shells.run(stdin=b"x" * 100_000)
    assert status == 2 and "stdin" in err


async def test_a_reader_that_leaves_ends_a_stream(shells: Shells) -> None:
    command = shells.command("numbers")
    quoted = " ".join(f"'{word}'" for word in command)
    started = time.monotonic()
    _, out, _ = await run(["sh", "-c", f"{quoted} </dev/null | head -1"])
    assert time.monotonic() - started < 5
    assert "NUMBER" in out
    await wait_until(lambda: shells.fleet.cancelled == ["numbers"])


async def test_a_killed_client_cancels_its_command(shells: Shells) -> None:
    process = await asyncio.create_subprocess_exec(
        *shells.command("wait"), stdin=asyncio.subprocess.DEVNULL
    )
    await asyncio.wait_for(shells.fleet.started.wait(), 10)
    process.kill()
    await process.wait()
    await wait_until(lambda: shells.fleet.cancelled == ["wait"])
    assert shells.server.audit.recent()[-1].outcome == "cancelled"


async def test_large_output_to_a_slow_reader_is_whole(shells: Shells) -> None:
    status, out, _ = await shells.run("big")
    assert status == 0 and out.count("\n") == 40_001


async def test_stream_limit_and_json_lines(shells: Shells) -> None:
    status, out, _ = await shells.run("numbers", "--json", "--limit", "3")
    assert status == 0
    assert [json.loads(line)["number"] for line in out.splitlines()] == [1, 2, 3]


async def test_no_subsystem_forwarding_or_agent(shells: Shells) -> None:
    status, _, err = await shells.run("-s", "sftp")
    assert status != 0
    status, _, err = await shells.run(options=["-W", "127.0.0.1:22"])
    assert status != 0 and "forwarding failed" in err


async def test_audit_has_who_what_and_how_it_ended(shells: Shells) -> None:
    await shells.run("workers", "--json", role="observer")
    await shells.run("reload", role="observer")
    path = shells.keys.path / "audit.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    events = [(line["event"], line["command"], line["status"]) for line in lines]
    assert events == [
        ("login", "", 0), ("command", "workers --json", 0), ("login", "", 0),
        ("command", "reload", 126),
    ]
    assert lines[1]["fingerprint"].startswith("SHA256:")
    assert lines[1]["role"] == "observer" and lines[1]["address"].startswith("127.0.0.1:")
    assert path.stat().st_mode & 0o777 == 0o600

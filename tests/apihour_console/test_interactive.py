"""The interactive shell, typed at through a pseudo-terminal by a real OpenSSH client."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from tests.apihour_console.support import PythonFleet, Shells, Typist, wait_until


async def log_in(shells: Shells, typist: Typist, role: str = "admin", term: str = "xterm") -> None:
    await typist.start(shells.command(role=role, options=["-tt"]), term)
    await typist.expect(r"apihour>")


async def test_commands_and_leaving(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist)
    await typist.type("workers\r")
    await typist.expect(r"WORKER +PID +STATE +AGE\n1\.1 +11 +serving +1\.5s\n")
    await typist.type("nothing\r")
    await typist.expect("no such command")
    await typist.type("exit\r")
    assert await typist.ended() == 0


async def test_control_d_leaves_and_control_c_drops_the_line(
    shells: Shells, typist: Typist
) -> None:
    await log_in(shells, typist)
    await typist.type("rubbish")
    await typist.expect("rubbish")
    await typist.type("\x03")
    await typist.expect(r"apihour>")
    await typist.type("version\r")
    await typist.expect("apihour 1.0\n")
    await typist.type("\x04")
    assert await typist.ended() == 0
    commands = [one.command for one in shells.server.audit.recent() if one.event == "command"]
    assert commands == ["version"]


async def test_control_c_cancels_the_running_command(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist)
    await typist.type("wait\r")
    await wait_until(shells.fleet.started.is_set)
    await typist.type("\x03")
    await typist.expect(r"\^C")
    await typist.expect("apihour>")
    assert shells.fleet.cancelled == ["wait"]
    await typist.type("numbers\r")
    await typist.expect(r"4 +line")
    await typist.type("\x03")
    await typist.expect("apihour>")
    assert shells.fleet.cancelled == ["wait", "numbers"]
    await typist.type("version\r")
    await typist.expect("apihour 1.0\n")


async def test_control_c_right_behind_a_command(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist)
    for _ in range(3):
        await typist.type("wait\r\x03version\r")
        await typist.expect("apihour 1.0\n.*apihour>")


async def test_completion_of_commands_options_and_values(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist)
    await typist.type("vers\t")
    await typist.expect("version")
    await typist.type("\r")
    await typist.expect("apihour 1.0\n")
    await typist.type("stack --fr\t")
    await typist.expect("stack --frames")
    await typist.type("\x15stack 2\t")
    await typist.expect(r"2\.1")


async def test_history_is_kept_across_sessions(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist)
    await typist.type("workers --limit 1\r")
    await typist.expect("serving")
    await typist.type("exit\r")
    assert await typist.ended() == 0
    other = Typist()
    try:
        await log_in(shells, other)
        await other.type("\x12limit")  # Ctrl-R
        await other.expect("workers --limit 1")
        await other.type("\r\r")
        await other.expect(r"1\.1 +11 +serving")
    finally:
        await other.close()


async def test_a_paste_of_100_kb_stalls_nobody(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist)
    await typist.type("x" * 100_000)
    slowest = 0.0
    for _ in range(3):
        started = time.monotonic()
        status, _, _ = await shells.run("version")
        slowest = max(slowest, time.monotonic() - started)
        assert status == 0
    await typist.type("\x03")
    await typist.expect("apihour>", timeout=20)
    await typist.type("version\r")
    await typist.expect("apihour 1.0\n", timeout=20)
    assert slowest < 3


async def test_pasted_lines_run_one_by_one(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist)
    await typist.type("\x1b[200~version\nworkers\n\x1b[201~\r")
    await typist.expect("apihour 1.0\n.*WORKER")


async def test_resize_utf8_and_squeezed_tables(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist)
    typist.resize(40, 24)
    await typist.type("héllo→世界\r")
    await typist.expect("'héllo→世界': no such")
    session = next(shells.server.sessions())
    await wait_until(lambda: session.width == 40)


async def test_pager_stops_at_each_screen(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist)
    await typist.type("long\r")
    await typist.expect("LINE.*-- more 1-29 of 201")
    await typist.type(" ")
    await typist.expect(r"40\n.*-- more 30-58")
    await typist.type("q")
    await typist.expect("apihour>")
    await typist.type("long\r")
    await typist.expect("-- more")
    await typist.type("a")
    await typist.expect("199\n.*apihour>")


async def test_colours_respect_the_terminal(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist)
    await typist.type("workers\r")
    await wait_until(lambda: "\x1b[32mserving" in typist.seen)


async def test_dumb_terminals_get_plain_lines(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist, term="dumb")
    assert "\x1b" not in typist.seen
    await typist.type("worx\x7fkers\r")
    await wait_until(lambda: "draining" in typist.seen and typist.seen.endswith("> "))
    assert "\x1b" not in typist.seen
    await typist.type("\x04")
    assert await typist.ended() == 0


async def test_one_command_on_a_terminal(shells: Shells, typist: Typist) -> None:
    await typist.start(shells.command("wait", options=["-tt"]))
    await wait_until(shells.fleet.started.is_set)
    await typist.type("\x03")
    assert await typist.ended() == 130
    assert shells.fleet.cancelled == ["wait"]


async def test_a_removed_key_is_kicked_out(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist)
    lines = shells.keys.authorized.read_text().splitlines()
    shells.keys.write_authorized([line for line in lines if "admin" not in line])
    await typist.expect("your key was removed")
    assert await typist.ended() != 0
    status, _, err = await shells.run("version")
    assert status == 255 and "Permission denied" in err
    assert (await shells.run("version", role="operator"))[0] == 0


async def test_idle_sessions_end(tmp_path, typist: Typist) -> None:  # type: ignore[no-untyped-def]
    shells = Shells(tmp_path, idle_timeout=1.0)
    await shells.start()
    try:
        await log_in(shells, typist)
        await typist.expect("idle for 1 s")
        await typist.ended()
    finally:
        await shells.stop()


async def test_without_prompt_toolkit_lines_are_still_read(
    shells: Shells, typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apihour_console.shell.editor", None)
    await log_in(shells, typist)
    await typist.type("worj\x15vers\x1b[Aionn\x7f\r")
    await typist.expect("apihour 1.0\n")
    await typist.type("top\r")
    await typist.expect("KIND +NAME.*apihour>")
    await typist.type("wait\r")
    await wait_until(lambda: shells.fleet.started.is_set())
    await typist.type("\x03")
    await typist.expect(r"\^C\napihour>")
    await typist.type("\x04")
    assert await typist.ended() == 0


async def test_what_is_typed_ahead_of_python_is_pythons(shells: Shells, typist: Typist) -> None:
    """A pasted block must not become commands when its prompt comes up late."""
    shells.server.fleet = PythonFleet()
    await log_in(shells, typist)
    await typist.type("python 1\r1 + 41\rversion\r\x04version\r")
    await typist.expect("apihour 1.0\n")
    await typist.type("\x04")
    assert await typist.ended() == 0
    told = shells.server.audit.recent()
    assert [one.command for one in told if one.event == "python"] == ["1 + 41", "version"]
    commands = [one.command for one in told if one.event == "command"]
    assert [one for one in commands if not one.startswith("python")] == ["version"]


async def test_what_is_pasted_behind_python_never_runs_as_a_command(
    shells: Shells, typist: Typist
) -> None:
    shells.server.fleet = PythonFleet()
    await log_in(shells, typist)
    await typist.type("\x1b[200~python 1\r1 + 41\rversion\x1b[201~\r")
    await typist.expect("paste them at its prompt.*>>>")
    await typist.type("\x04")
    await typist.expect("apihour>")
    await typist.type("numbers\r")
    await typist.expect(r"4 +line")
    assert "version" not in [one.command for one in shells.server.audit.recent()]


async def test_what_is_typed_for_a_worker_that_is_gone_never_runs_as_a_command(
    shells: Shells, typist: Typist
) -> None:
    shells.server.fleet = PythonFleet()
    await log_in(shells, typist)
    await typist.type("python 1\r")
    await typist.expect(">>>")
    await typist.type("gone\rversion\r")
    await typist.expect("there is none.*version.*>>>")
    await typist.type("version\r")
    await typist.expect("version.*>>>")
    await typist.type("\x04numbers\r")
    await typist.expect(r"4 +line")
    assert "version" not in [one.command for one in shells.server.audit.recent()
                             if one.event == "command"]


async def test_what_was_typed_for_a_python_that_does_not_start_is_dropped(
    shells: Shells, typist: Typist
) -> None:
    shells.server.fleet = PythonFleet()
    await log_in(shells, typist, "observer")
    await typist.type("python 1\r1 + 41\rversion\r")
    await typist.expect("needs role admin.*apihour>")
    await typist.type("numbers\r")
    await typist.expect(r"4 +line")
    assert "version" not in [one.command for one in shells.server.audit.recent()]


async def test_the_python_prompt(shells: Shells, typist: Typist) -> None:
    shells.server.fleet = fleet = PythonFleet()
    await log_in(shells, typist)
    await typist.type("python 1\r")
    await typist.expect("Python in worker 1.*>>>")
    await typist.type("20 + 22\r")
    await typist.expect("42\n")
    await typist.type("[x for x in\r")
    await typist.expect(r"\.\.\.")
    await typist.type("range(3)]\r")
    await typist.expect(r"\[0, 1, 2\]")
    await typist.type("wait\r")
    await wait_until(lambda: fleet.waiting)
    await typist.type("\x03")
    await wait_until(lambda: fleet.cancelled == ["python"])
    await typist.type("6 * 7\r")
    await typist.expect("42\n")
    await typist.type("\x04")
    await typist.expect("apihour>")
    await typist.type("version\r")
    await typist.expect("apihour 1.0\n")
    lines = [one.command for one in shells.server.audit.recent() if one.event == "python"]
    assert lines == ["20 + 22", "[x for x in\nrange(3)]\n", "wait", "6 * 7"]


async def test_draining_tells_and_waits(shells: Shells, typist: Typist) -> None:
    await log_in(shells, typist)
    drained = asyncio.create_task(shells.server.drain(60, "going"))
    await typist.expect("going")
    assert not drained.done()
    await typist.type("version\r")
    await typist.expect("apihour 1.0\n")
    await typist.type("exit\r")
    await asyncio.wait_for(drained, 10)

"""The SSH server against hostile and unusual clients: tries, floods, certificates, audits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
import threading
import time
from pathlib import Path

import asyncssh
import pytest

from apihour_console.faces.ssh_connection import ConsoleChannel, ConsoleConnection
from apihour_ssh.limits import Limits, TokenBucket
from tests.apihour_console.support import Shells, Typist, run, ssh_command, wait_until

paramiko = pytest.importorskip("paramiko")


async def connect(shells: Shells, key: asyncssh.SSHKey | Path, **options: object):  # type: ignore[no-untyped-def]
    return await asyncssh.connect(
        "127.0.0.1", shells.port, client_keys=[key], known_hosts=None, username="x",
        config=None, agent_path=None, **options,
    )


async def test_six_wrong_keys_end_the_connection(shells: Shells) -> None:
    wrong = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(12)]
    with pytest.raises(asyncssh.DisconnectError, match="Too many authentication failures"):
        await asyncssh.connect(
            "127.0.0.1", shells.port, client_keys=[*wrong, str(shells.key_files["admin"])],
            known_hosts=None, username="x", config=None, agent_path=None,
        )
    await wait_until(lambda: not shells.server.connections)
    refused = shells.server.audit.recent()[-1]
    prints = ", ".join(key.get_fingerprint() for key in wrong[:6])
    assert (refused.event, refused.outcome) == ("refused", f"6 keys refused: {prints}")
    assert refused.fingerprint == wrong[5].get_fingerprint()


async def test_refused_logins_are_named_one_by_one_until_they_are_a_flood(
    shells: Shells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shells.server, "_refusals", TokenBucket(0.001, 2, time.monotonic()))
    strangers = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(2)]
    for key in [*strangers, *strangers]:
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(shells, key)
    await wait_until(lambda: not shells.server.connections)
    monkeypatch.setattr(shells.server, "_refusals", TokenBucket(0.001, 2, time.monotonic()))
    with pytest.raises(asyncssh.PermissionDenied):
        await connect(shells, strangers[0])
    await wait_until(lambda: not shells.server.connections)
    refused = [one for one in shells.server.audit.recent() if one.event == "refused"]
    first, second = (key.get_fingerprint() for key in strangers)
    assert [(one.fingerprint, one.outcome) for one in refused] == [
        (first, "1 key refused"), (second, "1 key refused"),
        (first, "1 key refused; 2 connections before it as well")]


async def test_a_removed_key_is_out_and_an_added_one_is_in_at_once(
    shells: Shells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apihour_console.faces.ssh._WATCH", 60.0)
    await asyncio.sleep(1.1)  # the look that was under way
    for _ in range(10):
        shells.add_key("operator")  # a new one each time
        async with await connect(shells, shells.key_files["operator"]) as connection:
            assert (await connection.run("version")).exit_status == 0
            lines = shells.keys.authorized.read_text().splitlines()
            shells.keys.write_authorized(lines[:-1])
            with pytest.raises(asyncssh.PermissionDenied):
                await connect(shells, shells.key_files["operator"])
            with pytest.raises((asyncssh.ChannelOpenError, asyncssh.DisconnectError)):
                await connection.run("version")  # nor on the connection it has kept


async def test_a_removed_key_is_out_of_a_console_that_leaves_too(
    shells: Shells, typist: Typist
) -> None:
    await typist.start(shells.command(role="admin", options=["-tt"]))
    await typist.expect(r"apihour>")
    drained = asyncio.create_task(shells.server.drain(60.0, "going"))
    await typist.expect("going")
    lines = shells.keys.authorized.read_text().splitlines()
    shells.keys.write_authorized([line for line in lines if "admin" not in line])
    await typist.expect("your key was removed")
    await asyncio.wait_for(drained, 10)


async def test_who_has_connected_when_the_console_leaves_gets_a_session(shells: Shells) -> None:
    silent = socket.create_connection(("127.0.0.1", shells.port))
    for _ in range(3):
        client = asyncio.create_task(shells.run("version"))
        await wait_until(lambda: shells.server.connections)
        await shells.server.drain(60.0, "going")
        await shells.stop()
        assert (await client)[0] == 0
        await shells.start()
    silent.close()


async def test_without_keys_the_client_is_told_what_to_do(tmp_path: Path) -> None:
    shells = Shells(tmp_path)
    await shells.start(configured=False)
    try:
        stranger = tmp_path / "stranger"
        key = asyncssh.generate_private_key("ssh-ed25519", comment="stranger")
        stranger.write_bytes(key.export_private_key("openssh"))
        stranger.chmod(0o600)
        for _ in range(2):
            status, out, err = await run(ssh_command(shells.port, stranger, "version"))
            assert (status, out) == (255, "")
            assert "on its host: apihour keys add FILE.pub --role admin" in err, err
        with pytest.raises(asyncssh.DisconnectError, match="no key is authorised"):
            await connect(shells, key)
        await wait_until(lambda: shells.server.admission.open == 0)
        shells.add_key("admin")
        assert (await shells.run("version"))[0] == 0  # at once
    finally:
        await shells.stop()


async def test_ten_sessions_at_once(shells: Shells) -> None:
    async with await connect(shells, shells.key_files["admin"]) as connection:
        sessions = [await connection.create_process("wait") for _ in range(10)]
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process("version")
        sessions[0].close()
        await wait_until(lambda: len(shells.fleet.cancelled) == 1)
        assert (await connection.run("version")).stdout == "apihour 1.0\n"


async def test_the_login_name_chooses_nothing(shells: Shells) -> None:
    for user in ("admin", "root", "observer"):
        command = ssh_command(shells.port, shells.key_files["observer"], "kick", user=user)
        assert (await run(command))[0] == 126


async def test_from_is_honoured_and_rsa_and_ecdsa_log_in(tmp_path: Path) -> None:
    shells = Shells(tmp_path)
    shells.add_key("admin", ',from="10.0.0.0/8"')
    shells.add_key("operator", kind="ssh-rsa")
    shells.add_key("observer", ',from="127.0.0.0/8"', kind="ecdsa-sha2-nistp256")
    await shells.start()
    try:
        assert (await shells.run("version", role="admin"))[0] == 255
        assert (await shells.run("version", role="operator"))[0] == 0
        assert (await shells.run("version", role="observer"))[0] == 0
    finally:
        await shells.stop()


async def test_user_certificates_by_an_authority(tmp_path: Path) -> None:
    shells = Shells(tmp_path)
    authority = asyncssh.generate_private_key("ssh-ed25519", comment="ca")
    public = authority.export_public_key("openssh").decode().strip()
    shells.add_key("admin")
    line = f'cert-authority,principals="ops",role="operator" {public}'
    shells.keys.write_authorized([*shells.keys.authorized.read_text().splitlines(), line])
    await shells.start()

    async def attempt(principal: str, valid: bool = True) -> int:
        user = asyncssh.generate_private_key("ssh-ed25519")
        ends = int(time.time()) + (600 if valid else -600)
        certificate = authority.generate_user_certificate(
            user.convert_to_public(), "you", serial=4711, principals=[principal],
            valid_after=int(time.time()) - 1200, valid_before=ends,
        )
        path = tmp_path / f"cert_{principal}_{valid}"
        path.write_bytes(user.export_private_key("openssh"))
        path.chmod(0o600)
        Path(f"{path}-cert.pub").write_bytes(certificate.export_certificate("openssh"))
        return (await run(ssh_command(shells.port, path, "reload")))[0]

    try:
        assert await attempt("ops") == 0
        ran = shells.server.audit.recent()[-1]
        entered = shells.server.audit.recent()[-2]
        for one in (entered, ran):  # the person, under the authority's fingerprint
            assert (one.user, one.role, one.fingerprint, one.certificate) == (
                "you", "operator", authority.get_fingerprint(), "'you' serial 4711")
        assert (entered.event, ran.event) == ("login", "command")
        assert await attempt("dev") == 255
        await wait_until(lambda: shells.server.audit.recent()[-1].event == "refused")
        assert "certificate 'you' serial 4711" in shells.server.audit.recent()[-1].outcome
        assert await attempt("ops", valid=False) == 255
        keys = shells.keys.authorized.read_text().splitlines()
        shells.keys.write_authorized([line for line in keys if "authority" not in line])
        await wait_until(lambda: len(shells.server.authorized.keys) == 1)
        assert await attempt("ops") == 255
    finally:
        await shells.stop()


async def test_paramiko_runs_commands(shells: Shells) -> None:
    def work() -> tuple[int, bytes, int]:
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            "127.0.0.1", shells.port, "x", key_filename=str(shells.key_files["admin"]),
            look_for_keys=False, allow_agent=False, timeout=10,
        )
        try:
            _, out, _ = client.exec_command("workers --json", timeout=10)
            text = out.read()
            status = out.channel.recv_exit_status()
            shell = client.invoke_shell("xterm", 100, 30)
            shell.settimeout(10)
            seen = b""
            shell.send(b"exit\r")
            while data := shell.recv(1000):
                seen += data
            assert b"apihour" in seen
            return status, text, shell.recv_exit_status()
        finally:
            client.close()

    logging.getLogger("paramiko").setLevel(logging.ERROR)
    status, text, left = await asyncio.to_thread(work)
    assert (status, left) == (0, 0) and len(json.loads(text)) == 2


async def test_ssh_audit_has_nothing_but_the_post_quantum_remark(shells: Shells) -> None:
    report, text = await audit(shells.port)
    assert not [found for found in report if found[1] == "fail"], report
    assert {found[2] for found in report if found[1] == "warn"} <= {
        "does not provide protection against post-quantum attacks"
    }
    assert "throttling" not in text


async def test_ssh_audit_has_nothing_at_all_when_strict(tmp_path: Path) -> None:
    shells = Shells(tmp_path, strict=True)
    try:
        await shells.start()
    except ValueError as error:
        pytest.skip(str(error))
    try:
        report, text = await audit(shells.port)
        assert report == [] and "throttling" not in text
    finally:
        await shells.stop()


async def audit(port: int) -> tuple[list[tuple[str, str, str]], str]:
    """The fails and warnings of ssh-audit, and the whole text."""
    script = "import sys; from ssh_audit.ssh_audit import main; sys.exit(main())"
    _, out, err = await run(
        [sys.executable, "-c", script, "-n", "-v", "-p", str(port), "127.0.0.1"], timeout=60
    )
    found = []
    for line in out.splitlines():
        for level in ("fail", "warn"):
            before, mark, after = line.partition(f"[{level}] ")
            if mark:
                found.append((before.strip(" -`"), level, after.strip()))
    assert "curve25519" in out or "mlkem" in out, out + err
    return found, out


async def test_a_flood_is_refused_before_it_costs(tmp_path: Path) -> None:
    shells = Shells(tmp_path, limits=Limits(address_rate=0.01, address_burst=5))
    await shells.start()
    admission = shells.server.admission
    try:
        held = [await asyncio.open_connection("127.0.0.1", shells.port) for _ in range(50)]
        for reader, writer in held:
            writer.write(b"SSH-2.0-flood\r\n")
            assert await reader.readline() == b"SSH-2.0-OpenSSH_apihour\r\n"  # costs nothing
        assert len(shells.server.connections) == 5 and admission.starting == 50
        for _, writer in held:
            writer.close()
        await wait_until(lambda: admission.open == 0)
    finally:
        await shells.stop()


async def test_who_says_nothing_is_told_the_version_and_counts_for_nothing(
    tmp_path: Path
) -> None:
    shells = Shells(tmp_path, limits=Limits(rate=0.01, burst=1))
    await shells.start()
    try:
        held = [await asyncio.open_connection("127.0.0.1", shells.port) for _ in range(5)]
        for reader, _ in held:  # ssh-keyscan waits for it, and so do monitors
            assert await asyncio.wait_for(reader.readline(), 10) == b"SSH-2.0-OpenSSH_apihour\r\n"
        assert not shells.server.connections
        assert (await shells.run("version"))[0] == 0  # the one turn that there is
        reader, writer = await asyncio.open_connection("127.0.0.1", shells.port)
        writer.write(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        for _, one in held:
            one.close()
        await wait_until(lambda: shells.server.admission.open == 0)
    finally:
        await shells.stop()


async def test_garbage_costs_its_own_connection_only(tmp_path: Path) -> None:
    shells = Shells(tmp_path, login_timeout=1.0)
    await shells.start()
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 5000, b"SSH-2.0-x\r\n" + b"\xff" * 70000):
        reader, writer = await asyncio.open_connection("127.0.0.1", shells.port)
        writer.write(data)
        try:
            while await asyncio.wait_for(reader.read(65536), 10):
                pass
        except ConnectionResetError:
            pass
        finally:
            writer.close()
    assert (await shells.run("version"))[0] == 0
    await wait_until(lambda: shells.server.admission.open == 0)
    await shells.stop()


async def test_who_does_not_log_in_is_cut_off(tmp_path: Path) -> None:
    shells = Shells(tmp_path, login_timeout=1.0)
    await shells.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", shells.port)
        started = time.monotonic()
        while await asyncio.wait_for(reader.read(1000), 10):
            pass
        assert 0.5 < time.monotonic() - started < 5
        writer.close()
    finally:
        await shells.stop()


async def test_logins_do_not_wait_for_the_default_executor(shells: Shells) -> None:
    loop = asyncio.get_running_loop()
    release = threading.Event()
    blocked = [loop.run_in_executor(None, release.wait, 30) for _ in range(64)]
    try:
        assert (await shells.run("version", timeout=10))[0] == 0
    finally:
        release.set()
        await asyncio.gather(*blocked)


async def test_the_host_key_may_change_under_it(shells: Shells) -> None:
    before = await asyncssh.get_server_host_key("127.0.0.1", shells.port, config=None)
    shells.keys.host_key.unlink()
    shells.keys.make_host_key()
    await asyncio.sleep(1.2)
    after = await asyncssh.get_server_host_key("127.0.0.1", shells.port, config=None)
    assert before is not None and after is not None
    assert before.get_fingerprint() != after.get_fingerprint()
    assert (await shells.run("version"))[0] == 0


async def test_unreadable_keys_let_nobody_new_in(shells: Shells) -> None:
    shells.keys.authorized.write_bytes(b"\xff\xfe")
    await wait_until(lambda: not shells.server.authorized.keys)
    assert (await shells.run("version"))[0] == 255


def test_the_private_names_of_asyncssh_are_where_they_were() -> None:
    for name in ("reload_config", "send_userauth_failure", "create_server_channel"):
        assert callable(getattr(asyncssh.SSHServerConnection, name, None)), name
    assert hasattr(asyncssh.SSHServerChannel, "_process_break_request")
    assert ConsoleChannel._process_eow_at_openssh_dot_com_request
    assert ConsoleConnection.__mro__[2] is asyncssh.SSHServerConnection


async def test_logins_that_succeed_are_not_rationed(tmp_path: Path) -> None:
    shells = Shells(tmp_path, limits=Limits(address_rate=0.1, address_burst=3))
    await shells.start()
    try:
        assert [(await shells.run("version"))[0] for _ in range(8)] == [0] * 8
    finally:
        await shells.stop()


async def test_no_key_exchange_is_not_every_key_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apihour_ssh._asyncssh.get_kex_algs", lambda: [b"curve25519-sha256"])
    with pytest.raises(ValueError, match="mlkem768x25519-sha256: this asyncssh has none of them"):
        await Shells(tmp_path, strict=True).start()


async def test_a_key_exchange_there_is_not_refuses_and_goes_on(
    shells: Shells, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(wanted: tuple[str, ...]) -> tuple[str, ...]:
        raise ValueError("none of the key exchanges")

    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr("apihour_console.faces.ssh.available_kex", none)
        shells.server.reload_keys()
        assert "none of the key exchanges; nobody may log in" in caplog.text
        assert (await shells.run("version"))[0] == 255
    shells.server.reload_keys()
    assert (await shells.run("version"))[0] == 0

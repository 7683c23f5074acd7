"""SSHServer through the OpenSSH client and real sockets."""

import asyncio
import contextlib
import datetime
import logging
import threading
import time
from types import SimpleNamespace

import asyncssh
import pytest

from apihour_ssh import STRICT, Limits, SSHServer
from apihour_ssh import server as server_module
from tests.apihour_tcp.minicore import WAYS, context, serve, until

from .clients import OpenSSH, ended


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def client(tmp_path):
    return OpenSSH(tmp_path)


async def session(process):
    """Commands: fail, boom, cat, wait, anything else is echoed."""
    command = process.command
    if command == "boom":
        raise RuntimeError("session broke")
    if command in (None, "cat"):
        while line := await process.stdin.readline():  # Ctrl-D is an empty line
            process.stdout.write(line.upper())
    elif command == "wait":
        process.stdout.write("waiting\n")
        await process.stdin.read()
    else:
        process.stdout.write(f"{process.get_extra_info('username')} {command}\n")
    process.exit(3 if command == "fail" else 0)


async def read_until(reader, wanted):
    """Read until `wanted` has come; the client's own warnings come first."""
    seen = b""
    async with asyncio.timeout(10):
        while wanted not in seen:
            seen += await reader.readline()


def server_for(client, **options):
    options.setdefault("process_factory", session)
    options.setdefault("authorized_keys", str(client.authorized))
    return SSHServer(host_keys=client.directory / "hostkey", **options)


async def test_exec_shell_and_exit_status(way, client):
    async with serve(server_for(client), way) as serving:
        result = await client.run(serving.port, "hello", "there")
        assert (result.status, result.out) == (0, "me hello there\n"), result.err
        assert (await client.run(serving.port, "fail")).status == 3
        assert (await client.run(serving.port, stdin="a\nb\n")).out == "A\nB\n"
        facts = serving.server.statistics()
        assert (facts["accepted"], facts["logins"], facts["sessions"]) == (3, 3, 3)
        await until(lambda: serving.server.statistics()["connections"] == 0)
        assert serving.server.statistics()["starting"] == 0


async def test_strict_algorithms(client):
    async with serve(server_for(client, algorithms=STRICT)) as serving:
        result = await client.run(serving.port, "x")
        assert result.status == 255 and "no matching key exchange" in result.err  # OpenSSH 9.2
        async with asyncssh.connect("127.0.0.1", serving.port, known_hosts=None, username="me",
                                    client_keys=[client.key], config=None) as connection:
            assert (await connection.run("x")).stdout == "me x\n"
            assert connection.get_extra_info("send_cipher") == "aes256-gcm@openssh.com"


@pytest.mark.parametrize("option", [
    "-oKexAlgorithms=diffie-hellman-group14-sha256", "-oHostKeyAlgorithms=ssh-rsa",
    "-oCiphers=aes128-cbc", "-oMACs=hmac-sha1"])
async def test_weak_algorithms_are_not_offered(client, option):
    extra = (option, "-oCiphers=aes256-ctr") if "MACs" in option else (option,)
    async with serve(server_for(client)) as serving:
        result = await client.run(serving.port, "x", extra=extra)
        assert result.status == 255 and "no matching" in result.err


async def test_unknown_key_and_no_password(way, client):
    other = client.make("other")
    async with serve(server_for(client), way) as serving:
        result = await client.run(serving.port, "x", key=other)
        assert result.status == 255
        assert "Permission denied (publickey)" in result.err  # nothing else is offered
        await until(lambda: serving.server.statistics()["login_failures"] == 1)


async def test_keys_are_read_again_when_they_change(client):
    other = client.make("other")
    async with serve(server_for(client)) as serving:
        assert (await client.run(serving.port, "x")).status == 0
        client.authorize("other")
        assert (await client.run(serving.port, "x", key=other)).status == 0
        assert (await client.run(serving.port, "x")).status == 255
        client.authorized.unlink()  # a revocation as well
        assert (await client.run(serving.port, "x", key=other)).status == 255


async def test_until_the_file_exists_nobody_gets_in(client, caplog):
    there, client.authorized = client.authorized, client.directory / "later"
    async with serve(server_for(client)) as serving:
        for _ in range(2):
            assert (await client.run(serving.port, "x")).status == 255
        assert caplog.text.count("nobody can log in by key") == 1
        there.rename(client.authorized)
        assert (await client.run(serving.port, "x")).status == 0


@pytest.mark.parametrize(("slot", "lines"), [(1, 1), (2, 0), (None, 1)])
async def test_of_several_workers_one_says_that_nobody_gets_in(
    client, caplog, monkeypatch, slot, lines
):
    monkeypatch.setattr(server_module, "_SWEEP", 0.02)
    client.authorized = client.directory / "later"
    worker = None if slot is None else SimpleNamespace(slot=slot)
    context = SimpleNamespace(name="ssh", logger=logging.getLogger("test"),
                              container=SimpleNamespace(worker=worker))
    served = server_for(client)
    sweeps, sweep = [], served._sweep
    monkeypatch.setattr(served, "_sweep", lambda loop: (sweep(loop), sweeps.append(1)))
    await served.start(context)
    try:
        assert "nobody can log in" not in caplog.text  # it may be on its way
        await until(lambda: len(sweeps) >= 3)
        assert caplog.text.count("nobody can log in by key") == lines
    finally:
        await served.stop()


async def test_options_of_a_key(client):
    cases = {
        'from="127.0.0.0/8"': 0, 'from="192.0.2.1"': 255, 'expiry-time="20200101"': 255,
        f'expiry-time="{datetime.date.today().year + 2}0101Z"': 0, 'role="admin"': 0,
    }
    async with serve(server_for(client)) as serving:
        for options, status in cases.items():
            client.authorize("id_ed25519", options)
            assert (await client.run(serving.port, "x")).status == status, options
        client.authorize("id_ed25519", 'command="forced"')
        assert (await client.run(serving.port, "x")).out == "me forced\n"


async def test_from_means_the_true_peer(client):
    client.authorize("id_ed25519", 'from="192.0.2.7"')
    async with serve(server_for(client), "core") as serving:
        make = serving.server.stream

        def stream(row):
            row.peer_address = ("192.0.2.7", 4711)
            return make(row)

        assert (await client.run(serving.port, "x")).status == 255
        serving.server.stream = stream
        assert (await client.run(serving.port, "x")).status == 0


async def test_a_failing_session_is_its_own(way, client, caplog):
    async with serve(server_for(client), way) as serving, asyncssh.connect(
            "127.0.0.1", serving.port, known_hosts=None, username="me",
            client_keys=[client.key], config=None) as connection:
        assert (await connection.run("boom")).exit_status == 1
        assert (await connection.run("x")).stdout == "me x\n"
        assert serving.server.statistics()["session_errors"] == 1
        if way == "core":
            assert [row.state for row in serving.table] == ["session"]
    (record,) = [r for r in caplog.records if "session failed" in r.getMessage()]
    assert "127.0.0.1" in record.getMessage() and "session broke" in caplog.text


async def test_server_factory_with_passwords(way, client):
    class Passwords(asyncssh.SSHServer):
        def password_auth_supported(self):
            return True

        def validate_password(self, username, password):
            return (username, password) == ("me", "secret")

    server = server_for(client, server_factory=Passwords, authorized_keys=None)
    async with serve(server, way) as serving:
        facts = {"known_hosts": None, "config": None, "client_keys": None, "username": "me"}
        async with asyncssh.connect("127.0.0.1", serving.port, password="secret",
                                    **facts) as connection:
            assert (await connection.run("x")).stdout == "me x\n"
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect("127.0.0.1", serving.port, password="guess", **facts)


@pytest.mark.parametrize(("options", "message"), [
    ({"authorized_keys": None}, r"server 'srv': SSHServer\(.*nobody to let in; expected auth"),
    ({"authorized_keys": "/dev/null"}, r"authorized keys /dev/null: holds no key, expected Op"),
    ({"nonsense": 1}, r"server 'srv': .*nonsense"),
], ids=["no keys", "empty", "unknown option"])
async def test_refuses_to_start(client, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        await server_for(client, **options).start(context())
    assert "\n" not in str(caught.value)


async def test_garbage_costs_its_connection_only(way, client):
    async with serve(server_for(client), way) as serving:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n" * 100)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert (await client.run(serving.port, "x")).status == 0
        await until(lambda: serving.server.statistics()["connections"] == 0)


async def test_login_does_not_wait_for_the_default_executor(client):
    loop, gate = asyncio.get_running_loop(), threading.Event()
    async with serve(server_for(client)) as serving:
        busy = [loop.run_in_executor(None, gate.wait, 20) for _ in range(64)]
        begun = time.monotonic()
        try:
            result = await client.run(serving.port, "x")
        finally:
            gate.set()
            await asyncio.gather(*busy)
        assert result.status == 0 and time.monotonic() - begun < 10


async def test_too_many_tries(client):
    keys = [client.make(f"wrong{n}") for n in range(5)]
    extra = tuple(word for key in keys for word in ("-i", str(key)))
    async with serve(server_for(client, limits=Limits(auth_tries=3))) as serving:
        result = await client.run(serving.port, "x", key=keys[0],
                                  extra=(*extra, "-i", str(client.key)))
        assert result.status == 255 and "Too many authentication failures" in result.err
        assert serving.server.statistics()["logins"] == 0


async def test_too_many_sessions(client):
    async with serve(server_for(client, limits=Limits(sessions=2))) as serving, asyncssh.connect(
            "127.0.0.1", serving.port, known_hosts=None, username="me",
            client_keys=[client.key], config=None) as connection:
        running = [await connection.create_process("wait") for _ in range(2)]
        with pytest.raises(asyncssh.ChannelOpenError, match="at most 2"):
            await connection.create_process("wait")
        running[0].stdin.write_eof()
        await running[0].wait()
        assert (await connection.run("x")).stdout == "me x\n"


async def test_too_many_connections(way, client, caplog, monkeypatch):
    monkeypatch.setattr("apihour_ssh.server._SWEEP", 0.05)
    async with serve(server_for(client, limits=Limits(per_address=2)), way) as serving:
        held = [await asyncio.open_connection("127.0.0.1", serving.port) for _ in range(2)]
        for reader, _ in held:
            assert (await reader.readline()).startswith(b"SSH-2.0-OpenSSH_apihour")
        assert (await client.run(serving.port, "x")).status == 0  # the oldest made room
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(held[0][0].read(), 5)
        assert held[0][0].at_eof() or held[0][0].exception()
        await until(lambda: "ended to make room for another login (1)" in caplog.text)
        assert not held[1][0].at_eof()
        assert sum(serving.server.statistics()["refused"].values()) == 1
        for _, held_writer in held:
            held_writer.close()
        await until(lambda: serving.server.statistics()["starting"] == 0)


async def test_who_comes_too_fast_waits_its_turn(way, client):
    limits = Limits(address_rate=2.0, address_burst=1)
    async with serve(server_for(client, limits=limits), way) as serving, \
            contextlib.AsyncExitStack() as stack:
        begun = time.monotonic()
        await asyncio.gather(*(_key_exchange(serving.port, stack) for _ in range(6)))
        assert time.monotonic() - begun > 2.4


async def _key_exchange(port, stack):
    """Say who we are, and wait for the server's half of a key exchange."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stack.callback(writer.close)
    writer.write(b"SSH-2.0-test\r\n")
    assert (await reader.readline()).startswith(b"SSH-2.0-OpenSSH_apihour")
    assert await asyncio.wait_for(reader.readexactly(6), 30)


async def test_who_waits_too_long_for_a_turn_is_ended(way, client):
    limits = Limits(rate=0.01, burst=1)
    server = server_for(client, limits=limits, login_timeout=0.5)
    async with serve(server, way) as serving, contextlib.AsyncExitStack() as stack:
        await _key_exchange(serving.port, stack)
        with pytest.raises(asyncio.IncompleteReadError):
            await _key_exchange(serving.port, stack)


async def test_a_known_address_gets_in_through_a_flood_of_strangers(client):
    limits = Limits(rate=1.0, burst=5, startups=10, reserved=5, waiting=10)
    server = server_for(client, limits=limits)
    async with serve(server) as serving, contextlib.AsyncExitStack() as stack:
        assert (await client.run(serving.port, "x")).status == 0
        assert "127.0.0.1" in (client.directory / "ssh_networks").read_text()
        flood = await asyncio.gather(*(
            _first_line(serving.port, stack, f"127.0.1.{n}", 0.2) for n in range(1, 101)))
        assert flood.count(b"") >= 80
        for _ in range(5):
            begun = time.monotonic()
            result = await client.run(serving.port, "x")
            assert result.status == 0, result.err
            assert time.monotonic() - begun < 5


async def _first_line(port, stack, source="127.0.0.1", timeout=10):
    """What a new connection is told, ``b""`` when it is closed, ``b"-"`` when it is let wait."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    stack.callback(writer.close)
    try:
        return await asyncio.wait_for(reader.readline(), timeout)
    except TimeoutError:
        return b"-"
    except ConnectionError:
        return b""


async def test_idle_connections_are_ended(client, monkeypatch):
    monkeypatch.setattr("apihour_ssh.server._SWEEP", 0.05)
    async with serve(server_for(client, limits=Limits(idle=0.5))) as serving:
        process = await client.start(serving.port, "cat")
        for _ in range(5):  # longer than 0.5 s in all, but never silent for so long
            process.stdin.write(b"x\n")
            assert await process.stdout.readline() == b"X\n"
            await asyncio.sleep(0.2)
        assert (await ended(process)).status == 0
        process = await client.start(serving.port, "wait")
        assert await process.stdout.readline() == b"waiting\n"
        await asyncio.wait_for(process.wait(), 10)
        assert b"Idle for 0.5 s" in await process.stderr.read()


async def test_drain_tells_the_session_and_waits(way, client):
    async with serve(server_for(client), way) as serving:
        process = await client.start(serving.port, "cat")
        process.stdin.write(b"one\n")
        assert await process.stdout.readline() == b"ONE\n"
        drain = asyncio.ensure_future(serving.drain(60))
        await read_until(process.stderr, b"\n*** This server is going away")
        process.stdin.write(b"two\n")
        assert await process.stdout.readline() == b"TWO\n"
        assert not drain.done()
        process.stdin.write_eof()
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert await drain < 30
        assert b"going away" not in await process.stderr.read(), "told more than once"


async def test_drain_serves_a_kept_connection_and_parts_when_it_is_idle(way, client):
    async with serve(server_for(client), way) as serving, asyncssh.connect(
            "127.0.0.1", serving.port, known_hosts=None, username="me",
            client_keys=[client.key], config=None) as connection:
        drain = asyncio.ensure_future(serving.drain(60))
        await until(lambda: serving.server.draining)
        for _ in range(20):  # one after the other
            assert (await connection.run("x")).stdout == "me x\n"
        process = await connection.create_process("x")
        assert await process.stderr.read() == ""  # a short one is not told
        await asyncio.wait_for(connection.wait_closed(), 10)  # unused: closed soon
        assert await drain < 15


async def test_drain_without_an_idle_moment_ends_between_two_sessions(client):
    async with serve(server_for(client)) as serving, asyncssh.connect(
            "127.0.0.1", serving.port, known_hosts=None, username="me",
            client_keys=[client.key], config=None) as connection:
        drain = asyncio.ensure_future(serving.drain(2))
        done = 0
        with pytest.raises((asyncssh.Error, ConnectionError)):
            while True:
                result = await connection.run("x")
                assert (result.exit_status, result.stdout) == (0, "me x\n")  # none half done
                done += 1
        assert done > 5 and await drain < 2


async def test_stop_disconnects_with_a_reason(way, client):
    async with serve(server_for(client, notice=""), way) as serving:
        process = await client.start(serving.port, "wait")
        assert await process.stdout.readline() == b"waiting\n"
        assert await serving.drain(0.2) >= 0.19
        await serving.server.stop()
        assert await asyncio.wait_for(process.wait(), 10) == 255
        assert b"The server is going away" in await process.stderr.read()
        assert serving.server.statistics()["connections"] == 0
        assert serving.server._sessions == set()


async def test_scp_and_sftp_return_zero(way, client, tmp_path):
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(b"x" * 100_000)
    async with serve(server_for(client, sftp_factory=True, allow_scp=True), way) as serving:
        options = client.options(serving.port)
        for mode in ("-s", "-O"):  # by the SFTP subsystem, and by the scp command
            result = await client.program("scp", mode, "-i", str(client.key), *options,
                                          str(source), f"127.0.0.1:{copy}")
            assert result.status == 0, result.err
            assert copy.read_bytes() == source.read_bytes()
            copy.unlink()


async def test_an_interactive_terminal(client):
    async with serve(server_for(client)) as serving:
        process = await client.start(serving.port, extra=("-tt",))
        process.stdin.write(b"hello\n")
        assert b"hello" in await process.stdout.readline()
        assert b"HELLO" in await process.stdout.readline()
        drain = asyncio.ensure_future(serving.drain(60))
        await until(lambda: serving.server.draining)
        await read_until(process.stderr, b"\r\n*** This server is going away")
        process.stdin.write(b"\x04")
        await asyncio.wait_for(process.wait(), 10)
        await drain


async def test_logs_who_came(client, caplog):
    caplog.set_level(logging.INFO, "test.srv")
    async with serve(server_for(client)) as serving:
        await client.run(serving.port, "x")
    assert "127.0.0.1: logged in as 'me'" in caplog.text

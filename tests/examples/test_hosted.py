"""examples/hosted: servers of other libraries, each with a client of its own, through reloads."""

from __future__ import annotations

import asyncio
import ftplib
import importlib.util
import smtplib
import socket
import threading
from pathlib import Path

import pytest

HOSTED = Path(__file__).parents[2] / "examples" / "hosted"
NEEDS = ("aioftp", "aiosmtpd", "amqtt", "asyncua", "dnslib", "grpclib", "google.protobuf",
         "pymodbus", "socketio", "telnetlib3", "websockets")
PATIENCE = 30.0
TOGETHER = '''
import importlib
import apihour

NAMES = {names!r}
examples = [importlib.import_module(name) for name in NAMES]


class Container(apihour.Container):
    binds = {{name: address.rpartition(":")[0] + ":0" for one in examples
             for name, address in one.Container.binds.items()}}
    single = {{"mqtt"}}

    def make_servers(self):
        return {{name: server for one in examples
                for name, server in one.Container.make_servers(self).items()}}
'''


def missing():
    found = []
    for name in NEEDS:
        try:
            importlib.util.find_spec(name) or found.append(name)
        except ModuleNotFoundError:
            found.append(name)
    return found


pytestmark = pytest.mark.skipif(
    bool(missing()), reason=f"not installed: {', '.join(missing())}; pip install '.[hosted]'")


@pytest.fixture(scope="module")
def house(apihour_module_daemon, tmp_path_factory):
    directory = tmp_path_factory.mktemp("hosted")
    names = sorted(path.stem for path in HOSTED.glob("*.py"))
    (directory / "together.py").write_text(TOGETHER.format(names=names))
    (directory / "file.txt").write_text("by FTP, and by SFTP")
    return apihour_module_daemon(
        "together:Container", "--pythonpath", str(HOSTED), "--graceful-timeout", "20",
        cwd=directory, workers=2)


def smtp(house):
    with smtplib.SMTP("127.0.0.1", house.port("smtp"), timeout=PATIENCE) as client:
        assert client.sendmail("a@example", ["b@example"], "Subject: x\n\nHello") == {}


def ws(house):
    from websockets.exceptions import ConnectionClosedOK
    from websockets.sync.client import connect

    with connect(f"ws://{house.address('ws')}", open_timeout=PATIENCE) as client:
        try:
            client.send("hello")
            assert client.recv(PATIENCE) == "hello"
        except ConnectionClosedOK as told:
            assert told.rcvd.code == 1001  # the worker retires: connect again


def modbus(house):
    from pymodbus.client import ModbusTcpClient

    with ModbusTcpClient("127.0.0.1", port=house.port("modbus"), timeout=PATIENCE) as client:
        assert client.read_holding_registers(1, count=2, device_id=1).registers == [17, 17]


def telnet(house):
    with house.connect("telnet", PATIENCE) as sock:
        sock.sendall(b"Ann\r\n")
        data = b""
        while b"Hello, Ann!" not in data:
            more = sock.recv(4096)
            assert more, data
            data += more


def dns(house):
    from dnslib import DNSRecord

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.sendto(DNSRecord.question("example").pack(), ("127.0.0.1", house.port("dns")))
        assert str(DNSRecord.parse(sock.recv(512)).a.rdata) == "192.0.2.1"


def io(house):
    import socketio

    async def connected():
        for _ in range(3):
            client = socketio.AsyncClient(reconnection=False)
            try:
                await client.connect(f"http://{house.address('io')}", transports=["websocket"])
            except TypeError as error:  # the close of a worker that retires: it measures its code
                assert "has no len" in str(error)
            else:
                return client
        raise AssertionError("closed three times while it connected")

    async def talk():
        client = await connected()
        talking = asyncio.ensure_future(client.call("echo", "hello", timeout=PATIENCE))
        ending = asyncio.ensure_future(client.wait())  # told that the worker retires
        await asyncio.wait([talking, ending], return_when=asyncio.FIRST_COMPLETED)
        assert ending.done() or await talking == "hello"
        talking.cancel()
        await client.disconnect()
        await ending

    asyncio.run(talk())


def sftp(house):
    import asyncssh

    async def talk():
        async with (
            asyncssh.connect("127.0.0.1", house.port("sftp"), known_hosts=None, username="guest",
                             client_keys=None, config=None) as connection,
            connection.start_sftp_client() as client, client.open("file.txt") as file,
        ):
            assert await file.read() == "by FTP, and by SFTP"

    asyncio.run(talk())


def ftp(house):
    with ftplib.FTP(timeout=PATIENCE) as client:  # in passive mode
        client.connect("127.0.0.1", house.port("ftp"))
        client.login()
        lines = []
        client.retrlines("RETR file.txt", lines.append)
        assert lines == ["by FTP, and by SFTP"]


def mqtt(house):
    from amqtt.client import MQTTClient

    async def talk():
        here, there = MQTTClient(config={"auto_reconnect": False}), MQTTClient(
            config={"auto_reconnect": False})
        for client in (here, there):
            await client.connect(f"mqtt://{house.address('mqtt')}/")
        topic = f"room/{threading.get_ident()}"
        await there.subscribe([(topic, 1)])
        await here.publish(topic, b"hello", qos=1)
        message = await there.deliver_message(timeout_duration=PATIENCE)
        assert bytes(message.publish_packet.payload.data) == b"hello"
        for client in (here, there):
            await client.disconnect()

    asyncio.run(talk())


def opcua(house):
    from asyncua import Client

    async def talk():
        async with Client(f"opc.tcp://{house.address('opcua')}", timeout=PATIENCE) as client:
            space = await client.get_namespace_index("http://example")
            node = await client.nodes.objects.get_child(f"{space}:answer")
            assert await node.read_value() == 42

    asyncio.run(talk())


def grpc(house):
    from grpclib.client import Channel
    from grpclib.health.v1.health_grpc import HealthStub
    from grpclib.health.v1.health_pb2 import HealthCheckRequest

    async def talk():
        channel = Channel("127.0.0.1", house.port("grpc"))
        try:
            answer = await HealthStub(channel).Check(HealthCheckRequest(), timeout=PATIENCE)
            assert answer.status == 1
        finally:
            channel.close()

    asyncio.run(talk())


TALKS = [smtp, ws, modbus, telnet, dns, io, sftp, ftp, mqtt, opcua, grpc]


@pytest.mark.parametrize("talk", TALKS, ids=lambda talk: talk.__name__)
def test_two_clients_talk_to_it(house, talk):
    for _ in range(2):
        talk(house)


def test_every_conversation_of_every_protocol_ends_well_through_a_reload(house):
    over = threading.Event()
    done = dict.fromkeys(TALKS, 0)
    failed = {}

    def repeat(talk):
        while not over.is_set():
            try:
                talk(house)
            except Exception as error:
                failed.setdefault(talk.__name__, repr(error))
            done[talk] += 1
            over.wait(0.2)

    threads = [threading.Thread(target=repeat, args=(talk,)) for talk in TALKS]
    for thread in threads:
        thread.start()
    try:
        house.wait(lambda: all(done.values()), "a talk of each")
        before = dict(done)
        assert house.reload().ok
        house.wait(lambda: all(done[talk] > before[talk] for talk in TALKS), "another of each")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failed == {}

"""The plugins without apihour: HTTP, TCP, UDP, SSH and ASGI from one ``asyncio.run``.

Run ``python examples/standalone.py`` and try the lines it prints; Ctrl-C ends it. The SSH
server lets in the keys of ``~/.ssh/authorized_keys``, or of the file named first.
"""

import asyncio
import sys
from pathlib import Path

from apihour_http import HTTPServer, Routes
from apihour_ssh import SSHServer
from apihour_tcp import TCPServer, UDPServer

routes = Routes()


@routes.get("/hello/{name}")
async def hello(request):
    return {"hello": request.match_info["name"]}


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


class Shout(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(data.upper(), peer)


def greet(process):
    process.stdout.write(f"hello {process.get_extra_info('username')}\n")
    process.exit(0)


async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello from ASGI\n"})


async def main(keys):
    streams = {
        "http": (HTTPServer(routes), "curl http://127.0.0.1:{}/hello/you"),
        "tcp": (TCPServer(echo), "nc 127.0.0.1 {}"),
        "ssh": (SSHServer(process_factory=greet, authorized_keys=keys,
                          host_keys=Path(keys).with_name("standalone_host_key")),
                "ssh 127.0.0.1 -p {}"),
    }
    try:
        from apihour_asgi import ASGIServer

        streams["asgi"] = (ASGIServer(asgi), "curl http://127.0.0.1:{}")
    except ImportError as error:
        print(f"asgi: {error}", file=sys.stderr)

    loop, udp = asyncio.get_running_loop(), UDPServer(Shout)
    servers = [udp, *(server for server, _ in streams.values())]
    listening = []
    try:
        for server in servers:
            await server.start()
        for name, (server, line) in streams.items():
            listener = await loop.create_server(server.stream, "127.0.0.1", 0)
            listening.append(listener)
            print(f"{name}: {line.format(listener.sockets[0].getsockname()[1])}")
        transport, _ = await loop.create_datagram_endpoint(
            udp.datagram, local_addr=("127.0.0.1", 0))
        print(f"udp: nc -u 127.0.0.1 {transport.get_extra_info('sockname')[1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        for listener in listening:
            listener.close()
        for server in servers:
            await server.drain(loop.time() + 1)
            await server.stop()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:2] or [str(Path.home() / ".ssh/authorized_keys")]))
    except KeyboardInterrupt:
        # What this file shows: none of it needed the framework.
        print("apihour imported:", "apihour" in sys.modules)

"""The raw TCP echo server of ``benchmarks/host.py``, hosted and bare.

``apihour echo_app:Container -b echo=127.0.0.1:0`` or ``python echo_app.py``, which is the
event loop's own server and nothing else.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import apihour


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not one by class

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:0"}

    def make_servers(self) -> dict[str, Any]:
        return {"echo": Echo}


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=2048)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=lambda: Container.make_event_loop({})) as runner:
        runner.run(main())

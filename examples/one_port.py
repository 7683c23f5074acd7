"""HTTP, HTTPS, SSH and a protocol of one's own on one port: the first bytes tell.

    openssl req -x509 -newkey ed25519 -nodes -subj /CN=localhost -keyout key.pem -out cert.pem
    apihour one_port:Container --certfile cert.pem --keyfile key.pem

    curl http://127.0.0.1:8443/      curl -k https://127.0.0.1:8443/
    ssh 127.0.0.1 -p 8443            nc 127.0.0.1 8443
"""

import asyncio

from apihour_mux import Mux

import apihour
from apihour_http import HTTPServer, Routes
from apihour_ssh import SSHServer

routes = Routes()


@routes.get("/")
async def index(request):
    return {"scheme": request.scheme}


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Container(apihour.Container):
    binds = {"edge": "127.0.0.1:8443?tls"}

    async def session(self, process):
        process.stdout.write("hello from SSH\n")
        process.exit(0)

    def make_servers(self):
        ssh = SSHServer(process_factory=self.session, host_keys="keys/one_port_host_key",
                        authorized_keys="keys/one_port_users")
        return {"edge": Mux({"http": HTTPServer(routes), "ssh": ssh, "default": Echo})}

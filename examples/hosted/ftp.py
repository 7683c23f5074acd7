"""aioftp: the control connection is the host's; data connections open ports of their own."""

import aioftp

import apihour
from apihour_tcp import LibraryServer


class Container(apihour.Container):
    binds = {"ftp": "127.0.0.1:8021"}

    def make_servers(self):
        users = [aioftp.User(base_path=".", permissions=[aioftp.Permission("/", writable=False)])]
        server = aioftp.Server(users)
        return {"ftp": LibraryServer(
            lambda: server.start("127.0.0.1"), stop=lambda made: server.close())}

"""asyncssh: its own listen(), here with SFTP, beside the daemon's shell."""

import asyncssh

import apihour
from apihour_tcp import LibraryServer


class Guest(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False  # nobody is asked who he is: for the example only


class Container(apihour.Container):
    binds = {"sftp": "127.0.0.1:8122"}

    def make_servers(self):
        key = asyncssh.generate_private_key("ssh-ed25519")
        return {"sftp": LibraryServer(lambda: asyncssh.listen(
            server_factory=Guest, server_host_keys=[key], sftp_factory=True))}

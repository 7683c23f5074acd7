"""Three protocols in one container: what is typed by SSH is served by HTTP as JSON.

Any worker may take the SSH connection and any other the HTTP request: the text lives in
``container.shared``, which all of them reach.
"""

import asyncio
import glob
import os
import sys

import apihour
from apihour_http import HTTPServer, Routes
from apihour_ssh import SSHServer

TEXT = "ssh/text"
LONGEST = 1000  # characters of a line worth keeping

routes = Routes()


@routes.get("/")
async def index(request):
    """What was typed last, and how often anything was."""
    shared = request.container.shared
    text = await shared.get(TEXT)
    lines = await shared.get("ssh/lines")
    return {
        "text": text.value.decode() if text else "",
        "lines": int(lines.value) if lines else 0,
        "worker": request.container.worker.name,
    }


class Echo(asyncio.Protocol):
    """TCP: what comes in goes out."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Container(apihour.Container):
    """The application; one instance in each worker."""

    binds = {"http": "127.0.0.1:8000", "ssh": "127.0.0.1:8023", "echo": "127.0.0.1:9000"}

    def make_servers(self):
        keys = self.worker.cfg.keys
        ssh = SSHServer(
            process_factory=self.talk,
            host_keys=os.path.join(keys, "ssh_host_ed25519_key"),
            authorized_keys=os.path.join(keys, "authorized_keys"),
        )
        return {"http": HTTPServer(routes), "ssh": ssh, "echo": Echo}

    def start(self):
        if self.worker.slot == 1 and self.worker.generation == 1:
            self.print_what_to_try()

    async def talk(self, process):
        """One SSH session: keep every line that is typed."""
        process.stdout.write(self.config.get("greeting", "Type a line.") + "\n")
        async for line in process.stdin:
            text = line.strip()[:LONGEST]
            if not text:
                break
            await self.shared.put(TEXT, text.encode())
            count = await self.shared.incr("ssh/lines")
            process.stdout.write(f"kept, line {count}\n")
        process.exit(0)

    def print_what_to_try(self):
        """The exact commands, with the addresses and keys this daemon really has."""
        place = {name: serving.addresses[0] for name, serving in self.worker.servers.items()}
        host, _, port = place["ssh"].rpartition(":")
        echo = place["echo"].replace(":", " ")
        own = os.path.abspath(os.path.join(self.worker.cfg.keys, "admin_ed25519"))
        keys = os.path.join(self.worker.cfg.keys, "authorized_keys")
        # The console makes a key for root, and for who has none of his own to let in.
        others = os.geteuid() != 0 and glob.glob(os.path.expanduser("~/.ssh/id_*.pub"))
        made = os.path.exists(own) or not (others or os.path.exists(keys))
        key = f"-i {own} " if made else ""
        console = self.worker.cfg.console or "127.0.0.1:8022"
        shell_host, _, shell_port = console.rpartition(":")
        lines = [f"curl http://{place['http']}/", f"nc {echo}"]
        if sys.stderr.isatty() or os.path.exists(keys):
            lines.append(f"ssh {key}you@{host} -p {port}      # type a line, then curl again")
            if shell_port != "0":  # the console says which one it was given
                shell = f"ssh {key}admin@{shell_host} -p {shell_port}"
                lines.append(f"{shell}    # the shell: workers, top, help")
        print("\nTry, in another terminal:", *lines, sep="\n  ", end="\n\n", flush=True)

"""SSH that runs what it is told to, as the docs show it."""

import asyncio
import os

import apihour
from apihour_ssh import Limits, SSHServer


class Container(apihour.Container):
    binds = {"ssh": "127.0.0.1:0"}

    @classmethod
    def make_event_loop(cls, config):
        if os.environ.get("COMMANDS_LOOP") == "asyncio":
            return asyncio.new_event_loop()
        return super().make_event_loop(config)

    def make_servers(self):
        keys = self.worker.cfg.keys
        return {"ssh": SSHServer(
            process_factory=run, sftp_factory=True, allow_scp=True, encoding=None,
            host_keys=os.path.join(keys, "ssh_host_ed25519_key"),
            authorized_keys=os.path.join(keys, "authorized_keys"),
            limits=Limits(rate=0, address_rate=0),
        )}


async def run(process):
    """One session: a shell's worth of its command, or a shell without one."""
    words = ["sh", "-c", process.command] if process.command else ["sh"]
    child = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE)
    feeding = asyncio.ensure_future(feed(process.stdin, child.stdin))
    try:
        await asyncio.gather(copy(child.stdout, process.stdout), copy(child.stderr, process.stderr))
        status = await child.wait()
    finally:
        feeding.cancel()
        if child.returncode is None:
            child.kill()
    if status < 0:
        process.exit_with_signal("KILL" if status == -9 else "TERM")
    else:
        process.exit(status)


async def feed(source, sink):
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except (ConnectionError, BrokenPipeError):
        pass
    finally:
        sink.close()


async def copy(source, sink):
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()

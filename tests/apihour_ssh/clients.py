"""The OpenSSH client and its keys, for the tests of apihour_ssh."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Result:
    """How one client ended."""

    status: int | None
    out: str
    err: str


class OpenSSH:
    """Keys in `directory`; :meth:`run` runs the real ``ssh``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = self.make("id_ed25519")
        self.authorized = directory / "authorized_keys"
        self.authorize("id_ed25519")

    def make(self, name: str) -> Path:
        path = self.directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)],
                       check=True)
        return path

    def authorize(self, name: str, options: str = "") -> None:
        public = (self.directory / f"{name}.pub").read_text()
        self.authorized.write_text(f"{options} {public}".strip() + "\n")

    def options(self, port: int, *extra: str, user: str = "me") -> list[str]:
        fixed = ["StrictHostKeyChecking=no", f"UserKnownHostsFile={self.directory}/known",
                 "IdentitiesOnly=yes", "BatchMode=yes", f"Port={port}",
                 "IdentityAgent=none", f"User={user}", "ConnectTimeout=10"]
        return ["-F", "none", *(f"-o{each}" for each in fixed), *extra]

    async def start(self, port: int, *words: str, key: Path | None = None,
                    extra: tuple[str, ...] = ()) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            "ssh", "-i", str(key or self.key), *self.options(port, *extra), "127.0.0.1", *words,
            stdin=pipe, stdout=pipe, stderr=pipe)

    async def run(self, port: int, *words: str, stdin: str = "", key: Path | None = None,
                  extra: tuple[str, ...] = ()) -> Result:
        process = await self.start(port, *words, key=key, extra=extra)
        return await ended(process, stdin)

    async def program(self, *words: str) -> Result:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe,
                                                       stderr=pipe)
        return await ended(process)


async def ended(process: asyncio.subprocess.Process, stdin: str = "") -> Result:
    """Wait for `process`, killing it after 30 seconds."""
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
    return Result(process.returncode, out.decode(), err.decode())

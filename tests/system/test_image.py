"""The starter's Dockerfile, as far as it goes without Docker: its steps, in namespaces.

The directories that it copies are mounted where it puts them, everything is read-only but
``/dev/shm``, and what it starts runs as its user, as process 1, with its environment. The virtual
environment is not made from wheels: this interpreter stands for it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.system.test_read_only import READ_ONLY

_BASE = Path(sys.base_prefix)

# What hides the interpreter from others, as root's home does, is replaced; lo is brought up.
BEGIN = f"""
set -e
mount --make-rprivate /
mount --bind "$SRV" /srv
if ! setpriv --reuid=10001 --clear-groups test -r {_BASE}/bin; then
    mkdir "$KEPT"
    mount --bind {_BASE} "$KEPT"
    mount -t tmpfs -o mode=755 tmpfs /{_BASE.parts[1]}
    mkdir -p {_BASE}
    mount --bind "$KEPT" {_BASE}
fi
{sys.executable} - <<END
import fcntl, socket, struct
with socket.socket() as sock:  # SIOCSIFFLAGS: IFF_UP (netdevice(7))
    fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", 1))
END
"""


def can_be_confined() -> bool:
    words = ["unshare", "--mount", "--pid", "--net", "--fork", "true"]
    return bool(shutil.which("setpriv") and shutil.which("unshare")) and (
        subprocess.run(words, capture_output=True, check=False).returncode == 0)


class Image:
    """What the last stage of a Dockerfile says."""

    def __init__(self, path: Path) -> None:
        text = path.read_text().replace("\\\n", "")
        self.steps = re.findall(r"^([A-Z]+) (.*)", text[text.rindex("FROM "):], re.MULTILINE)

    def said(self, name: str) -> list[str]:
        return [value for step, value in self.steps if step == name]

    def entry(self) -> list[str]:
        words: list[str] = json.loads(self.said("ENTRYPOINT")[0])
        return words

    def copied(self) -> list[tuple[str, str]]:
        return [(words[0], words[1]) for value in self.said("COPY")
                if not (words := value.split())[0].startswith("--")]

    def environment(self) -> list[str]:
        return [word for value in self.said("ENV") for word in shlex.split(value)]


@pytest.mark.skipif(not can_be_confined(), reason="needs to make namespaces: root")
def test_what_the_dockerfile_starts_serves_and_stops(tmp_path: Path) -> None:
    made = subprocess.run([sys.executable, "-m", "apihour", "new", "shop"], cwd=tmp_path,
                          check=False, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    image, srv = Image(tmp_path / "shop" / "Dockerfile"), tmp_path / "srv"
    for source, place in image.copied():
        shutil.copytree(tmp_path / "shop" / source, srv / Path(place).relative_to("/srv"))
    program = Path(image.entry()[0]).relative_to("/srv")
    (srv / program).parent.mkdir(parents=True)
    (srv / program).write_text(f'#!/bin/sh\nexec {sys.executable} -m apihour "$@"\n')
    (srv / program).chmod(0o755)
    tmp_path.chmod(0o755)
    start = BEGIN + READ_ONLY.replace('exec "$@"', f'cd {image.said("WORKDIR")[0]}\nexec "$@"')
    user = image.said("USER")[0]
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs",
             "env", "-i", f"PATH={os.environ['PATH']}", *image.environment(), *image.entry()]
    process = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc",
         "sh", "-c", start, "sh", *words],
        env={**os.environ, "SRV": str(srv), "KEPT": str(tmp_path / "kept"), "ELSEWHERE": "1",
             "TRIED": "/srv/tried"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        pid = wait_ready(process, image)
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^NSpid:.*\t1$", status, re.MULTILINE)  # process 1 there
        assert re.search(rf"^Uid:\t{user}\t{user}\t", status, re.MULTILINE)
        asked = within(pid, "import json, urllib.request as u; print(json.load("
                       "u.urlopen('http://127.0.0.1:8000/hello/you', timeout=30))['text'])")
        assert (asked.stdout, asked.returncode) == ("Hello, you!\n", 0), asked.stderr
        os.kill(pid, signal.SIGTERM)  # docker stop
        assert process.wait(60) == 0
    finally:
        process.kill()
        told = process.communicate()[0]
    assert "Traceback" not in told, told


def within(pid: int, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python where that process is, as docker exec does."""
    return subprocess.run(
        ["nsenter", f"--target={pid}", "--mount", "--net", "--pid", sys.executable, "-c", code],
        capture_output=True, text=True, check=False, timeout=60)


def wait_ready(process: subprocess.Popen[str], image: Image) -> int:
    """Until its health check is content; returns the process that is 1 in there."""
    check = json.loads(image.said("HEALTHCHECK")[0].removeprefix("CMD "))
    deadline = time.monotonic() + 60
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while time.monotonic() < deadline and process.poll() is None:
        if (found := children.read_text().split()) and (
                within(int(found[0]), check[2]).returncode == 0):
            return int(found[0])
        time.sleep(0.2)
    process.kill()
    raise AssertionError(f"not ready: {process.communicate()[0]}")

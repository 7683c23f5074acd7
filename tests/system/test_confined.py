"""A daemon that may not call what systemd's ``SystemCallFilter=~@privileged`` denies."""

import json
import platform
import sys

import pytest

from tests.system.shell_support import ctl
from tests.system.support import deploy

# As systemd does it: a filter of the kernel's that answers EPERM (seccomp(2), x86_64's numbers).
CONFINED = """
import ctypes, errno, os, struct, sys
DENIED = [92, 93, 94, 260,  # chown, fchown, lchown, fchownat
          105, 106, 113, 114, 116, 117, 119, 122, 123,  # set*uid, set*gid, setgroups
          126, 155, 161, 163, 170]  # capset, pivot_root, chroot, acct, sethostname
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
steps = [(LOAD, 0, 0, 0)]
steps += [(EQUAL, len(DENIED) - at, 0, number) for at, number in enumerate(DENIED)]
steps += [(RETURN, 0, 0, 0x7FFF0000), (RETURN, 0, 0, 0x00050000 | errno.EPERM)]
code = b"".join(struct.pack("HBBI", *step) for step in steps)
kept = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(kept))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0, ctypes.get_errno()
try:
    os.chown("/proc/self/cwd", -1, -1)
except PermissionError:
    os.execv(sys.executable, [sys.executable, "-m", "apihour", *sys.argv[1:]])
sys.exit("nothing is denied")
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs the system calls of x86_64")
def test_it_serves_reloads_upgrades_and_has_its_shell(apihour_daemon, app, tmp_path):
    (tmp_path / "confined.py").write_text(CONFINED)
    daemon = apihour_daemon(
        "house:Container", "-b", f"http=unix:{tmp_path}/http.sock", "-b", "echo=127.0.0.1:0",
        "--pid", str(tmp_path / "pid"), cwd=app, console=True,
        command=(sys.executable, str(tmp_path / "confined.py")))
    assert daemon.reload().ok
    deploy(app, "2")
    assert daemon.upgrade().ok
    rows = json.loads(ctl(daemon, "workers", "--json").stdout)
    assert len([row for row in rows if row["state"] == "serving"]) == 2
    with daemon.connect("http") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b'"version":"2"' in sock.makefile("rb").read()
    daemon.terminate()
    assert not [line for line in daemon.lines if "ermi" in line or "[ERROR]" in line]

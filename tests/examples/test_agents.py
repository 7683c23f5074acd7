"""examples/agents.py: a page of JSON, and rows of a real PostgreSQL, of two workers."""

import json
import urllib.error
import urllib.request
from pathlib import Path

from tests.system.support import get

EXAMPLES = Path(__file__).parents[2] / "examples"


def post(daemon, body):
    request = urllib.request.Request(
        f"http://{daemon.address('http')}/agents", json.dumps(body).encode(),
        {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_it_keeps_agents(apihour_daemon, database):
    daemon = apihour_daemon("agents:Container", "-b", "http=127.0.0.1:0", cwd=EXAMPLES,
                            env={"DATABASE_URL": database})
    assert get(daemon, "/index") == {"hello": "world"}
    assert get(daemon, "/agents") == []
    assert post(daemon, {"name": "Ada"}) == (201, {"id": 1, "name": "Ada"})
    status, problem = post(daemon, {"name": "Ada"})
    assert status == 409 and "Ada" in problem["detail"]
    assert post(daemon, {"name": 5})[0] == post(daemon, {})[0] == 422
    assert get(daemon, "/agents") == [{"id": 1, "name": "Ada"}]

"""The six tests of the TechEmpower Framework Benchmarks, by their rules (round 23).

``python -m apihour.testing.with_postgres /tmp/tfb sh -c 'python database.py && apihour
techempower:Container'``, then ``python verify.py http://127.0.0.1:8080``. With the benchmark's own
database: ``DATABASE_URL=postgresql://benchmarkdbuser:…@tfb-database/hello_world``.

What the rules ask for, and where it is:

- every answer has ``Server`` and a ``Date`` that is no older than a second: HTTPServer renews it;
- each row is read by a statement of its own, and each statement has its own Sync: ``fetchrow`` is
  one of each; nothing is cached between requests;
- rows are updated by one statement for a request, which is allowed for ``/updates`` alone;
- fortunes get a row that is added in the request, are sorted by it, and escaped by the template.
"""

from __future__ import annotations

import os
from operator import itemgetter
from random import choices, randint, sample
from typing import Annotated, Any

from jinja2 import Environment

import apihour
from apihour.engines import Postgres, Resource
from apihour_http import HTTPServer, Response, Routes

ROWS = 10_000
MOST = 500  # rows of one request
WORLD = "SELECT id, randomnumber FROM world WHERE id = $1"
FORTUNES = "SELECT id, message FROM fortune"
# In the order of their ids: two requests for the same rows must not wait for one another.
UPDATE = """
UPDATE world SET randomnumber = new.randomnumber FROM (
    SELECT unnest($1::int[]) AS id, unnest($2::int[]) AS randomnumber) AS new
WHERE world.id = new.id
"""
ADDED = {"id": 0, "message": "Additional fortune added at request time."}
TEMPLATE = Environment(autoescape=True).from_string("""<!DOCTYPE html>
<html><head><title>Fortunes</title></head><body><table>\
<tr><th>id</th><th>message</th></tr>\
{% for one in fortunes %}<tr><td>{{ one.id }}</td><td>{{ one.message }}</td></tr>{% endfor %}\
</table></body></html>
""")
SERVER = [("Server", "apihour")]
PLAIN = [*SERVER, ("Content-Type", "text/plain; charset=utf-8")]
HTML = [*SERVER, ("Content-Type", "text/html; charset=utf-8")]

Connection = Annotated[Any, Resource()]  # an asyncpg.Connection
routes = Routes()


@routes.get("/json")
def json(request):
    return Response(200, SERVER, {"message": "Hello, World!"})


@routes.get("/plaintext")
def plaintext(request):
    return Response(200, PLAIN, b"Hello, World!")


@routes.get("/db")
async def db(request, pg: Connection):
    return Response(200, SERVER, await read_world(pg, randint(1, ROWS)))


@routes.get("/queries")
async def queries(request, pg: Connection):
    ids = choices(range(1, ROWS + 1), k=count_of(request))
    return Response(200, SERVER, [await read_world(pg, one) for one in ids])


@routes.get("/updates")
async def updates(request, pg: Connection):
    ids = sorted(sample(range(1, ROWS + 1), count_of(request)))
    worlds = [await read_world(pg, one) for one in ids]
    for world in worlds:
        world["randomNumber"] = randint(1, ROWS)
    await pg.execute(UPDATE, ids, [world["randomNumber"] for world in worlds])
    return Response(200, SERVER, worlds)


@routes.get("/fortunes")
async def fortunes(request, pg: Connection):
    rows = [ADDED, *await pg.fetch(FORTUNES)]
    rows.sort(key=itemgetter("message"))
    return Response(200, HTML, TEMPLATE.render(fortunes=rows))


async def read_world(pg, world_id):
    """One row, read for this one alone."""
    row = await pg.fetchrow(WORLD, world_id)
    return {"id": row["id"], "randomNumber": row["randomnumber"]}


def count_of(request):
    """How many rows are asked for: 1 to 500, and 1 for what is no number."""
    text = request.query.get("queries", "")
    return min(max(int(text), 1), MOST) if text.isascii() and text.isdigit() else 1


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:8080"}

    def make_engines(self):
        # No session of these endpoints is changed by a SET: nothing is to be undone after them.
        most = int(os.environ.get("DATABASE_MAX_CONN", "64"))
        return {"pg": Postgres("env:DATABASE_URL", max=most, reset=False)}

    def make_servers(self):
        return {"http": HTTPServer(routes)}

"""The profiles of the arena's own entry on Robyn, its port from ROBYN_PORT.

``python arena_robyn.py --processes 1 --workers 1``
"""

from __future__ import annotations

import os

import orjson
from arena_common import DATA, kind_of, totals
from robyn import Request, Response, Robyn

app = Robyn(__file__)
PLAIN = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}
STATIC = DATA / "static"


def plain(text: object) -> Response:
    return Response(status_code=200, headers=PLAIN, description=str(text))


def total(request: Request) -> int:
    return sum(int(request.query_params.get(name, "0")) for name in "ab")


@app.get("/baseline11")
async def baseline(request: Request) -> Response:
    return plain(total(request))


@app.post("/baseline11")
async def baseline_with_body(request: Request) -> Response:
    return plain(total(request) + int(request.body))


@app.get("/pipeline")
async def pipeline(request: Request) -> Response:
    return plain("ok")


@app.get("/json/:count")
async def json(request: Request) -> Response:
    body = orjson.dumps(totals(
        int(request.path_params["count"]), int(request.query_params.get("m", "1"))))
    return Response(status_code=200, headers=JSON, description=body)


@app.post("/upload")
async def upload(request: Request) -> Response:
    return plain(len(request.body))


@app.get("/static/:name")
async def static(request: Request) -> Response:
    path = STATIC / request.path_params["name"]
    if not path.is_file():
        return Response(status_code=404, headers=PLAIN, description="")
    return Response(status_code=200, headers={"Content-Type": kind_of(path.name)},
                    description=path.read_bytes())


if __name__ == "__main__":
    app.start(host="127.0.0.1", port=int(os.environ["ROBYN_PORT"]))

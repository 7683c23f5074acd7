"""The profiles without a database on Flask, for gunicorn."""

from __future__ import annotations

from typing import Any

from arena_common import DATA, totals
from flask import Flask, Response, request, send_from_directory
from flask_compress import Compress

app = Flask("arena", static_folder=None)
app.config["COMPRESS_ALGORITHM"] = ["br", "gzip"]
app.config["COMPRESS_MIN_SIZE"] = 1024
Compress(app)


def plain(text: object) -> Response:
    return Response(str(text), mimetype="text/plain")


@app.route("/baseline11", methods=["GET", "POST"])
def baseline() -> Response:
    total = int(request.args["a"]) + int(request.args["b"])
    return plain(total + int(request.get_data()) if request.method == "POST" else total)


@app.get("/pipeline")
def pipeline() -> Response:
    return plain("ok")


@app.get("/json/<int:count>")
def json(count: int) -> Any:
    return totals(count, int(request.args["m"]))


@app.post("/upload")
def upload() -> Response:
    return plain(sum(map(len, iter(lambda: request.stream.read(65536), b""))))


@app.get("/static/<name>")
def static(name: str) -> Response:
    return send_from_directory(DATA / "static", name)

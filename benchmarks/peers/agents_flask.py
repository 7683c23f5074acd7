"""API-Hour's benchmark, on Flask with psycopg, for gunicorn and uWSGI.

As API-Hour measured it: a connection for each request. ``AGENTS_POOL=1`` keeps them in a pool.
"""

from __future__ import annotations

import os
from typing import Any

import psycopg
from agents_common import HELLO, POOL, QUERY, URL
from flask import Flask, jsonify
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

app = Flask("agents")
pool = ConnectionPool(
    URL, min_size=POOL, max_size=POOL, kwargs={"row_factory": dict_row}, open=False)
is_pooled = os.environ.get("AGENTS_POOL") == "1"


@app.get("/index")
def index() -> Any:
    return HELLO


@app.get("/agents")
def agents() -> Any:
    if not is_pooled:
        with psycopg.connect(URL, row_factory=dict_row) as connection:
            return jsonify(connection.execute(QUERY).fetchall())
    if pool.closed:
        pool.open()  # in the worker: what a fork shares is no connection
    with pool.connection() as connection:
        return jsonify(connection.execute(QUERY).fetchall())

"""socketify: ``python socketify_app.py PORT``."""

from __future__ import annotations

import sys
from typing import Any

import orjson
from common import LARGE, MESSAGE, RESOURCES, decode_user, welcome
from msgspec import ValidationError
from socketify import App, AppListenOptions

JSON, PLAIN = b"application/json", b"text/plain; charset=utf-8"


def as_json(res: Any, data: object) -> None:
    res.write_header(b"Content-Type", JSON).end(orjson.dumps(data))


def hello(res: Any, req: Any) -> None:
    as_json(res, MESSAGE)


def large(res: Any, req: Any) -> None:
    res.write_header(b"Content-Type", PLAIN).end(LARGE)


def create(res: Any, req: Any) -> None:
    # get_data() of 0.0.31 crashes the process under load; a body this small is one chunk.
    body = b""

    def received(res: Any, chunk: bytes | None, is_end: bool) -> None:
        nonlocal body
        body += chunk or b""
        if not is_end:
            return
        try:
            user = decode_user(body)
        except ValidationError as error:
            res.write_status(422)
            as_json(res, {"detail": str(error)})
        else:
            as_json(res, welcome(user))

    res.on_data(received)


def item(res: Any, req: Any) -> None:
    as_json(res, {"id": int(req.get_parameter(0)), "item": req.get_parameter(1)})


def main() -> None:
    app = App()
    app.get("/json", hello)
    app.get("/large", large)
    app.post("/users", create)
    for name in RESOURCES:
        app.get(f"/{name}/:id/items/:item", item)
    app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
    app.run()


if __name__ == "__main__":
    main()

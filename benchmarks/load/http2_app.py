"""What ``http2.py`` has served: one JSON answer by each interface; two of them run here."""

from __future__ import annotations

import asyncio
import json
import sys


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    size = 0
    if scope["method"] == "POST":
        more = True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
    body = json.dumps({"path": scope["path"], "size": size}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def rsgi(scope, protocol):
    size = len(await protocol()) if scope.method == "POST" else 0
    protocol.response_bytes(200, [("content-type", "application/json")], json.dumps(
        {"path": scope.path, "size": size}).encode())


async def main(kind):
    if kind == "asgi":
        from apihour_asgi import ASGIServer

        server = ASGIServer(asgi)
        await server.start()
        listener = await asyncio.get_running_loop().create_server(
            server.stream, "127.0.0.1", 0)
    else:
        from apihour_http import HTTPServer, Routes

        routes = Routes()

        async def endpoint(request):
            return {"path": request.path, "size": len(request.body)}

        routes.get("/items/{number}")(endpoint)
        routes.post("/items/{number}")(endpoint)
        listener = await HTTPServer(routes).serve("127.0.0.1", 0)
    print(f"port {listener.sockets[0].getsockname()[1]}", flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(sys.argv[1]))

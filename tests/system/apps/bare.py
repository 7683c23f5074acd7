"""Bare applications, without a container."""

from aiohttp import web


async def index(request):
    return web.json_response({"framework": "aiohttp"})


application = web.Application()
application.router.add_get("/", index)


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            print(message["type"], flush=True)
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"framework": "asgi"}'})


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b'{"framework": "wsgi"}']

"""Applications that functions make."""

from aiohttp import web


def _application(text):
    async def hello(request):
        return web.json_response({"made": text})

    app = web.Application()
    app.router.add_get("/", hello)
    return app


async def init_app():
    return _application("awaited")


def create_app(debug=False):
    return _application("called")

"""HTTP in one file: ``apihour all_in_one:Container`` and ``curl 127.0.0.1:8000/hello/you``."""

import apihour
from apihour_http import HTTPServer, Routes

routes = Routes()


@routes.get("/")
async def index(request):
    return {"try": "/hello/you"}


@routes.get("/hello/{name}")
async def hello(request):
    seen = await request.container.shared.incr("hellos")  # one counter for all workers
    return {"hello": request.match_info["name"], "seen": seen}


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:8000"}

    def make_servers(self):
        return {"http": HTTPServer(routes)}

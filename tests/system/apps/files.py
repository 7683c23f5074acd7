"""Files that are sent and received: a directory ``site`` and a directory ``inbox``, both here."""

import hashlib
from pathlib import Path

import apihour
from apihour_http import HTTPServer, Routes

routes = Routes()
SITE, INBOX = Path("site").absolute(), Path("inbox").absolute()
SITE.mkdir(exist_ok=True)
INBOX.mkdir(exist_ok=True)
routes.static("/static", SITE)


@routes.put("/inbox/{name}", stream_body=True, max_body=32 << 20)
async def store(request):
    """Writes as it comes; what breaks off leaves nothing."""
    path = INBOX / request.match_info["name"]
    part = path.with_suffix(".part")
    digest = hashlib.sha256()
    try:
        with part.open("wb") as file:
            async for piece in request.stream():
                digest.update(piece)
                file.write(piece)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return {"sha256": digest.hexdigest()}


@routes.post("/form", stream_body=True, max_body=32 << 20)
async def form(request):
    """What is in a form."""
    fields = await request.post()
    file = fields["file"]
    return {"name": fields["name"], "file": file.filename,
            "sha256": hashlib.sha256(file.file.read()).hexdigest()}


@routes.get("/rows", compress=True)
async def rows(request):
    """Text that is worth compressing."""
    return [{"number": number, "name": "row"} for number in range(1000)]


class Container(apihour.Container):
    """One server of HTTP."""

    binds = {"http": "127.0.0.1:0"}

    def make_servers(self):
        """Its endpoints."""
        return {"http": HTTPServer(routes)}

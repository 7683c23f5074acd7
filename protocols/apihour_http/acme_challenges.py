"""What an ACME server asks by http-01 (RFC 8555 8.3), answered beside the routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apihour_http.endpoint import Endpoint
from apihour_http.response import Response
from apihour_http.routing.calling import settle
from apihour_http.routing.routes import Routes

__all__ = ["challenge_endpoints"]


def challenge_endpoints(find: Callable[[str], str | None]) -> list[Endpoint]:
    """An endpoint that answers what `find` finds of a token, and 404 else."""
    routes = Routes()

    @routes.get("/.well-known/acme-challenge/{token}")
    def acme_challenge(request: Any) -> Response:
        text = find(request.match_info["token"])
        if text is None:
            return Response(404, {"Content-Type": "text/plain"}, b"no such challenge\n")
        return Response(200, {"Content-Type": "application/octet-stream"}, text.encode())

    made = list(routes)
    for endpoint in made:
        settle(endpoint)
    return made

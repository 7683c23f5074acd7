"""Django in one file, without middleware, for gunicorn."""

from __future__ import annotations

import orjson
from common import LARGE, MESSAGE, RESOURCES, decode_user, welcome
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from msgspec import ValidationError

settings.configure(
    DEBUG=False, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="benchmark",
    MIDDLEWARE=[], USE_I18N=False, LOGGING_CONFIG=None,
)


def as_json(data: object, status: int = 200) -> HttpResponse:
    return HttpResponse(orjson.dumps(data), content_type="application/json", status=status)


def hello(request: HttpRequest) -> HttpResponse:
    return as_json(MESSAGE)


def large(request: HttpRequest) -> HttpResponse:
    return HttpResponse(LARGE, content_type="text/plain; charset=utf-8")


def create(request: HttpRequest) -> HttpResponse:
    try:
        user = decode_user(request.body)
    except ValidationError as error:
        return as_json({"detail": str(error)}, 422)
    return as_json(welcome(user))


def item(request: HttpRequest, id: int, item: str) -> HttpResponse:
    return as_json({"id": id, "item": item})


urlpatterns = [
    path("json", hello), path("large", large),
    path("users", create),
    *(path(f"{name}/<int:id>/items/<item>", item) for name in RESOURCES),
]
app = get_wsgi_application()

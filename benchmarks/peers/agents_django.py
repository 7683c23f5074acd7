"""API-Hour's benchmark, on Django in one file, without middleware, with psycopg and its pool."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from agents_common import HELLO, POOL, QUERY, URL
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.urls import path

_url = urlsplit(URL)
settings.configure(
    DEBUG=False, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="benchmark",
    MIDDLEWARE=[], USE_I18N=False, LOGGING_CONFIG=None,
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": _url.path[1:] or "postgres",
        "USER": _url.username, "PASSWORD": unquote(_url.password or ""),
        "HOST": parse_qs(_url.query).get("host", [_url.hostname])[0], "PORT": _url.port or "",
        "OPTIONS": {"pool": {"min_size": POOL, "max_size": POOL}},
    }},
)


def index(request: HttpRequest) -> JsonResponse:
    return JsonResponse(HELLO)


def agents(request: HttpRequest) -> JsonResponse:
    with connection.cursor() as cursor:
        cursor.execute(QUERY)
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return JsonResponse(rows, safe=False)


urlpatterns = [path("index", index), path("agents", agents)]
app = get_wsgi_application()

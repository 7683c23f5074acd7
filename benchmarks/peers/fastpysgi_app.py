"""The bare ASGI application on fastpysgi (libuv and llhttp): ``python fastpysgi_app.py PORT``."""

from __future__ import annotations

import sys

import fastpysgi
from asgi_app import app

if __name__ == "__main__":
    fastpysgi.run(app, host="127.0.0.1", port=int(sys.argv[1]))

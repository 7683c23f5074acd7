"""The bare ASGI application of the profiles on fastpysgi: ``python arena_fastpysgi.py PORT``."""

from __future__ import annotations

import sys

import fastpysgi
from arena_asgi import app

if __name__ == "__main__":
    fastpysgi.run(app, host="127.0.0.1", port=int(sys.argv[1]))

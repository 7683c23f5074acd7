"""The bare WSGI application of the profiles on bjoern: ``python arena_bjoern.py PORT``."""

from __future__ import annotations

import sys

import bjoern
from arena_wsgi import app

if __name__ == "__main__":
    bjoern.run(app, "127.0.0.1", int(sys.argv[1]))

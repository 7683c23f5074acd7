"""A Proxy before the server at UPSTREAM, of the environment."""

from __future__ import annotations

import os
from typing import Any

from apihour_proxy import Proxy

import apihour


class Container(apihour.Container):
    binds = {"proxy": "127.0.0.1:0"}

    def make_servers(self) -> dict[str, Any]:
        return {"proxy": Proxy(os.environ["UPSTREAM"])}

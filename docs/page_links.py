"""A Sphinx extension: links between pages as a repository's viewer understands them.

Pages say ```operations.rst <operations.rst>`_``, with or without ``#an-anchor``, relative to
their file. Here such a link leads to the page that was made of it. One to a page or an anchor
that there is not is a warning, so ``make docs`` refuses it; one to another file of the checkout
(``../examples/standalone.py``) is text, as the site does not hold that file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

_logger = logging.getLogger(__name__)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#|/")
# The files of the checkout's top that a page includes whole.
_INCLUDED = {"CHANGELOG.rst": "changelog", "CONTRIBUTING.rst": "contributing",
             "SECURITY.rst": "security"}


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls when it loads the extension."""
    app.connect("doctree-resolved", mend_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mend_links(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Let each link to a file lead to its page, or be text where it has none."""
    for link in list(tree.findall(nodes.reference)):
        target = link.get("refuri", "")
        if not target or link.get("internal") or _ELSEWHERE.match(target):
            continue
        name, _, anchor = target.partition("#")
        path = (_source(link, app, page).parent / name).resolve()
        to = _page(app, path)
        if to is not None:
            if anchor and anchor not in app.env.get_doctree(to).ids:
                _logger.warning("link to %s: no such anchor", target, location=link)
            link["refuri"] = app.builder.get_relative_uri(page, to) + (anchor and f"#{anchor}")
            link["internal"] = True
        else:
            if not path.exists():
                _logger.warning("link to %s: no such file", target, location=link)
            link.replace_self(nodes.literal("", link.astext()))


def _source(link: nodes.Node, app: Sphinx, page: str) -> Path:
    """The file that a link is written in: the page's own, or one that it includes."""
    node: nodes.Node | None = link
    while node is not None and not node.source:
        node = node.parent
    if node is not None and node.source and Path(node.source).suffix == ".rst":
        return Path(os.path.abspath(node.source))
    return Path(app.env.doc2path(page))


def _page(app: Sphinx, path: Path) -> str | None:
    """The page that is made of a file; None: there is none."""
    source = Path(app.srcdir)
    if path.parent == source.parent and path.name in _INCLUDED:
        return _INCLUDED[path.name]
    try:
        name = path.relative_to(source).with_suffix("").as_posix()
    except ValueError:
        return None
    return name if path.suffix == ".rst" and name in app.env.found_docs else None

"""Where apihour is installed from: in this environment, or as ``--apihour`` chooses.

An application must get the same apihour as the one that made it, from where that came: a checkout,
a wheel, a version (PEP 610 keeps the record).
"""

from __future__ import annotations

import json
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from apihour.errors import ConfigurationError
from apihour.version import __version__

__all__ = ["chosen", "installed_from"]

_VERSION = re.compile(r"\d+(\.\w+)*([+-][\w.]+)?")  # the public index refuses a wrong one
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+")  # without spaces, in ASCII (RFC 3986)
_ARCHIVES = (".whl", ".tar.gz", ".zip")
_EXPECTED = ("expected a version, a wheel or a checkout that exists, or the URL of one "
             "(https://…, git+https://…)")


def chosen(text: str) -> str:
    """What comes after the name in a requirement (PEP 508), for a version, path or URL.

    Raises ConfigurationError for what is none of them.
    """
    path = Path(text).expanduser()
    if _URL.fullmatch(text):
        return f"@ {text}"
    if (text and _is_checkout(path)) or (path.is_file() and text.endswith(_ARCHIVES)):
        return f"@ {path.resolve().as_uri()}"
    if _VERSION.fullmatch(text):
        return f"=={text}"
    raise ConfigurationError(f"--apihour {text!r}: {_EXPECTED}")


def installed_from(root: Path | None = None, found: Distribution | None = None) -> str:
    """The same for this very apihour.

    `root` is the directory that holds the package, `found` its metadata; both are looked up.
    Raises ConfigurationError when what it was installed from is not there any more.
    """
    root = root or Path(__file__).resolve().parents[3]
    if _is_checkout(root):
        return f"@ {root.as_uri()}"
    try:
        record = (found or distribution("apihour")).read_text("direct_url.json")
    except PackageNotFoundError:
        record = None
    return _of_record(json.loads(record)) if record else f"=={__version__}"


def _of_record(record: dict[str, Any]) -> str:
    url = str(record["url"])
    repository = record.get("vcs_info")
    if repository:
        url = f"{repository['vcs']}+{url}@{repository['commit_id']}"
    parts = urlsplit(url)
    if parts.scheme == "file" and not Path(url2pathname(parts.path)).exists():
        raise ConfigurationError(
            f"apihour was installed from {url}, which is not there any more; say with --apihour "
            f"where it comes from: {_EXPECTED}")
    return f"@ {url}"


def _is_checkout(path: Path) -> bool:
    """Whether `path` is a source tree of apihour, not whatever else has a setup.cfg."""
    return (path / "setup.cfg").is_file() and (path / "apihour" / "version.py").is_file()

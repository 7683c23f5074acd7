"""All Python of the documents: whole files are imported and checked, tests in them run."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from apihour.cli.main import main
from apihour.config.verdicts import REFUSED
from tests.docs.blocks import ROOT, Block, blocks, documents

PAGES = [page for page in documents() if any(one.language == "python" for one in blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page(page: Path, tmp_path: Path) -> None:
    found = [one for one in blocks(page) if one.name or one.language == "python"]
    fault = in_a_child(lambda: try_all(found, tmp_path))
    if fault:
        pytest.fail(fault, pytrace=False)
    for test in sorted(tmp_path.rglob("test_*.py")):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test.name],
            cwd=test.parent, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr


def try_all(found: list[Block], directory: Path) -> None:
    """Write the files of a page in their order, and try each piece of Python when it is there."""
    os.chdir(directory)
    os.environ["DATABASE_URL"] = "postgresql://shop@127.0.0.1/shop"  # which nobody connects to
    # docs/plugins.rst speaks of a package that is installed, docs/grpc.rst of generated code.
    sys.path[:0] = [str(directory), str(ROOT / "examples" / "plugin" / "src"),
                    str(ROOT / "examples" / "grpc")]
    for block in found:
        try:
            try_one(block, directory)
        except BaseException as error:
            raise RuntimeError(block.place) from error


def try_one(block: Block, directory: Path) -> None:
    if block.name:
        path = directory / block.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
    if block.language != "python":
        return
    if block.name and block.name.rpartition("/")[2].startswith("test_"):
        assert block.tree  # it runs when all files of the page are there
    elif block.name and "/" not in block.name:
        module = block.name.removesuffix(".py")
        sys.modules.pop(module, None)
        importlib.invalidate_caches()
        if block.target:
            check(f"{module}:{block.target}")
        else:
            importlib.import_module(module)
    elif block.is_whole and block.target:
        (directory / "example.py").write_text(block.text)
        sys.modules.pop("example", None)
        importlib.invalidate_caches()
        check(f"example:{block.target}")
    elif block.is_whole:
        exec(compile(block.tree, block.place, "exec"), {"__name__": "example"})


def check(target: str) -> None:
    """``apihour check`` of it, on addresses that the system chooses."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        status = main(["check", target, "--no-console"])
    assert status == 0, told.getvalue()


def test_each_refused_setting_of_gunicorn_has_what_to_do_instead() -> None:
    text = (ROOT / "docs" / "howto" / "from-gunicorn.rst").read_text()
    assert [name for name in REFUSED if f"``{name}``" not in text] == []


def in_a_child(work) -> str:
    """Run it in a fork of this process, whose imports are paid; returns the traceback, or ''."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        text = ""
        try:
            work()
        except BaseException:
            text = traceback.format_exc()
        finally:
            with open(writing, "w") as pipe:
                pipe.write(text)
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text

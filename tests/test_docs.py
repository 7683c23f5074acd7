"""The documents that are made from code are current."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parent.parent


def test_the_list_of_options_is_current() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_options.py")], capture_output=True, text=True,
        timeout=60)
    assert made.returncode == 0, made.stderr
    assert (ROOT / "docs" / "options.rst").read_text() == made.stdout, (
        "run: python docs/make_options.py > docs/options.rst")


def test_the_list_of_commands_is_current() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["make"]()
    is_current = made == (ROOT / "docs" / "reference" / "commands.rst").read_text()
    assert is_current, "run: python docs/make_commands.py > docs/reference/commands.rst"


def test_the_list_of_metrics_is_current() -> None:
    names = set(runpy.run_path(str(ROOT / "docs" / "make_metrics.py"))["scraped"]())
    page = (ROOT / "docs" / "reference" / "metrics.rst").read_text()
    listed = set(re.findall(r"^   \* - ``(apihour_\w+)``$", page, re.MULTILINE))
    assert names == listed, "run: python docs/make_metrics.py > docs/reference/metrics.rst"


def test_the_picture_of_the_rooms_is_current() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_rooms.py"))
    is_current = made["as_svg"](made["rooms"]()) == (ROOT / "docs" / "rooms.svg").read_text()
    assert is_current, "imports have changed; run: python docs/make_rooms.py"


def test_each_room_says_what_it_may_import_and_imports_no_more() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_rooms.py"))
    rooms = made["rooms"]()
    for tower in (made["CORE"][:-1], made["CONSOLE"][1:]):
        package = tower[0].partition(".")[0]
        names = [name.rpartition(".")[2] for name in tower]
        home = ROOT / ("" if package == "apihour" else "protocols") / package
        assert {path.parent.name for path in home.glob("*/__init__.py")} == set(names)
        for place, name in enumerate(names):
            says = (home / name / "__init__.py").read_text()
            may = re.search(r"[Mm]ay import from (?:(every room) below|(\w+)(?: and \w+)? down)"
                            r"|[Ii]mports (?:nothing of the other rooms|the contract only)", says)
            assert may is not None, f"{package}.{name}: expected what it may import"
            below = (names[place + 1:] if may[1] else names[names.index(may[2]):] if may[2] else [])
            imported = {one.rpartition(".")[2] for one in rooms[tower[place]].imports
                        if one in tower}
            assert name not in below and imported <= set(below), f"{package}.{name}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/**/*.svg")), ids=lambda path: path.name)
def test_a_picture_is_one_for_browsers(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not root.findall(".//{*}script")


DOCUMENTS = sorted([*ROOT.glob("*.rst"), *ROOT.glob("docs/**/*.rst")])
_SOURCE = re.compile(
    r"\b(?:apihour|protocols|tests|benchmarks|docs|examples)/[\w/.-]*\.(?:py|rst)\b")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_source_files_that_a_document_names_exist(path: Path) -> None:
    named = _SOURCE.findall(path.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []

"""What ``apihour explain`` tells is the documentation's, of each error that points to it."""

from __future__ import annotations

import importlib.util
from importlib.resources import files

import pytest

import apihour.errors as errors
from apihour.cli.main import main
from tests.docs.blocks import ROOT

NAMES = [name for name in errors.__all__ if name.endswith("Error") and name != "ApihourError"]


def test_the_text_is_the_pages() -> None:
    spec = importlib.util.spec_from_file_location("make_errors", ROOT / "docs" / "make_errors.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    text = files("apihour.cli").joinpath("errors.txt").read_text()
    assert text == made.make(), "python docs/make_errors.py > apihour/cli/errors.txt"
    page = (ROOT / "docs" / "reference" / "errors.rst").read_text()
    assert text.count("\n    ") >= page.count("\n   * - ") - page.count("* - Message") - 1


@pytest.mark.parametrize("name", NAMES)
def test_each_error_is_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", name]) == 0
    out, err = capsys.readouterr()
    assert name in out and "\n    " in out and not err
    page = (ROOT / "docs" / "reference" / "errors.rst").read_text()
    assert f"\n.. _{name}:\n" in page  # the anchor


def test_alone_it_lists_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    assert "AddressError, BindError: where it listens\n" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["NoError"], ["BindError", "x"], ["While"], [""], ["--x"]])
def test_another_name_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *words]) == 2
    out, err = capsys.readouterr()
    assert not out and "expected one of UsageError, TargetError" in err and err.count("\n") == 1


def test_a_message_points_to_what_explains_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere_at_all:Container"]) == 1
    assert capsys.readouterr().err.endswith(" (apihour explain TargetError)\n")


def test_one_of_another_package_does_not() -> None:
    class TheirError(errors.ConfigurationError):
        pass

    assert TheirError("no").told() == "no" == errors.ApihourError("no").told()

"""The tree of exceptions."""

from __future__ import annotations

import inspect

import pytest

from apihour import errors
from apihour.errors import (
    AddressError,
    ApihourError,
    ConfigurationError,
    RevisionError,
    UsageError,
    one_line,
)


def test_every_exception_is_named_and_in_the_tree_of_the_docstring() -> None:
    classes = {
        name: item for name, item in vars(errors).items()
        if inspect.isclass(item) and item.__module__ == errors.__name__
    }
    assert sorted(classes) == sorted({*errors.__all__} - {"one_line"})
    for name, item in classes.items():
        assert issubclass(item, ApihourError)
        assert f" {name} " in f" {errors.__doc__} ".replace("\n", " \n "), name
        assert item.__doc__


def test_exit_statuses() -> None:
    assert ApihourError.exit_status == 1
    assert UsageError.exit_status == 2


def test_a_revision_error_carries_its_facts() -> None:
    error = RevisionError("k", 3, 0)
    assert (error.key, error.expected, error.actual) == ("k", 3, 0)
    assert str(error) == "key 'k': expected revision 3, found 0"
    with pytest.raises(ApihourError):
        raise error


@pytest.mark.parametrize(("given", "shown"), [
    ("plain", "plain"), ("é 世 🙂", "é 世 🙂"), ("two\nlines\tand", "two lines and"),
    ("\x1b[31mred\x07", "\\x1b[31mred\\x07"), ("\udcff", "\\udcff"), ("\x9b31m", "\\x9b31m"),
    ("\u202etxt", "\\u202etxt"),
])
def test_nothing_of_a_message_steers_a_terminal(given: str, shown: str) -> None:
    assert str(ConfigurationError(given)) == shown == one_line(given)


def test_a_long_value_is_cut_in_the_middle() -> None:
    text = str(AddressError("x" * 100_000, "HOST:PORT"))
    assert len(text) < 1500
    assert text.startswith("bind address 'xxx")
    assert text.endswith("xxx': expected HOST:PORT")


def test_what_was_raised_is_kept_whole() -> None:
    error = AddressError("x" * 5000, "HOST:PORT")
    assert len(str(error.text)) == 5000
    assert len(error.args[0]) > 5000
    assert str(ApihourError()) == ""

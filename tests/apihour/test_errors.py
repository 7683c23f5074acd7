"""The tree of exceptions."""

from __future__ import annotations

import inspect

import pytest

from apihour import errors
from apihour.errors import ApihourError, RevisionError, UsageError


def test_every_exception_is_named_and_in_the_tree_of_the_docstring() -> None:
    classes = {
        name: item for name, item in vars(errors).items()
        if inspect.isclass(item) and item.__module__ == errors.__name__
    }
    assert sorted(classes) == sorted(errors.__all__)
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

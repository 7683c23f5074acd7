"""Whose code a frame is follows from where files lie: these fail when they move."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil

import pytest

import apihour
from apihour.blame import is_user_code
from apihour.ops.stacks import Place, place_of

OURS = ["apihour", "apihour_http", "apihour_console", "apihour_ssh", "apihour_tcp", "apihour_asgi"]


@pytest.mark.parametrize("root", OURS)
def test_no_module_of_ours_is_the_users(root: str) -> None:
    package = importlib.import_module(root)
    packages = [root, *(one.name for one in pkgutil.walk_packages(package.__path__, f"{root}.")
                        if one.ispkg)]
    for name in packages:
        for folder in importlib.import_module(name).__path__:
            assert not is_user_code(f"{folder}/some_module.py")
            assert place_of([Place(f"{folder}/some_module.py", 1, "x"),
                             Place("/srv/shop/orders.py", 2, "y")]) == Place(
                                 "/srv/shop/orders.py", 2, "y")


def test_every_room_is_walked() -> None:
    found = {one.name for one in pkgutil.iter_modules(apihour.__path__) if one.ispkg}
    assert {"arbiter", "worker", "ops", "ipc", "bind"} <= found


def test_libraries_are_not_the_users() -> None:
    for path in (asyncio.__file__, pytest.__file__, "<frozen importlib._bootstrap>", "<string>",
                 "/usr/lib/python3/dist-packages/yaml/__init__.py", "uvloop/loop.pyx"):
        assert not is_user_code(path)


def test_an_application_is_the_users_wherever_it_lies() -> None:
    assert is_user_code(__file__)
    for path in ("/srv/apihour/shop.py", "/srv/protocols/shop.py", "/home/ann/apihour_shop/x.py"):
        assert is_user_code(path)


def test_without_the_users_code_the_innermost_is_named() -> None:
    stack = [Place(asyncio.__file__, 1, "x"), Place(apihour.__file__, 2, "y")]
    assert place_of(stack) == stack[0]
    assert place_of([]) is None

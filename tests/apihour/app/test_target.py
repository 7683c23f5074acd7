"""From ``module:name`` to a container class, and whose fault a failure is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apihour.app.container import Container
from apihour.app.hooks import call_hook
from apihour.app.target import load_target
from apihour.blame import blame, blame_frames, user_traceback
from apihour.errors import ApihourError, TargetError
from apihour.plugins import Registry

_numbers = itertools.count()

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module under a name nobody imported yet; returns that name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> str:
        name = f"target_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def refusal(target: str) -> str:
    with pytest.raises(TargetError) as caught:
        load_target(target)
    message = str(caught.value)
    assert "\n" not in message
    assert repr(target) in message
    return message


def test_a_container(write: Write) -> None:
    name = write("import apihour\nclass Container(apihour.Container): pass\n")
    found = load_target(name)
    assert issubclass(found, Container)
    assert found.__module__ == name


def test_a_nested_name(write: Write) -> None:
    name = write("import apihour\nclass A:\n    class B(apihour.Container): pass\n")
    assert load_target(f"{name}:A.B").__qualname__ == "A.B"


async def test_a_bare_application_is_wrapped(write: Write) -> None:
    name = write("async def app(scope, receive, send): pass\n")
    cls = load_target(f"{name}:app")
    container: Any = cls()
    assert list(container.make_servers()) == ["http"]
    assert container.make_servers()["http"].__module__ == name
    assert not cls.binds


@pytest.mark.parametrize(("text", "what"), [
    ("class it: pass", "the class it, which is no container"),
    ("class it:\n    def make_servers(self): return {}", "the class it, which is no container"),
    ("it = 5", "an object of type int"),
    ("class C:\n    def make_servers(self): return {}\nit = C()", "an object of type C"),
])
def test_what_nothing_serves(text: str, what: str, write: Write) -> None:
    said = refusal(f"{write(text)}:it")
    assert f": {what}; expected a subclass of apihour.Container, or an application" in said
    assert "http" in said


async def test_a_plugin_that_cannot_be_loaded_might_have_served_it(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write("it = 5")
    registry = Registry()
    registry.unusable["five"] = "five:plugin cannot be loaded"
    monkeypatch.setattr(Registry, "from_entry_points", lambda: registry)
    container: Any = load_target(f"{name}:it")()
    assert container.make_servers() == {"http": 5}


@pytest.mark.parametrize("text", [
    "def it(): pass", "it = lambda: None", "def it(debug=False, *a, **k) -> 'Missing': pass",
    "def it() -> int: pass",
])
def test_a_function_that_may_make_anything_is_refused(text: str, write: Write) -> None:
    assert "() is a function without arguments, which may make an application or a protocol; " \
        "expected the application itself, " in refusal(f"{write(text)}:it")


@pytest.mark.parametrize("text", [
    "def it() -> asyncio.Protocol: return asyncio.Protocol()",
    "def it() -> 'asyncio.DatagramProtocol': return asyncio.DatagramProtocol()",
    "async def it(reader, writer): pass",
    "it = asyncio.Protocol",
    "import functools\nit = functools.partial(asyncio.Protocol)",
])
def test_a_protocol_is_served_whatever_makes_it(text: str, write: Write) -> None:
    name = write(f"import asyncio\n{text}\n")
    assert load_target(f"{name}:it").__name__ == "Bare"


def test_a_function_that_a_plugin_knows_by_more_than_its_shape(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Marked:
        name, describes = "marked", "marked functions"

        def accepts(self, obj: object, kind: str) -> bool:
            return hasattr(obj, "mark")

        def adapt(self, obj: Any, kind: str) -> Any:
            return obj

    monkeypatch.setattr(Registry, "from_entry_points", lambda: Registry([Marked()]))
    name = write("def it(): pass\nit.mark = 1\n")
    assert load_target(f"{name}:it").__name__ == "Bare"


def test_no_such_module() -> None:
    assert "no module named 'nowhere_at_all'" in refusal("nowhere_at_all:Container")


def test_a_module_that_misses_another_is_another_fault(write: Write) -> None:
    name = write("x = 1\nimport nowhere_at_all\n")
    message = refusal(f"{name}:Container")
    assert f"{name}.py:2: import nowhere_at_all: ModuleNotFoundError" in message


def test_no_such_name_lists_what_there_is(write: Write) -> None:
    name = write("alpha = 1\n_hidden = 2\n")
    message = refusal(f"{name}:Container")
    assert "has no 'Container'; it has alpha" in message
    assert f"{name}.py" in message


def test_a_syntax_error_has_file_line_and_text(write: Write) -> None:
    name = write("x = 1\ndef broken(:\n")
    assert f"{name}.py:2: SyntaxError" in refusal(name)
    assert "def broken(:" in refusal(name)


@pytest.mark.parametrize("statement", ["1 / 0", "raise SystemExit(3)", "import sys; sys.exit()"])
def test_a_failing_import_has_file_line_and_text(write: Write, statement: str) -> None:
    name = write(f"x = 1\n\n{statement}\n")
    assert f"{name}.py:3: {statement}: " in refusal(name)


def test_blame_prefers_the_users_frame_over_libraries(write: Write) -> None:
    name = write("import json\nx = json.loads('{')\n")
    assert f"{name}.py:2: x = json.loads('{{'): json.decoder.JSONDecodeError" in refusal(name)


def test_the_place_of_frames_is_the_users_innermost() -> None:
    assert blame_frames([]) == ""
    assert blame_frames([("<frozen runpy>", 1)]) == ""
    own = blame_frames([(os.__file__, 1), (__file__, 1), (os.__file__, 2), ("<frozen x>", 1)])
    assert own.startswith(f"{__file__}:1: ")
    assert blame_frames([(os.__file__, 1)]).startswith(f"{os.__file__}:1: ")
    assert blame_frames([("/gone/app.py", 3)]) == "/gone/app.py:3"


def test_the_users_traceback_begins_with_the_users_first_frame(write: Write) -> None:
    inner = write("def broken():\n    return json.loads('nonsense')\nimport json\nbroken()\n")
    outer = write(f"import {inner}\n")
    with pytest.raises(TargetError) as caught:
        load_target(f"{outer}:X")
    lines = user_traceback(caught.value).splitlines()
    files = [line.split('"')[1] for line in lines if line.startswith("  File ")]
    assert [Path(file).stem for file in files[:3]] == [outer, inner, inner]
    assert files[-1].endswith("json/decoder.py")  # where it ends is told as well
    assert "import_module" not in "".join(lines)
    assert "apihour" not in "".join(Path(file).parts[-2] for file in files)
    assert lines.count("Traceback (most recent call last):") == 1
    assert lines[-1].startswith("json.decoder.JSONDecodeError: ")


def test_the_users_traceback_of_a_chain_and_of_a_group(write: Write) -> None:
    name = write("try:\n    1 / 0\nexcept ZeroDivisionError as error:\n"
                 "    raise ExceptionGroup('all', [KeyError('k')]) from error\n")
    with pytest.raises(TargetError) as caught:
        load_target(f"{name}:X")
    text = user_traceback(caught.value)
    assert "line 2" in text and "line 4" in text and "KeyError: 'k'" in text
    assert "targets.py" not in text


def test_the_users_traceback_of_a_syntax_error_is_its_place(write: Write) -> None:
    name = write("def broken(:\n")
    with pytest.raises(TargetError) as caught:
        load_target(f"{name}:X")
    lines = user_traceback(caught.value).splitlines()
    assert lines[0].endswith(f'{name}.py", line 1')
    assert lines[-1] == "SyntaxError: invalid syntax"


def test_no_traceback_of_the_users_where_the_line_says_it_all() -> None:
    with pytest.raises(TargetError) as caught:
        load_target("no_such_module_here:X")
    assert user_traceback(caught.value) == ""
    assert "KeyError: 'ours'" in user_traceback(KeyError("ours"))


def test_blame_without_a_traceback() -> None:
    assert blame(ValueError("no")) == "ValueError: no"


def test_blame_is_one_line_and_leaves_notes_out(write: Write) -> None:
    name = write("error = ValueError('one\\ntwo')\nerror.add_note('aside')\nraise error\n")
    assert refusal(name).endswith(": raise error: ValueError: one two")


@pytest.mark.parametrize(("text", "target", "factory"), [
    ("async def make():\n    return app\n", "make", False),
    ("async def make(debug=False):\n    return app\n", "make", True),
    ("def make():\n    return app\n", "make", True),
    ("def make(debug=False):\n    return app\n", "make()", False),
    ("class make:\n    def __new__(cls): return app\n", "make", True),
])
async def test_a_factory_makes_the_application_in_each_worker(
    text: str, target: str, factory: bool, write: Write
) -> None:
    name = write("async def app(scope, receive, send): pass\n" + text)
    cls = load_target(f"{name}:{target}", factory)
    made = await call_hook(cls(), "make_servers")
    assert list(made) == ["http"]
    assert made["http"].__name__ == "app"


@pytest.mark.parametrize(("text", "message"), [
    ("def it(config): pass", "<function it at"), ("it = 5", "5"),
    ("import apihour\nclass it(apihour.Container): pass", "a container, which needs none"),
])
def test_what_is_no_factory(text: str, message: str, write: Write) -> None:
    name = write(text + "\n")
    with pytest.raises(TargetError) as caught:
        load_target(f"{name}:it", True)
    assert str(caught.value).startswith(f"target '{name}:it' with --factory: {message}")
    assert str(caught.value).endswith(
        "expected a function without arguments that makes the application")


@pytest.mark.parametrize(("text", "message"), [
    ("async def it(): pass", "it() made None; expected an application"),
    ("async def it(): return int", "it() made <class 'int'>; expected an application"),
    ("async def it(): 1 / 0", "it: make_servers() failed: "),
])
async def test_a_factory_that_makes_no_application(
    text: str, message: str, write: Write
) -> None:
    cls = load_target(f"{write(text)}:it")
    with pytest.raises(ApihourError) as caught:
        await call_hook(cls(), "make_servers")
    assert message in str(caught.value)


def test_a_container_instead_of_its_class(write: Write) -> None:
    name = write("import apihour\nclass C(apihour.Container): pass\nit = C(loop=5)\n")
    assert refusal(f"{name}:it").endswith("an instance of C; expected the class: C")

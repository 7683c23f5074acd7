"""The language of the template, and that cookiecutter makes the same of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from apihour.cli.new.language import render, render_tree
from apihour.cli.new.making import PARTS
from apihour.version import __version__

STARTER = Path(__file__).parents[4] / "apihour" / "starter"
CONTEXT = {"name": "shop", "yes": True, "no": False}


@pytest.mark.parametrize(("text", "expected"), [
    ("a {{cookiecutter.name}} b {{ cookiecutter.name }}", "a shop b shop"),
    ("a\n{% if cookiecutter.yes %}\nb\n{% endif %}\nc\n", "a\nb\nc\n"),
    ("a\n  {% if cookiecutter.no %}\nb\n  {% endif %}\nc\n", "a\nc\n"),
    ("[{% if cookiecutter.no %}a{% endif %}b]", "[b]"),
    ("{% if cookiecutter.no or cookiecutter.yes %}a{% endif %}", "a"),
    ("{% if cookiecutter.no or cookiecutter.no %}a{% endif %}", ""),
    ("{% if cookiecutter.no %}a{% if cookiecutter.yes %}b{% endif %}c{% endif %}d", "d"),
    ("{% if cookiecutter.yes %}a{% if cookiecutter.no %}b{% endif %}c{% endif %}d", "acd"),
    ("{'a': {}, 'b': \"%d\"}\n", "{'a': {}, 'b': \"%d\"}\n"),
])
def test_what_is_rendered(text: str, expected: str) -> None:
    jinja2 = pytest.importorskip("jinja2")
    assert render(text, CONTEXT) == expected
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    assert environment.from_string(text).render(cookiecutter=CONTEXT) == expected


@pytest.mark.parametrize(("text", "told"), [
    ("{{ cookiecutter.nmae }}", "'cookiecutter.nmae': expected one of cookiecutter.name, "),
    ("{{ name }}", "'name': expected one of"),
    ("{% if cookiecutter.yse %}{% endif %}", "'cookiecutter.yse': expected one of"),
    ("{% if cookiecutter.yes %}", "1 endif missing"),
    ("{% endif %}", "'{% endif %}': expected if, or the endif of one"),
    ("{% else %}", "'{% else %}': expected if"),
    ("{# a comment #}", "'{#': expected one of"),
])
def test_what_the_language_has_not_is_named(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"expected|missing") as error:
        render(text, CONTEXT)
    assert told in str(error.value)


def test_a_file_without_a_name_is_not_made(tmp_path: Path) -> None:
    directory = tmp_path / "{{cookiecutter.name}}"
    directory.mkdir()
    for condition, name in (("no", "a.py"), ("yes", "b.py")):
        name = f"{{% if cookiecutter.{condition} %}}{name}{{% endif %}}"
        (directory / name).write_text("1\n")
    assert list(render_tree(tmp_path, CONTEXT)) == [("shop/b.py", "1\n")]


@pytest.mark.parametrize("parts", [
    parts for count in range(len(PARTS) + 1) for parts in itertools.combinations(PARTS, count)],
    ids=",".join)
def test_cookiecutter_makes_the_same(parts: tuple[str, ...], tmp_path: Path) -> None:
    main = pytest.importorskip("cookiecutter.main")
    context: dict[str, Any] = {
        "name": "shop", "python": "3.13", "apihour": "@ file:///srv/a%20b",
        **{part: part in parts for part in PARTS}}
    made = Path(main.cookiecutter(
        str(STARTER), no_input=True, default_config=True, output_dir=str(tmp_path),
        extra_context={key: "yes" if value is True else "no" if value is False else value
                       for key, value in context.items()}))
    expected = {str(path.relative_to(made)): path.read_text()
                for path in made.rglob("*") if path.is_file()}
    ours = dict(render_tree(STARTER / "{{cookiecutter.name}}", {**context, "_py": ".py"}))
    assert ours == expected


def test_cookiecutter_asks_for_the_same_and_this_version() -> None:
    asked = json.loads((STARTER / "cookiecutter.json").read_text())
    assert {name for name, value in asked.items() if isinstance(value, bool)} == set(PARTS)
    assert set(asked["__prompts__"]) == {name for name in asked if not name.startswith("_")}
    assert asked["apihour"] == f"=={__version__}"

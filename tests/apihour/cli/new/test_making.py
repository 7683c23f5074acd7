"""``apihour new``: what it makes, and what it refuses before it has made anything."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from apihour.cli.main import main
from apihour.cli.new import making

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def texts(path: Path) -> dict[str, str]:
    return {str(one.relative_to(path)): one.read_text() for one in path.rglob("*")
            if one.is_file()}


def test_it_makes_an_application(directory: Path, capsys: Captured) -> None:
    assert main(["new", "shop"]) == 0
    assert capsys.readouterr().out.endswith("; now:\n\n  cd shop\n  make run\n  make test\n")
    made = texts(directory / "shop")
    assert {"Makefile", "README.md", "Dockerfile", "requirements.txt", "shop/container.py",
            "shop/endpoints/http.py", "shop/services/greetings.py", "shop/engines/__init__.py",
            "etc/shop/main/main.yaml", "deploy/shop.service", "deploy/shop-http.socket",
            "tests/test_http.py", ".gitignore", ".github/workflows/ci.yml"} <= set(made)
    assert not [name for name in made if "ssh" in name or "tcp" in name or "asgi" in name]
    for name, text in made.items():
        assert "{%" not in text and "cookiecutter" not in text, name
        if name.endswith(".py"):
            compile(text, name, "exec")
    tomllib.loads(made["pyproject.toml"])
    assert yaml.safe_load(made["etc/shop/main/main.yaml"]) == {"greeting": "Hello"}
    assert yaml.safe_load(made[".github/workflows/ci.yml"])["jobs"]["test"]["steps"]
    for name in ("site.yml", "roles/shop/tasks/main.yml", "roles/shop/handlers/main.yml"):
        assert yaml.safe_load(made[f"packaging/ansible/{name}"])[0]["name"], name
    assert list(directory.iterdir()) == [directory / "shop"]


def test_its_directory_has_the_mode_that_others_have(directory: Path) -> None:
    assert main(["new", "shop"]) == 0
    (directory / "other").mkdir()
    assert (directory / "shop").stat().st_mode == (directory / "other").stat().st_mode


def test_parts_are_chosen(directory: Path) -> None:
    assert main(["new", "shop", "--with", "ssh,tcp", "--directory", "its place"]) == 0
    made = texts(directory / "its place")
    assert "shop/endpoints/ssh.py" in made and "shop/endpoints/tcp.py" in made
    assert "HTTP" not in made["shop/container.py"]
    assert "ExecStart=/srv/shop/.venv/bin/apihour shop:Container" in made["deploy/shop.service"]


def test_apihour_is_chosen(directory: Path) -> None:
    assert main(["new", "shop", "--apihour", "2.0", "--with", "http,asgi,pg"]) == 0
    needed = (directory / "shop/requirements.txt").read_text()
    assert "\napihour[standard,asgi,pg] ==2.0\n" in needed


@pytest.mark.parametrize(("words", "status", "told"), [
    ([""], 1, "'': expected the name of a Python package"),
    (["."], 1, "'.': expected the name of a Python package"),
    (["9x"], 1, "'9x': expected the name of a Python package"),
    (["My-Shop"], 1, "'My-Shop': expected the name of a Python package"),
    (["../up"], 1, "'../up': expected the name of a Python package"),
    (["class"], 1, "'class' is a word of Python itself; expected another name"),
    ([""], 1, "'': expected the name of a Python package"),
    (["root"], 1, "'root' is nobody to serve as"),
    (["x" * 33], 1, "expected the name of a Python package: up to 32"),
    (["json"], 1, "'json' is the name of another package already"),
    (["aiohttp"], 1, "'aiohttp' is the name of another package already"),
    (["pytest"], 1, "'pytest' is the name of another package already"),
    (["tests"], 1, "'tests' is a directory that it has beside its package"),
    (["packaging"], 1, "'packaging' is a directory that it has beside its package"),
    (["wheels"], 1, "'wheels' is a directory that it has beside its package"),
    (["shop", "--with", "http,smtp"], 2, "'smtp': expected some of http, asgi, ssh, tcp, pg"),
    (["shop", "--with", ""], 2, "--with '': expected some of"),
    (["shop", "--apihour", "newest"], 1, "--apihour 'newest': expected a version"),
    (["shop", "--without", "http"], 2, "unrecognized arguments: --without http"),
    (["shop", "again"], 2, "unrecognized arguments: again"),
    ([], 2, "the following arguments are required: NAME"),
    (["shop", "--directory", "no/where"], 1, "'no/where': expected an existing directory to make"),
    (["shop", "--directory", "/proc/shop"], 1, "'/proc/shop' cannot be made: "),
])
def test_what_is_refused_leaves_nothing(
    words: list[str], status: int, told: str, directory: Path, capsys: Captured
) -> None:
    assert main(["new", *words]) == status
    out, err = capsys.readouterr()
    assert told in err and err.startswith("apihour: error: ") and err.count("\n") == 1
    assert not out and not list(directory.iterdir())


@pytest.mark.parametrize("kind", ["directory", "file", "dangling link"])
def test_what_exists_is_left_alone(kind: str, directory: Path, capsys: Captured) -> None:
    place = directory / "shop"
    {"directory": place.mkdir, "file": place.touch,
     "dangling link": lambda: place.symlink_to("nowhere")}[kind]()
    assert main(["new", "shop"]) == 1
    assert "'shop' exists; expected a name that is free" in capsys.readouterr().err
    assert list(directory.iterdir()) == [place]


def test_a_disk_that_is_full_in_the_middle_leaves_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def full(*given: object) -> Iterator[tuple[str, str]]:
        yield "Makefile", "run:\n"
        raise OSError(28, "No space left on device", "shop/README.md")

    monkeypatch.setattr(making, "render_tree", full)
    assert main(["new", "shop"]) == 1
    assert capsys.readouterr().err == (
        "apihour: error: 'shop' cannot be made: shop/README.md: No space left on device "
        "(apihour explain ConfigurationError)\n")
    assert not list(directory.iterdir())


def test_control_c_leaves_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: object) -> Iterator[tuple[str, str]]:
        yield "Makefile", "run:\n"
        raise KeyboardInterrupt

    monkeypatch.setattr(making, "render_tree", interrupted)
    assert main(["new", "shop"]) == 130
    assert not list(directory.iterdir())

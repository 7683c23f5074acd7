"""The wheel and the source archive, and the command outside the checkout."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = sorted(
    str(path.parent.relative_to(root)) for root in (ROOT, ROOT / "protocols")
    for path in root.glob("apihour*/**/__init__.py")
)
TOP = [name for name in PACKAGES if "/" not in name]

APPLICATION = """
import asyncio
import apihour

class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:0"}
    def make_servers(self):
        return {"echo": asyncio.Protocol}
"""


def run(*words: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, timeout=100,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **environment},
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git has: building must not touch the checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:  # a source archive, not a checkout
        pytest.skip("needs a git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, copy / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    # What a checkout in use has besides; none of it may be shipped.
    for name in ("keys/ssh_host_ed25519_key", "keys/authorized_keys",
                 "examples/http_and_ssh/keys/admin_ed25519"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("private")
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--no-index", "--wheel-dir", str(out), ".", cwd=checkout)
    (found,) = out.iterdir()
    return found


@pytest.fixture(scope="module")
def source(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    out = tmp_path_factory.mktemp("source")
    run(sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", str(out), cwd=checkout)
    (found,) = out.iterdir()
    with tarfile.open(found) as archive:
        yield {name.partition("/")[2] for name in archive.getnames()}


def test_the_wheel_holds_every_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    found = {name.rpartition("/")[0] for name in names if name.endswith("/__init__.py")}
    assert sorted(found) == PACKAGES
    tops = {name.split("/")[0] for name in names}
    assert tops - set(TOP) == {next(name for name in tops if name.endswith(".dist-info"))}
    assert not [name for name in names if "key" in name and not name.endswith(".py")]


def test_without_a_compiler_only_the_extension_is_missing(checkout: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "wheel"
    shutil.copytree(checkout, source, ignore=shutil.ignore_patterns("build"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--no-index", "--wheel-dir", str(out), ".", cwd=source, CC="/nonexistent/cc")
    (found,) = out.iterdir()
    with zipfile.ZipFile(found) as archive:
        names = archive.namelist()
    assert "apihour_http/speed/__init__.py" in names
    assert not [name for name in names if name.endswith(".so")]


def test_the_wheel_is_typed_and_licensed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("/METADATA"))).decode()
    for package in TOP:
        assert f"{package}/py.typed" in names
    assert any(re.search(r"dist-info/(licenses/)?LICENSE$", name) for name in names)
    assert "Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    required = [line for line in metadata.splitlines()
                if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert sorted(re.split(r"[<>=~ ]", line.partition(": ")[2])[0] for line in required) == [
        "aiodns", "aiohttp", "asyncssh", "gunicorn", "ujson"]


def test_the_command_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, which borrows the required packages of this one."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(run(str(python), "-c", "import site; print(site.getsitepackages()[0])",
                    cwd=tmp_path).strip())
    run(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps",
        "--no-index", str(wheel), cwd=tmp_path)
    (site / "borrowed.py").write_text(
        "import sys\n"
        f"sys.path += [p for p in {[p for p in sys.path if p.endswith('site-packages')]!r}]\n"
    )
    (site / "borrowed.pth").write_text("import borrowed\n")
    (tmp_path / "hello.py").write_text(APPLICATION)
    command = str(tmp_path / "venv" / "bin" / "apihour")
    where = run(str(python), "-c", "import apihour, apihour_tcp;"
                "print(apihour.__file__, apihour_tcp.__file__)", cwd=tmp_path)
    assert where.count(str(site)) == 2
    assert run(command, "--version", cwd=tmp_path).startswith("apihour ")
    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    plugins = declared["options.entry_points"]["apihour.protocols"].split("\n")
    assert len(run(command, "protocols", cwd=tmp_path).splitlines()) == len(plugins) - 1
    checked = run(command, "check", "hello:Container", "-w", "1", cwd=tmp_path)
    assert checked.split()[:6] == [
        "hello:Container:", "1", "worker", "echo", "tcp", "127.0.0.1:0"]


def test_the_source_archive_can_be_built_and_tested(source: set[str]) -> None:
    for needed in ("setup.py", "setup.cfg", "README.rst", "LICENSE", "Makefile", ".ci/run",
                   ".ci/ruff.toml", "keys/README.rst", "tests/test_packaging.py",
                   "tests/apihour/__init__.py", "protocols/apihour_tcp/py.typed",
                   "examples/all_in_one.py", "docs/rooms.svg", "CONTRIBUTING.rst", "SECURITY.rst",
                   ".ci/sizes"):
        assert needed in source, needed
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True)
    assert set(listed.stdout.split()) <= source


def test_the_source_archive_has_no_private_keys(source: set[str]) -> None:
    keys = {name for name in source if "keys/" in name and not name.endswith((".py", "/"))}
    assert keys == {"keys/README.rst", "keys/.gitignore"}


def test_the_template_of_new_applications_is_in_both(wheel: Path, source: set[str]) -> None:
    starter = {str(path.relative_to(ROOT)) for path in (ROOT / "apihour/starter").rglob("*")
               if path.is_file()}
    assert len(starter) > 30 and not [name for name in starter if name.endswith(".py")]
    assert starter <= source
    with zipfile.ZipFile(wheel) as archive:
        assert starter <= set(archive.namelist())


def test_the_license_is_apaches() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:300]


def test_the_top_level_is_the_agreed_one() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs a git checkout")
    assert {name.split("/")[0] for name in listed.stdout.splitlines()} <= {
        "apihour", "protocols", "examples", "tests", "keys", "setup.cfg", "setup.py",
        "README.rst", "LICENSE", "CHANGELOG.rst", "CONTRIBUTING.rst", "SECURITY.rst",
        "Makefile", ".ci", "docs", "benchmarks",
        ".gitignore",
    }


def test_no_committed_file_names_this_machine() -> None:
    listed = subprocess.run(
        ["git", "grep", "-lIE", r"/root/|BEGIN [A-Z ]*PRIVATE KEY"], cwd=ROOT,
        capture_output=True, text=True)
    allowed = {"tests/test_packaging.py"}
    assert set(listed.stdout.split()) <= allowed

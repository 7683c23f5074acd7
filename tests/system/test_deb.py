"""The Debian package of an application: built, installed, upgraded under load, refused, removed.

It is installed below a directory of the test's, by the real dpkg.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apihour.testing import Daemon, Load

pytestmark = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None or os.geteuid() != 0, reason="needs dpkg, and root for it")

_PLACES = sorted({str(Path(one).resolve()) for one in sys.path if one and Path(one).is_dir()})


def run(*words: object, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=100, **options)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new application, with a wheel that stands for what it needs: what is installed here."""
    directory = tmp_path_factory.mktemp("deb")
    run(sys.executable, "-m", "apihour", "new", "web_shop", "--with", "http,tcp", cwd=directory)
    project = directory / "web_shop"
    (project / "wheels").mkdir()
    with zipfile.ZipFile(project / "wheels" / "needed-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("sitecustomize.py", f"import sys\nsys.path += {_PLACES!r}\n")
        wheel.writestr("needed-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: needed\n"
                       "Version: 1\n")
        wheel.writestr("needed-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\n"
                       "Root-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("needed-1.dist-info/RECORD", "")
    return project


def build(project: Path, version: str, greeting: str) -> Path:
    """The package of that version, which greets so."""
    services = project / "web_shop" / "services" / "greetings.py"
    services.write_text(re.sub(r"return Greeting\(.*\)",
                               f'return Greeting(f"{greeting}, {{name}}!", seen)',
                               services.read_text()))
    run("make", "-C", project, "-o", f"{sys.prefix}/.installed", "-o", "wheels",
        f"VENV={sys.prefix}", "deb", f"VERSION={version}", "EXTRAS=init monit")
    (made,) = (project / "dist").glob(f"web-shop_{version}_*.deb")
    return made


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The root of a system where nothing is installed."""
    root = tmp_path / "system"
    for name in ("info", "updates", "triggers"):
        (root / "var/lib/dpkg" / name).mkdir(parents=True)
    for name in ("status", "available"):
        (root / "var/lib/dpkg" / name).touch()
    return root


@pytest.fixture
def dpkg(system: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(*words: object, runtime: object = "/nowhere",
             check: bool = True) -> subprocess.CompletedProcess[str]:
        return run("dpkg", f"--root={system}", "--force-script-chrootless", "--force-depends",
                   "--log=/dev/null", *words, check=check,
                   env={**os.environ, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
                        "APIHOUR_RUNTIME_DIR": str(runtime)})
    return call


@pytest.fixture
def start(system: Path) -> Iterator[Callable[[], Daemon]]:
    daemons: list[Daemon] = []

    def begin() -> Daemon:
        """The installed application, as its unit starts it."""
        daemon = Daemon(
            "web_shop:Container", "-b", "http=127.0.0.1:0", "-b", "tcp=127.0.0.1:0",
            command=(str(system / "usr/bin/web_shop"),), cwd=system / "usr/lib/web_shop",
            console=True, env={"DPKG_ROOT": str(system),
                               "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"})
        daemons.append(daemon)
        return daemon.start()

    yield begin
    for daemon in daemons:
        daemon.close()


def text(daemon: Daemon) -> str:
    with urllib.request.urlopen(f"http://{daemon.address('http')}/hello/you", timeout=30) as got:
        return str(json.load(got)["text"])


def see_init(system: Path, runtime: Path) -> None:
    """Start, reload and stop the installed application by its init script."""
    (system / "etc/default/web_shop").write_text(
        'DAEMON_OPTS="-b http=127.0.0.1:0 -b tcp=127.0.0.1:0 --health 127.0.0.1:0 --workers 1 '
        '--console 127.0.0.1:0"\n')

    def init(word: str, status: int = 0, **changed: str) -> str:
        done = run(system / "etc/init.d/web_shop", word, check=False, env={
            **os.environ, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
            "DPKG_ROOT": str(system), "APIHOUR_RUNTIME_DIR": str(runtime), **changed})
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert init("status", 3) == "web_shop is not running\n"
    init("reload", 7)
    assert "usage: " in init("begin", 2)
    try:
        init("start")
        pid = (system / "run/web_shop/web_shop.pid").read_text().strip()
        assert init("status") == f"web_shop is running, pid {pid}\n"
        init("start")  # it runs: as good as started
        init("reload")
        log = (system / "var/log/web_shop/web_shop.log").read_text()
        port = re.search(r"http=127\.0\.0\.1:(\d+)", log)
        assert port is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/hello/you", timeout=30) as got:
            assert json.load(got)["text"] == "Goodbye, you!"
    finally:
        init("stop")
    assert init("status", 3) == "web_shop is not running\n"
    assert not Path(f"/proc/{pid}").exists()
    init("stop")
    (system / "etc/default/web_shop").write_text('DAEMON_OPTS="--nonsense"\n')
    assert "unrecognized arguments: --nonsense" in init("start", 1)


def test_installed_upgraded_under_load_refused_and_removed(
    project: Path, system: Path, dpkg: Callable[..., subprocess.CompletedProcess[str]],
    start: Callable[[], Daemon],
) -> None:
    dpkg("-i", build(project, "1", "Hello"))
    assert (system / "etc/web_shop/main/main.yaml").is_file()
    daemon = start()
    assert text(daemon) == "Hello, you!"

    second = build(project, "2", "Goodbye")
    config = system / "etc/web_shop/main/main.yaml"
    config.write_text(config.read_text() + "# of this system\n")
    before = daemon.pid
    with Load("keep-alive", daemon.address("http"), path="/hello/you", think=0.01) as load:
        load.wait_answers(50)
        dpkg("-i", second, runtime=daemon.directory)
        daemon.wait(lambda: text(daemon) == "Goodbye, you!", "the new version")
        load.wait_answers(50)
    assert load.report.lost == 0, load.report
    assert daemon.pid != before
    assert config.read_text().endswith("# of this system\n")

    (project / "web_shop" / "engines" / "__init__.py").write_text("raise RuntimeError('no')\n")
    services = project / "web_shop" / "services" / "__init__.py"
    services.write_text("from .. import engines\n")
    refused = dpkg("-i", build(project, "3", "Never"), runtime=daemon.directory, check=False)
    assert refused.returncode != 0
    assert "the version before goes on" in refused.stderr
    assert "RuntimeError: no" in refused.stdout + refused.stderr
    assert text(daemon) == "Goodbye, you!"

    dpkg("-i", second, runtime=daemon.directory)
    daemon.terminate()
    see_init(system, daemon.directory)
    dpkg("--remove", "web-shop")
    assert not (system / "usr/lib/web_shop").exists()
    assert config.is_file()
    dpkg("--purge", "web-shop")
    assert not config.exists() and not (system / "var/log/web_shop").exists()


def test_its_unit_is_narrow_and_whole(project: Path, tmp_path: Path) -> None:
    run("dpkg-deb", "--extract", build(project, "1", "Hello"), tmp_path)
    units = tmp_path / "usr/lib/systemd/system"
    assert sorted(one.name for one in units.iterdir()) == [
        "web_shop-http.socket", "web_shop-tcp.socket", "web_shop.service"]
    unit = (units / "web_shop.service").read_text()
    assert "/srv" not in unit and "DynamicUser" not in unit and "User=web_shop\n" in unit
    assert "ExecReload=/usr/bin/web_shop ctl reload\n" in unit
    assert "USR1 web_shop.service" in (tmp_path / "etc/logrotate.d/web_shop").read_text()
    byte_code = list((tmp_path / "usr/lib/web_shop/web_shop").glob("__pycache__/container.*.pyc"))
    assert byte_code and b"/usr/lib/web_shop/web_shop/container.py" in byte_code[0].read_bytes()
    assert b"build/deb" not in byte_code[0].read_bytes()


@pytest.mark.parametrize("extras", ["initd", "monit"])
def test_an_extra_that_is_none_is_refused(project: Path, extras: str) -> None:
    done = run("sh", "packaging/make_deb.sh", "1", check=False, cwd=project,
               env={**os.environ, "VENV": sys.prefix, "EXTRAS": extras})
    assert done.returncode == 1
    assert f"EXTRAS: '{extras}'; expected init, or init monit" in done.stderr


@pytest.mark.skipif(shutil.which("monit") is None, reason="needs monit: apt-get install monit")
def test_monit_takes_its_file(project: Path, tmp_path: Path) -> None:
    config = tmp_path / "monitrc"
    config.write_text(f"set daemon 30\ninclude {project}/packaging/monit\n")
    config.chmod(0o600)
    assert "syntax OK" in run("monit", "-t", "-c", config).stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("place", ["deploy", "build/deb/usr/lib/systemd/system"])
def test_systemd_takes_its_unit_for_safe(project: Path, place: str) -> None:
    if not (project / place).is_dir():
        build(project, "1", "Hello")
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager",
               project / place / "web_shop.service")
    found = re.search(r"exposure level for web_shop.service: ([\d.]+)", done.stdout)
    assert found is not None and float(found[1]) <= 2.5, done.stdout

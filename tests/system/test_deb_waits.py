"""The Debian package of an application with a database waits for the address of that."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from apihour.cli.main import main

_SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$DPKG_ROOT/told"
"""


@pytest.mark.parametrize("known", [True, False])
def test_the_service_starts_when_it_is_known(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "shop", "--with", "http,pg"]) == 0
    for name in ("run/systemd/system", "usr/lib/shop", "bin", "etc"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bin/systemctl").write_text(_SYSTEMCTL)
    (tmp_path / "bin/systemctl").chmod(0o755)
    if known:
        (tmp_path / "etc/shop.environment").write_text("DATABASE_URL=postgresql:///shop\n")
    done = subprocess.run(
        ["sh", "shop/packaging/postinst", "configure"], capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL, check=True,
        env={"DPKG_ROOT": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})
    told = (tmp_path / "told").read_text().splitlines()
    assert told[0] == "daemon-reload"
    if known:
        assert told[-1] == "enable --quiet --now shop.service" and not done.stderr
    else:
        assert told[-1] == "enable --quiet shop.service"
        assert "/etc/shop.environment" in done.stderr and "systemctl start shop" in done.stderr

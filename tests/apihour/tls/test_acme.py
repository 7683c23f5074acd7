"""ACME without a daemon: the state's files, what is due, and what fails."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.bind.addresses import parse_address
from apihour.bind.listeners import Listener
from apihour.config.settings import HostConfig
from apihour.errors import ConfigurationError
from apihour.shared.store import Shared
from apihour.tls.acme_answers import AcmeTerminator
from apihour.tls.acme_orders import Orders, is_due
from apihour.tls.acme_proofs import self_signed
from apihour.tls.acme_store import AcmeStore
from apihour.tls.certificates import verify
from apihour.tls.renewal import CertificateWatch, Told
from apihour.tls.served import served_certificate
from apihour.tls.termination import prepare
from tests.acme_server import AcmeServer, Problem
from tests.certificates import Authority

log = logging.getLogger("test.acme")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AcmeServer]:
    with AcmeServer(Authority(tmp_path)) as made:
        yield made


def config(path: Path, server: str = "https://a.example/") -> HostConfig:
    cfg = HostConfig()
    cfg.set("acme_state", str(path / "state"))
    cfg.set("acme_directory", server)
    return cfg


def terminator(cfg: Any, domains: str = "a.example") -> AcmeTerminator:
    address = parse_address(f"127.0.0.1:0?tls=acme&domains={domains}")
    listener = Listener("x", address, None, False)  # type: ignore[arg-type]
    made = prepare(cfg, [listener])[listener]
    assert isinstance(made, AcmeTerminator)
    return made


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Any]:
    shared = Shared(str(tmp_path / "shared"))
    yield SimpleNamespace(container=SimpleNamespace(shared=shared), name="1.1")
    await shared.close()


def test_until_it_arrives_a_certificate_is_served_that_nobody_trusts(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    first, second = terminator(cfg), terminator(cfg)
    assert is_due(served_certificate(first.context))
    assert served_certificate(first.context).names == ("a.example",)
    # All workers serve the same one.
    assert served_certificate(first.context) == served_certificate(second.context)
    other = terminator(cfg, "a.example,b.example")
    assert other.files != first.files
    cfg.set("acme_directory", "https://b.example/")
    assert terminator(cfg).files != first.files  # that of another server


def test_a_third_of_its_time_is_when_it_is_renewed(tmp_path: Path) -> None:
    now = time.time()
    for left, due in ((31, False), (29, True), (-1, True)):
        path = tmp_path / "x.pem"
        path.write_bytes(self_signed(
            ["a.example"], "somebody", (now - (90 - left) * 86400, now + left * 86400)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        assert is_due(served_certificate(context)) is due, left


async def test_a_failure_is_one_line_and_waits_longer_each_time(
    server: AcmeServer, tmp_path: Path, host: Any, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.time()
    monkeypatch.setattr("apihour.tls.acme_orders.time", SimpleNamespace(time=lambda: now))
    made = terminator(config(tmp_path, server.directory))
    orders = Orders([made], host, None, log)
    server.refuse = Problem("rateLimited", "too many\x1b[31m\nof them" + "x" * 1000, 429)
    waits = []
    for _ in range(9):
        await orders._see(made)
        await orders._see(made)  # nothing is asked before its time
        known = made.store.recall(made.domains)
        waits.append(round(known["next"] - now))
        now = known["next"] + 1
    assert waits[:4] == [60, 240, 960, 3840] and waits[-1] == 86400
    assert server.counts["account new"] == 9
    lines = [one.getMessage() for one in caplog.records if one.name == log.name]
    assert len(lines) == 9
    assert lines[0].startswith(
        f"{made.where}: ACME: attempt 1 for a.example failed by tls-alpn-01: ")
    assert lines[0].endswith("; tried again in 1 min") and "by http-01: " in lines[1]
    assert "\x1b" not in lines[0] and "\\x1b[31m of them" in lines[0] and len(lines[0]) < 600
    assert made.problem == made.store.recall(made.domains)["why"] != ""
    assert CertificateWatch([made], Told(tmp_path), log).reload() == []  # certs reload
    await orders._see(made)
    assert server.counts["account new"] == 10


async def test_who_cannot_prove_it_gets_none(
    server: AcmeServer, tmp_path: Path, host: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.ports.update({"http-01": 1, "tls-alpn-01": 1})  # where nobody answers
    made = terminator(config(tmp_path, server.directory))
    await Orders([made], host, None, log)._see(made)
    assert server.validated == [("a.example", "not tls-alpn-01")]
    assert "attempt 1 for a.example failed by tls-alpn-01: ACMEValidationError" in caplog.text
    assert list((tmp_path / "state" / "pending").iterdir()) == []


async def test_two_workers_order_once(
    server: AcmeServer, tmp_path: Path, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config(tmp_path, server.directory)
    both = [terminator(cfg) for _ in range(2)]
    other = SimpleNamespace(container=host.container, name="2.1")

    async def prove(self: object, domain: str, token: str, expected: str) -> bool:
        return both[1].challenges is not None and any(
            both[1].store.validation(domain).read_bytes())

    monkeypatch.setattr(AcmeServer, "_ask_tls", prove)
    server.ports["tls-alpn-01"] = 1
    await asyncio.gather(*(Orders([one], who, None, log)._see(one)
                           for one, who in zip(both, (host, other), strict=True)))
    assert server.counts["order new"] == server.counts["finalize"] == 1
    await Orders([both[1]], other, None, log)._see(both[1])  # it has not looked at the file yet
    assert server.counts["order new"] == 1
    both[1].renew(both[1].stamps())
    assert served_certificate(both[1].context).issuer == "apihour test authority"
    assert not is_due(served_certificate(both[1].context))


@pytest.mark.parametrize("token", ["", "a" * 15, "../../../etc/passwd", "a" * 257, "a" * 20 + "\n",
                                   "a.example.pem" + "a" * 9, "é" * 20, "a" * 20 + "/"])
def test_what_is_no_token_is_no_file(tmp_path: Path, token: str) -> None:
    store = AcmeStore(str(tmp_path / "state"), "https://a.example/", _me())
    store.make()
    assert store.token(token) is None and store.answer(token) is None


def _me() -> tuple[int, int]:
    return os.getuid(), os.getgid()


async def test_a_disk_that_cannot_be_used_is_one_line_not_one_each_time(
    tmp_path: Path, host: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = terminator(config(tmp_path))
    monkeypatch.setattr(host.container.shared, "put", made.store.path.read_bytes)
    monkeypatch.setattr("apihour.tls.acme_orders._EVERY", 0.001)
    running = asyncio.ensure_future(Orders([made], host, None, log).run())
    await asyncio.sleep(0.1)
    running.cancel()
    assert len([one for one in caplog.records if one.name == log.name]) == 1


def test_challenges_of_workers_that_are_gone_are_removed(tmp_path: Path) -> None:
    store = AcmeStore(str(tmp_path / "state"), "https://a.example/", _me())
    store.make()
    for name, age in (("a" * 20, 7200), ("b" * 20, 10)):
        path = store.token(name)
        assert path is not None
        store.write(path, b"x")
        os.utime(path, (time.time() - age,) * 2)
    store.sweep()
    assert (store.answer("a" * 20), store.answer("b" * 20)) == (None, "x")


def test_what_is_wrong_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config(tmp_path)
    binds = {"x": [parse_address("127.0.0.1:0?tls=acme&domains=a.example")]}
    verify(cfg, binds)
    assert not (tmp_path / "state").exists()  # a check makes nothing
    (tmp_path / "state").mkdir(mode=0o755)
    with pytest.raises(ConfigurationError, match="state': expected a directory of mode 0700"):
        terminator(cfg)
    cfg.set("acme_state", str(tmp_path / "gone" / "state"))
    with pytest.raises(ConfigurationError, match="No such file or directory; expected a directory"):
        terminator(cfg)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"expected pip install 'apihour\[acme\]'"):
        verify(cfg, binds)


def test_options_of_the_bind_hold_for_what_is_obtained(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    address = parse_address("127.0.0.1:0?tls=acme&domains=a.example&tls=modern")
    listener = Listener("x", address, None, False)  # type: ignore[arg-type]
    made = prepare(cfg, [listener])[listener]
    assert made.context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert made.where == f"bind x={address}"

"""NATS that wants to know who asks: a credentials file, over TLS with certificates at both ends."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nkeys
import pytest

from apihour.bus import open_bus
from apihour.bus.nats_address import NATSAddress
from apihour.errors import BusError, ConfigurationError
from tests.certificates import Authority
from tests.contracts.bus_contract import take
from tests.nats_server import NATSServer


def pair(prefix: int) -> Any:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))


def token(issuer: Any, subject: Any, name: str, kind: str) -> str:
    """A JWT as nsc makes it: `issuer` says that `subject` is of that kind."""
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    unlimited = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1,
                 "leaf": -1, "wildcards": True}
    claims = {"jti": os.urandom(8).hex(), "iat": int(time.time()), "name": name,
              "iss": issuer.public_key.decode(), "sub": subject.public_key.decode(),
              "nats": {"type": kind, "version": 2,
                       **({"limits": unlimited} if kind == "account" else {}),
                       **({"subs": -1, "data": -1, "payload": -1} if kind == "user" else {})}}
    signed = f"{part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{part(claims)}"
    signature = base64.urlsafe_b64encode(issuer.sign(signed.encode())).decode().rstrip("=")
    return f"{signed}.{signature}"


def credentials(path: Path, account: Any) -> Path:
    """The credentials file of a new user of that account."""
    user = pair(nkeys.PREFIX_BYTE_USER)
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{token(account, user, 'u', 'user')}\n"
        "------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n"
        f"{user.seed.decode()}\n------END USER NKEY SEED------\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trust")


@pytest.fixture(scope="module")
def trusting(files: Path) -> Iterator[NATSServer]:
    """A server that lets in who has credentials and a certificate."""
    authority = Authority(files)
    cert, key = authority.issue("server", together=False)
    authority.issue("client", together=False)
    operator, account = (pair(kind) for kind in (
        nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT))
    config = files / "nats.conf"
    config.write_text(f"""
operator: "{token(operator, operator, 'o', 'operator')}"
resolver: MEMORY
resolver_preload: {{ {account.public_key.decode()}: "{token(operator, account, 'a', 'account')}" }}
tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{authority.path}", verify: true }}
""")
    credentials(files / "good.creds", account)
    credentials(files / "bad.creds", pair(nkeys.PREFIX_BYTE_ACCOUNT))
    server = NATSServer("--config", config, jetstream=False)
    try:
        yield server.start()
    finally:
        server.stop()


def given(files: Path, server: NATSServer, **changed: Any) -> dict[str, Any]:
    return {"url": server.url, "credentials": str(files / "good.creds"), "tls": {
        "ca": str(files / "ca.pem"), "cert": str(files / "client.pem"),
        "key": str(files / "client.key")}, **changed}


async def test_who_has_credentials_and_a_certificate_is_let_in(
    files: Path, trusting: NATSServer
) -> None:
    bus = open_bus(given(files, trusting), files)
    async with asyncio.timeout(30):
        async with bus.subscribe("a") as messages:
            await bus.publish("a", b"1")
            assert await take(messages, 1) == [b"1"]
        await bus.close()


@pytest.mark.parametrize(("changed", "said"), [
    ({"credentials": "bad.creds"}, r"Authorization Violation"),
    ({"credentials": None}, r"Authorization Violation"),
    ({"tls": None}, r"[Cc]ertificate|TLS|ssl"),
    ({"tls": {"ca": "ca.pem"}}, r"[Cc]ertificate|TLS|not connected within"),
])
async def test_who_has_not_is_told_what_nats_said(
    files: Path, trusting: NATSServer, changed: Any, said: str
) -> None:
    if changed.get("credentials"):
        changed = {"credentials": str(files / changed["credentials"])}
    if changed.get("tls"):
        changed = {"tls": {"ca": str(files / "ca.pem")}}
    bus = open_bus(given(files, trusting, **changed), files)
    with pytest.raises(BusError, match=said):
        await asyncio.wait_for(bus.request("a", b"", timeout=0.7), 30)
    await asyncio.wait_for(bus.close(), 30)


async def test_credentials_that_cannot_be_read_are_refused(
    files: Path, trusting: NATSServer
) -> None:
    (files / "empty.creds").write_text("nothing\n")
    bus = open_bus(given(files, trusting, credentials=str(files / "empty.creds")), files)
    with pytest.raises((BusError, ConfigurationError)):
        await asyncio.wait_for(bus.publish("a", b""), 30)
    await asyncio.wait_for(bus.close(), 30)


@pytest.fixture(scope="module")
def locked() -> Iterator[NATSServer]:
    server = NATSServer("--user", "shop", "--pass", "a@b/c:d%", jetstream=False)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.mark.parametrize("url", [
    "nats://shop:a%40b%2Fc%3Ad%25@127.0.0.1:{port}",
    "nats://127.0.0.1:{port},nats://shop:a%40b%2Fc%3Ad%25@127.0.0.1:1",
])
async def test_a_password_of_any_characters_is_in_the_url(
    url: str, locked: NATSServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bus = open_bus(url.format(port=locked.port), tmp_path)
    async with asyncio.timeout(30):
        async with bus.subscribe("a") as messages:
            await bus.publish("a", b"1")
            assert await take(messages, 1) == [b"1"]
        await bus.close()
    assert "a%40b" not in caplog.text


@pytest.mark.parametrize(("servers", "login"), [
    (("nats://a:1",), {}),
    (("nats://a%40b@a:1",), {"token": "a@b"}),
    (("nats://ann:x@a:1", "nats://b:1"), {"user": "ann", "password": "x"}),
    (("nats://ann:x@a:1", "nats://bob:x@b:1"), {}),
])
def test_one_login_is_for_all_servers(servers: tuple[str, ...], login: dict[str, str]) -> None:
    assert NATSAddress(servers).login() == login

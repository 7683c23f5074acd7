"""A small ACME server (RFC 8555) for tests: it checks signatures and nonces, asks, and issues.

It validates http-01 and tls-alpn-01 (RFC 8737) by connections to this machine, at the ports that it
is told, for whatever name.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import ssl
import threading
from collections import Counter
from typing import Any

from aiohttp import ClientSession, web
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import ObjectIdentifier

from tests.certificates import Authority

__all__ = ["AcmeServer"]


class Problem(Exception):
    def __init__(self, kind: str, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.status = kind, detail, status


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class AcmeServer:
    """For a ``with`` statement, in a thread of its own; certificates are of `authority`.

    `kinds` says by domain which challenges are offered, `ports` where each kind is validated,
    `days` how long certificates hold; `refuse` is a problem that every order is answered with.
    """

    def __init__(self, authority: Authority, days: float = 90) -> None:
        self.authority = authority
        self.days = days
        self.kinds: dict[str, list[str]] = {}
        self.ports: dict[str, int] = {}
        self.refuse: Problem | None = None
        self.counts: Counter[str] = Counter()
        self.validated: list[tuple[str, str]] = []
        self._nonces: set[str] = set()
        self._accounts: dict[str, dict[str, str]] = {}
        self._orders: list[dict[str, Any]] = []
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    # -- in a thread of its own

    def __enter__(self) -> AcmeServer:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *args: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(30)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        app = web.Application()
        app.router.add_get("/directory", self._directory)
        app.router.add_route("HEAD", "/nonce", self._nonce)
        app.router.add_post("/{kind}/{number}", self._post)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._ended.wait()
        await runner.cleanup()

    @property
    def directory(self) -> str:
        return self.base + "/directory"

    # -- RFC 8555 7.1.1, 7.2, 6.2

    async def _directory(self, request: web.Request) -> web.Response:
        self.counts["directory"] += 1
        return web.json_response({
            "newNonce": self.base + "/nonce", "newAccount": self.base + "/account/new",
            "newOrder": self.base + "/order/new", "revokeCert": self.base + "/revoke/new",
            "keyChange": self.base + "/change/new"})

    async def _nonce(self, request: web.Request) -> web.Response:
        return self._reply(web.Response())

    def _reply(self, response: web.Response) -> web.Response:
        nonce = encoded(os.urandom(16))
        self._nonces.add(nonce)
        response.headers["Replay-Nonce"] = nonce
        return response

    async def _post(self, request: web.Request) -> web.Response:
        kind, number = request.match_info["kind"], request.match_info["number"]
        try:
            account, payload = self._signed(await request.json(), str(request.url), kind)
            self.counts[f"{kind} {'new' if number == 'new' else ''}".strip()] += 1
            return self._reply(await getattr(self, f"_on_{kind}")(number, account, payload))
        except Problem as problem:
            return self._reply(web.json_response(
                {"type": f"urn:ietf:params:acme:error:{problem.kind}", "detail": problem.detail},
                status=problem.status, content_type="application/problem+json"))

    def _signed(self, body: dict[str, str], url: str, kind: str) -> tuple[str, Any]:
        """Whose account it is, and what was said. Raises Problem."""
        head = json.loads(decoded(body["protected"]))
        if head["nonce"] not in self._nonces:
            raise Problem("badNonce", "an old nonce")
        self._nonces.discard(head["nonce"])
        if head["url"] != url or head["alg"] != "ES256":
            raise Problem("malformed", f"{head['url']} {head['alg']}")
        if kind == "account":
            account = self.base + f"/account/{len(self._accounts)}"
            jwk = self._accounts[account] = head["jwk"]
        else:
            account = head["kid"]
            jwk = self._accounts[account]
        numbers = (int.from_bytes(decoded(jwk[one]), "big") for one in "xy")
        key = ec.EllipticCurvePublicNumbers(*numbers, ec.SECP256R1()).public_key()
        signature = decoded(body["signature"])
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        try:
            key.verify(utils.encode_dss_signature(r, s),
                       f"{body['protected']}.{body['payload']}".encode(),
                       ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise Problem("unauthorized", "the signature is wrong", 401) from error
        payload = decoded(body["payload"])
        return account, json.loads(payload) if payload else None

    def _thumbprint(self, account: str) -> str:
        jwk = self._accounts[account]
        text = json.dumps({one: jwk[one] for one in ("crv", "kty", "x", "y")},
                          separators=(",", ":"), sort_keys=True)
        return encoded(hashlib.sha256(text.encode()).digest())

    # -- 7.3, 7.4, 7.5

    async def _on_account(self, number: str, account: str, said: Any) -> web.Response:
        self.contact = said.get("contact")
        return web.json_response({"status": "valid"}, status=201, headers={"Location": account})

    async def _on_order(self, number: str, account: str, said: Any) -> web.Response:
        if self.refuse is not None:
            raise self.refuse
        if number == "new":
            number = str(len(self._orders))
            self._orders.append({
                "account": account, "status": "pending", "names": [
                    one["value"] for one in said["identifiers"]],
                "tokens": [encoded(os.urandom(16)) for _ in said["identifiers"]],
                "valid": {}, "certificate": ""})
        return self._order(number)

    def _order(self, number: str) -> web.Response:
        order = self._orders[int(number)]
        found = {
            "status": order["status"],
            "identifiers": [{"type": "dns", "value": one} for one in order["names"]],
            "authorizations": [f"{self.base}/authz/{number}.{index}"
                               for index in range(len(order["names"]))],
            "finalize": f"{self.base}/finalize/{number}"}
        if order["certificate"]:
            found["certificate"] = f"{self.base}/cert/{number}"
        return web.json_response(found, status=201 if order["status"] == "pending" else 200,
                                 headers={"Location": f"{self.base}/order/{number}"})

    async def _on_authz(self, number: str, account: str, said: Any) -> web.Response:
        which, _, index = number.partition(".")
        order = self._orders[int(which)]
        domain = order["names"][int(index)]
        return web.json_response({
            "identifier": {"type": "dns", "value": domain},
            "status": order["valid"].get(domain, "pending"),
            "challenges": [self._challenge(number, kind, order["tokens"][int(index)])
                           for kind in self.kinds.get(domain, ["http-01", "tls-alpn-01"])]})

    def _challenge(self, number: str, kind: str, token: str) -> dict[str, str]:
        return {"type": kind, "url": f"{self.base}/challenge/{number}.{kind}", "token": token,
                "status": "pending"}

    async def _on_challenge(self, number: str, account: str, said: Any) -> web.Response:
        which, index, kind = number.split(".")
        order = self._orders[int(which)]
        domain, token = order["names"][int(index)], order["tokens"][int(index)]
        expected = f"{token}.{self._thumbprint(account)}"
        while kind not in self.ports:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.05)  # whoever asks for it ends it in time
        try:
            right = await getattr(self, "_ask_" + kind.partition("-")[0])(domain, token, expected)
        except (OSError, ValueError, x509.ExtensionNotFound):
            right = False
        order["valid"][domain] = "valid" if right else "invalid"
        self.validated.append((domain, kind if right else f"not {kind}"))
        states = {order["valid"].get(one, "pending") for one in order["names"]}
        order["status"] = ("invalid" if "invalid" in states else
                           "ready" if states == {"valid"} else "pending")
        return web.json_response(self._challenge(f"{which}.{index}", kind, token))

    # -- 8.3, and RFC 8737

    async def _ask_http(self, domain: str, token: str, expected: str) -> bool:
        url = f"http://127.0.0.1:{self.ports['http-01']}/.well-known/acme-challenge/{token}"
        async with ClientSession() as session, session.get(
                url, headers={"Host": domain}) as answer:
            return answer.status == 200 and (await answer.text()).strip() == expected

    async def _ask_tls(self, domain: str, token: str, expected: str) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["acme-tls/1"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.ports["tls-alpn-01"], ssl=context, server_hostname=domain)
        found = writer.get_extra_info("ssl_object")
        if found.selected_alpn_protocol() != "acme-tls/1":
            return False
        certificate = x509.load_der_x509_certificate(found.getpeercert(binary_form=True))
        assert await reader.read() == b""  # it is closed, and nobody's
        writer.close()
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        said: Any = certificate.extensions.get_extension_for_oid(
            ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
        digest = hashlib.sha256(expected.encode()).digest()
        return bool(said.critical and said.value.value == b"\x04\x20" + digest
                    and names.value.get_values_for_type(x509.DNSName) == [domain])

    # -- 7.4, 7.4.2

    async def _on_finalize(self, number: str, account: str, said: Any) -> web.Response:
        order = self._orders[int(number)]
        if order["status"] != "ready":
            raise Problem("orderNotReady", f"it is {order['status']}", 403)
        request = x509.load_der_x509_csr(decoded(said["csr"]))
        order["certificate"] = self.authority.sign(
            request.public_key(), order["names"], self.days)  # type: ignore[arg-type]
        order["status"] = "valid"
        return self._order(number)

    async def _on_cert(self, number: str, account: str, said: Any) -> web.Response:
        return web.Response(text=self._orders[int(number)]["certificate"],
                            content_type="application/pem-certificate-chain")

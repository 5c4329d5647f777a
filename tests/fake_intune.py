"""A stand-in for the three services that a third-party CA of Intune talks to: login, Graph, Intune.

A real HTTPS server on 127.0.0.1, written from Microsoft's documents, without a line of this
package. It knows which requests to expect (``mint``), judges them, remembers what it is told, and
fails on demand (``fail``). As a process for demonstrations:

    python -m tests.fake_intune --directory DIR

writes ``intune.toml`` and the files it names into DIR, prints a challenge, and serves until its
standard input ends.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime
import ipaddress
import json
import secrets
import ssl
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AttributeOID, NameOID

INTUNE_APP = "0000000a-0000-0000-c000-000000000000"
VALIDATION = "ScepRequestValidationFEService"
REVOCATION = "PkiConnectorFEService"
GRAPH_SCOPE = "graph"
INTUNE_SCOPE = "intune"
ROUTES = (
    "openid token endpoints validateRequest successNotification failureNotification"
    " downloadRevocationRequests uploadRevocationResults"
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that arrived."""

    route: str
    headers: dict[str, str]
    body: Any
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a profile makes a device ask for."""

    subject: x509.Name
    sans: frozenset[str] = frozenset()
    bits: int = 2048
    ends: datetime.datetime | None = None


@dataclass(slots=True, kw_only=True)
class Fault:
    """What a route does instead of its work: ``status``, ``body``, ``hang`` or ``drop``."""

    status: int = 200
    body: bytes | None = None
    hang: bool = False
    drop: bool = False
    after: bool = False
    """Do the work first, and then fail to say so."""


@dataclass(slots=True)
class FakeIntune:
    """The state of the services."""

    tenant: str = "lab.example"
    client_id: str = "1b2c3d4e-0000-4000-8000-00000000cafe"
    client_secret: str = "fake~client~secret"
    certificate: x509.Certificate | None = None
    """Of the app registration, for client assertions."""
    url: str = ""
    unit: str = "msud01"
    """The scale unit in the services' addresses: they move when it changes."""
    services: tuple[str, ...] = (VALIDATION, REVOCATION)
    calls: list[Call] = field(default_factory=list)
    revocations: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    notified: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Successes by serial number."""
    failures: list[dict[str, Any]] = field(default_factory=list)
    token_lifetime: int = 3599
    stopping: threading.Event = field(default_factory=threading.Event)
    _faults: dict[str, list[Fault]] = field(default_factory=dict)
    _expected: dict[str, Expected] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)

    # --- for tests --------------------------------------------------------------------

    def mint(
        self,
        subject: str = "CN=device,O=Lab",
        sans: tuple[str, ...] = (),
        *,
        bits: int = 2048,
        ends: datetime.datetime | None = None,
        size: int = 4000,
    ) -> str:
        """A challenge for a device's profile: opaque, of so many characters."""
        challenge = base64.b64encode(secrets.token_bytes(size * 3 // 4)).decode()
        self.expect(challenge, subject, sans, bits=bits, ends=ends)
        return challenge

    def expect(
        self,
        challenge: str,
        subject: str,
        sans: tuple[str, ...] = (),
        *,
        bits: int = 2048,
        ends: datetime.datetime | None = None,
    ) -> None:
        """Know a challenge, as after a restart of the services."""
        self._expected[challenge] = Expected(
            subject=x509.Name.from_rfc4514_string(subject),
            sans=frozenset(sans), bits=bits, ends=ends)

    def fail(self, route: str, times: int = 1, **fault: Any) -> None:
        """Let the next calls of a route fail."""
        assert route in ROUTES
        self._faults.setdefault(route, []).extend(Fault(**fault) for _ in range(times))

    def code(self, route: str, code: object, times: int = 1) -> None:
        """Let the next calls of a route answer with a code."""
        body = json.dumps({"code": code, "errorDescription": "as the test wants it"}).encode()
        self.fail(route, times, body=body)

    def revoke_tokens(self) -> None:
        """As after a change of the app registration: what was handed out is refused."""
        self._tokens.clear()

    def routes(self) -> list[str]:
        """What was called, in order."""
        return [call.route for call in self.calls]

    def count(self, route: str) -> int:
        return self.routes().count(route)

    # --- the services -----------------------------------------------------------------

    def handle(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes] | Fault:
        path = urlsplit(target).path
        route = self._route(method, path)
        if route is None:
            return 404, b""
        content: Any = body
        if headers.get("content-type", "").startswith("application/json"):
            content = json.loads(body)
        elif body:
            content = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        self.calls.append(Call(route=route, headers=headers, body=content, path=path))
        faults = self._faults.get(route)
        fault = faults.pop(0) if faults else None
        if fault is not None and not fault.after:
            if fault.body is not None or fault.status != 200:
                return fault.status, fault.body or b"{}"
            return fault
        status, answer = self._answer(route, headers, content)
        if fault is not None:
            return fault.status, b"{}"
        return status, json.dumps(answer).encode()

    def _route(self, method: str, path: str) -> str | None:
        if method == "GET":
            if path == f"/{self.tenant}/v2.0/.well-known/openid-configuration":
                return "openid"
            # No quotes round the GUID: as in the reference implementation.
            if path == f"/v1.0/servicePrincipals/appId={INTUNE_APP}/endpoints":
                return "endpoints"
            return None
        if path == f"/{self.tenant}/oauth2/v2.0/token":
            return "token"
        for service, part in ((VALIDATION, "ScepActions"),
                              (REVOCATION, "CertificateAuthorityRequests")):
            prefix = f"{urlsplit(self._uri(service)).path}/{part}/"
            if path.startswith(prefix) and path.removeprefix(prefix) in ROUTES:
                return path.removeprefix(prefix)
        return None

    def _uri(self, service: str) -> str:
        kind = "Scep" if service == VALIDATION else "Pki"
        return f"{self.url}/{self.unit}/TrafficGateway/RACerts/Stateless{kind}Service"

    def _answer(self, route: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        match route:
            case "openid":
                base = f"{self.url}/{self.tenant}"
                return 200, {
                    "issuer": f"{base}/v2.0",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                }
            case "token":
                return self._token(body)
            case "endpoints":
                if not self._may(headers, GRAPH_SCOPE):
                    return 401, {}
                return 200, {"value": [
                    {"id": str(uuid.uuid4()), "capability": name, "providerName": name,
                     "uri": self._uri(name), "providerId": None}
                    for name in self.services]}
            case _:
                if not self._may(headers, INTUNE_SCOPE):
                    return 401, {}
                return self._intune(route, headers, body)

    def _token(self, form: dict[str, str]) -> tuple[int, Any]:
        if form["grant_type"] != "client_credentials" or form["client_id"] != self.client_id:
            return 400, {"error": "unauthorized_client", "error_description": "AADSTS700016"}
        if not self._authentic(form):
            return 401, {"error": "invalid_client", "error_description": "AADSTS7000215: invalid"}
        scope = {
            f"{self.url}/.default": GRAPH_SCOPE,
            f"{self.url}/intune//.default": INTUNE_SCOPE,
        }.get(form["scope"])
        if scope is None:
            return 400, {"error": "invalid_scope", "error_description": "AADSTS70011"}
        token = secrets.token_urlsafe()
        self._tokens[token] = scope
        return 200, {
            "token_type": "Bearer", "expires_in": self.token_lifetime, "access_token": token}

    def _authentic(self, form: dict[str, str]) -> bool:
        if "client_assertion" not in form:
            return form.get("client_secret") == self.client_secret
        if self.certificate is None:
            return False
        try:
            claims = jwt.decode(
                form["client_assertion"],
                self.certificate.public_key(),  # type: ignore[arg-type] # an RSA key
                algorithms=["PS256", "RS256"],
                audience=f"{self.url}/{self.tenant}/oauth2/v2.0/token",
            )
        except jwt.InvalidTokenError:
            return False
        header = jwt.get_unverified_header(form["client_assertion"])
        # msal does not leave the padding out, as RFC 7515 would.
        thumbprint = base64.urlsafe_b64decode(header["x5t#S256"].rstrip("=") + "=")
        return (
            claims["iss"] == claims["sub"] == self.client_id
            and thumbprint == self.certificate.fingerprint(hashes.SHA256())
        )

    def _may(self, headers: dict[str, str], scope: str) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        uuid.UUID(headers["client-request-id"])
        return kind == "Bearer" and self._tokens.get(token) == scope

    def _intune(self, route: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        revoking = "Revocation" in route
        if headers["api-version"] != ("5019-05-05" if revoking else "2018-02-20"):
            return 400, {}
        match route:
            case "validateRequest":
                request = body["request"]
                assert set(request) == {"transactionId", "certificateRequest", "callerInfo"}
                return 200, _code(self._judge(request["certificateRequest"]))
            case "successNotification":
                note = body["notification"]
                assert set(note) == {
                    "transactionId", "certificateRequest", "certificateThumbprint",
                    "certificateSerialNumber", "certificateExpirationDateUtc",
                    "issuingCertificateAuthority", "callerInfo", "caConfiguration",
                    "certificateAuthority"}
                self.notified[note["certificateSerialNumber"]] = note
                return 200, _code("Success")
            case "failureNotification":
                note = body["notification"]
                assert set(note) == {
                    "transactionId", "certificateRequest", "hResult", "errorDescription",
                    "callerInfo"}
                assert -(2**31) <= note["hResult"] < 2**32
                assert len(note["errorDescription"]) <= 255
                self.failures.append(note)
                return 200, _code("Success")
            case "downloadRevocationRequests":
                parameters = body["downloadParameters"]
                assert 1 <= parameters["maxRequests"] <= 500
                found = [one for one in self.revocations
                         if parameters["issuerName"] in (None, one["issuerName"])]
                given = found[:parameters["maxRequests"]]
                self.revocations = [one for one in self.revocations if one not in given]
                return 200, {"value": given}
            case _:
                self.results.extend(body["results"])
                return 200, {"value": True}

    def _judge(self, encoded: str) -> str:
        try:
            csr = x509.load_der_x509_csr(base64.b64decode(encoded, validate=True))
            found = csr.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD)
        except ValueError:
            return "CertificateRequestDecodingFailed"
        except x509.AttributeNotFound:
            return "ChallengePasswordMissing"
        expected = self._expected.get(found.value.decode("ascii", "replace"))
        if expected is None:
            return "ChallengeDecryptionError"
        if expected.ends is not None and expected.ends <= datetime.datetime.now(datetime.UTC):
            return "ChallengeExpired"
        if csr.subject != expected.subject:
            return "SubjectNameMismatch"
        try:
            extension = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            sans = frozenset(str(name.value) for name in extension.value)
        except x509.ExtensionNotFound:
            sans = frozenset()
        if sans != expected.sans:
            return "SubjectAltNameMismatch"
        key = csr.public_key()
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size != expected.bits:
            return "KeyLengthMismatch"
        return "Success"


def _code(code: str) -> dict[str, str]:
    return {"code": code, "errorDescription": "" if code == "Success" else "because"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Answers go out in one packet, and at once.
    wbufsize = -1
    disable_nagle_algorithm = True
    fake: FakeIntune

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.fake.handle(self.command, self.path, headers, body)
        if isinstance(answer, Fault):
            self.close_connection = True
            if answer.hang:
                self.fake.stopping.wait(60)
            return
        status, content = answer
        self.send_response(status)
        self.send_header("content-type", "application/json; charset=utf-8")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = _serve  # noqa: N815 - the base class's name
    do_POST = _serve  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class _Server(ThreadingHTTPServer):
    def __init__(self, context: ssl.SSLContext, handler: type[_Handler], port: int) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the connection's own thread, so that a slow handshake holds nobody up.
        with contextlib.suppress(OSError):
            wrapped = self.context.wrap_socket(request, server_side=True)
            try:
                super().finish_request(wrapped, client_address)
            finally:
                wrapped.close()


def make_certificate() -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """A self-signed certificate for 127.0.0.1."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake intune")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


@contextlib.contextmanager
def serving(fake: FakeIntune, directory: Path, *, port: int = 0) -> Iterator[Path]:
    """Serve on a loopback port; yields the PEM file of the root to trust.

    A certificate that is in the directory already is used again.
    """
    roots, chain = directory / "roots.pem", directory / "fake-intune-tls.pem"
    if not chain.exists():
        certificate, key = make_certificate()
        roots.write_bytes(certificate.public_bytes(Encoding.PEM))
        chain.touch(mode=0o600)
        chain.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    handler = type("Handler", (_Handler,), {"fake": fake})
    with _Server(context, handler, port) as server:
        fake.url = f"https://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield roots
        finally:
            fake.stopping.set()
            server.shutdown()
            thread.join(10)


def configuration(fake: FakeIntune) -> str:
    """The settings of a CA that talks to this, in TOML; the secret is in a file beside it."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in {
        "tenant": fake.tenant,
        "client_id": fake.client_id,
        "client_secret_file": "client-secret",
        "login_url": fake.url,
        "graph_url": fake.url,
        "intune_scope": f"{fake.url}/intune//.default",
        "roots": "roots.pem",
    }.items())


def write_configuration(fake: FakeIntune, directory: Path) -> Path:
    """``intune.toml`` and the secret, beside roots.pem."""
    secret = directory / "client-secret"
    secret.touch(mode=0o600)
    secret.write_text(fake.client_secret + "\n")
    path = directory / "intune.toml"
    path.write_text(configuration(fake))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for Intune on this machine.")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--subject", default="CN=device,O=Lab", help="what the profile expects")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    fake = FakeIntune()
    with serving(fake, arguments.directory, port=arguments.port):
        path = write_configuration(fake, arguments.directory)
        challenge = fake.mint(arguments.subject)
        ready = {"url": fake.url, "configuration": str(path), "challenge": challenge}
        print(json.dumps(ready), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

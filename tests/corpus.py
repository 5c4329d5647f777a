"""The captured messages of tests/vectors/corpus, and the keys that open them."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

import pyscep
from pyscep import trust
from pyscep.identity import RawCertificate

CORPUS = Path(__file__).resolve().parent / "vectors" / "corpus"


@dataclass(frozen=True, kw_only=True)
class Http:
    """One captured request or response."""

    start: bytes
    """The request line or the status line."""
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One entry of the manifest."""

    name: str
    about: dict[str, Any] = field(repr=False)

    @property
    def request(self) -> dict[str, Any]:
        """What the manifest says of the request's message; empty if there is none."""
        return self.about.get("request", {})

    @property
    def response(self) -> dict[str, Any]:
        return self.about.get("response", {})

    def raw(self, side: str) -> bytes:
        """A file as captured: side is ``request`` or ``response``."""
        return (CORPUS / f"{self.name}.{side[:3] if side == 'request' else 'resp'}").read_bytes()

    def http(self, side: str) -> Http:
        return parse_http(self.raw(side))

    def http_request(self) -> pyscep.HttpRequest:
        """The request as an adapter would hand it to the server."""
        http = self.http("request")
        method, target, _ = http.start.split(b" ")
        path, _, query = target.partition(b"?")
        return pyscep.HttpRequest(
            method=method.decode(), path=path.decode(), query=query, headers=http.headers,
            body=http.body,
        )

    def ca_certificates(self) -> list[RawCertificate]:
        """Everything that this pair's server sent for GetCACert."""
        folder = self.name.partition("/")[0]
        found = [
            certificate
            for one in exchanges()
            if one.name.startswith(f"{folder}/") and one.about["operation"] == "GetCACert"
            for certificate in trust.parse_ca_certificates(one.http("response").body)
        ]
        return list(dict.fromkeys(found))


def parse_http(data: bytes) -> Http:
    head, _, body = data.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    headers = []
    for line in lines:
        key, _, value = line.partition(b":")
        headers.append((key.decode().lower(), value.strip().decode()))
    if dict(headers).get("transfer-encoding") == "chunked":
        body = _dechunk(body)
    return Http(start=start, headers=tuple(headers), body=body)


def _dechunk(body: bytes) -> bytes:
    out = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size, 16):
            return out
        out += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


@functools.cache
def exchanges() -> tuple[Exchange, ...]:
    """All of them, in the order of the manifest."""
    entries = json.loads((CORPUS / "manifest.json").read_text(encoding="utf-8"))
    return tuple(Exchange(name=entry["files"], about=entry) for entry in entries)


def exchange(name: str) -> Exchange:
    return next(one for one in exchanges() if one.name == name)


@functools.cache
def key(path: str) -> Any:
    """A key by its path in the corpus; not validated, which costs a hundred times as much."""
    return load_der_private_key(
        (CORPUS / path).read_bytes(), None, unsafe_skip_rsa_key_validation=True
    )


@functools.cache
def client_key(spki_bits: int) -> Any:
    return key(f"keys/client{spki_bits}.key.der")


@functools.cache
def server_identity(name: str) -> pyscep.Identity:
    """The CA or RA whose certificate and key are in ``keys`` under that name."""
    certificate = x509.load_pem_x509_certificate((CORPUS / f"keys/{name}.crt").read_bytes())
    return pyscep.Identity(certificate, key(f"keys/{name}.key.der"))


def server_identities() -> tuple[pyscep.Identity, ...]:
    """Everyone who opens requests."""
    stems = sorted(path.name for path in CORPUS.glob("keys/*.key.der"))
    names = [re.sub(r"\.key\.der$", "", stem) for stem in stems if not stem.startswith("client")]
    return tuple(server_identity(name) for name in names)

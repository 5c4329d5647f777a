"""CRLs and CA certificates over HTTP: media types, caching, conditional requests, openssl."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pyscep.ca import Issuer
from pyscep.site import reply
from pyscep.site.publication import Publication
from tests import forge_keys as keys
from tests.asgi_call import call
from tests.ca_setting import Setting, ca_identity, openssl, write_pem
from tests.cli_lab import lab, listening
from tests.realm import STATIC, Realm

CRL = "/crl/device-ca.crl"
CERTIFICATE = "/aia/device-ca.cer"


class Place:
    """A CA and its publication."""

    def __init__(self, path: Path) -> None:
        self.realm = Realm(path)
        self.clock = self.realm.clock
        self.app = Publication({"device-ca": self.realm.ca}, now=self.clock)

    def get(self, path: str = CRL, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return call(self.app, path, headers=named)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    found.realm.ca.close()


def test_crl(place: Place) -> None:
    """RFC 5280 section 4.2.1.13, RFC 2585 section 3: DER by http, application/pkix-crl."""
    response = place.get()
    assert (response.status, response.header("content-type")) == (200, "application/pkix-crl")
    assert response.header("content-length") == str(len(response.body))
    crl = x509.load_der_x509_crl(response.body)
    assert crl.is_signature_valid(ca_identity().certificate.public_key())
    assert response.header("last-modified") == format_datetime(crl.last_update_utc, usegmt=True)


def test_ca_certificate(place: Place) -> None:
    for path in (CERTIFICATE, "/aia/device-ca.crt"):
        response = place.get(path)
        assert (response.status, response.header("content-type")) == (200, "application/pkix-cert")
        assert response.body == ca_identity().raw.der
        assert "max-age=86400" in response.header("cache-control")


def test_revocation_is_published_at_once(place: Place) -> None:
    before = place.get()
    serial = place.realm.certificate(STATIC).serial_number
    assert place.get().body == before.body
    place.realm.ca.revoke(serial, "keyCompromise")
    after = place.get(if_none_match=before.header("etag"))
    assert after.status == 200
    assert after.header("etag") != before.header("etag")
    found = x509.load_der_x509_crl(after.body).get_revoked_certificate_by_serial_number(serial)
    assert found is not None


def test_cache_for_an_hour_and_never_beyond_next_update(tmp_path: Path) -> None:
    """Cache-Control and Expires say the same."""
    issuer = Issuer(ca_identity(), crl_lifetime=timedelta(minutes=90))
    setting = Setting(tmp_path, issuer=issuer)
    app = Publication({"x": setting.ca}, now=setting.clock)
    for minutes, seconds in ((0, 3600), (40, 3000)):
        setting.clock.pass_by(minutes=minutes)
        response = call(app, "/crl/x.crl")
        assert response.header("cache-control") == f"public, max-age={seconds}, must-revalidate"
        expires = parsedate_to_datetime(response.header("expires") or "")
        assert (expires - setting.clock()).total_seconds() == seconds
    setting.ca.close()


def test_what_has_ended_is_not_cached(place: Place) -> None:
    place.clock.pass_by(days=10_000)
    assert "max-age=0," in place.get(CERTIFICATE).header("cache-control")


def test_head(place: Place) -> None:
    head = call(place.app, CRL, method="HEAD")
    assert (head.status, head.headers, head.body) == (200, place.get().headers, b"")


@pytest.mark.parametrize(
    ("shape", "status"),
    [("{}", 304), ("W/{}", 304), ('"other", {}', 304), ("*", 304), ('"other"', 200), ("", 200)],
)
def test_if_none_match(place: Place, shape: str, status: int) -> None:
    """RFC 9110 section 13.1.2: a list, weak comparison."""
    tag = place.get().header("etag")
    response = place.get(if_none_match=shape.format(tag))
    assert response.status == status
    if status == 304:
        assert response.body == b""
        assert response.header("etag") == tag
        assert response.header("content-type") is None
        assert response.header("cache-control")


def test_if_modified_since(place: Place) -> None:
    """RFC 9110 section 13.1.3: to the second; ignored beside If-None-Match, or if no date."""
    modified = place.get().header("last-modified")
    at = parsedate_to_datetime(modified)
    earlier = format_datetime(at - timedelta(seconds=1), usegmt=True)
    later = format_datetime(at + timedelta(days=1), usegmt=True)
    assert place.get(if_modified_since=modified).status == 304
    assert place.get(if_modified_since=later).status == 304
    assert place.get(if_modified_since=later.replace("GMT", "-0000")).status == 304
    assert place.get(if_modified_since=earlier).status == 200
    assert place.get(if_modified_since="yesterday").status == 200
    assert place.get(if_modified_since=modified, if_none_match='"x"').status == 200


@pytest.mark.parametrize(
    "path", ["/", "/crl/other.crl", "/crl/device-ca.cer", "/aia/device-ca.crl", "/crl/device-ca",
             "/CRL/device-ca.crl", "/crl/../device-ca.crl", "/crl/device-ca.crl/"])
def test_other_addresses(place: Place, path: str) -> None:
    assert not place.app.answers(path)
    assert place.get(path).status == 404


def test_other_methods(place: Place) -> None:
    assert place.app.answers(CRL)
    response = call(place.app, CRL, method="POST")
    assert (response.status, response.header("allow")) == (405, "GET, HEAD")


def test_mounted_below_a_path(place: Place) -> None:
    assert call(place.app, f"/pki{CRL}", root_path="/pki").status == 200


def test_without_a_store_503(place: Place) -> None:
    class Broken:
        ca_certificates = place.realm.ca.ca_certificates

        def crl(self) -> bytes:
            raise OSError("the disk is away")

    app = Publication({"x": Broken()})
    response = call(app, "/crl/x.crl")
    assert (response.status, response.header("retry-after")) == (503, "30")
    assert b"disk" not in response.body
    assert call(app, "/aia/x.cer").status == 200


def test_name_that_can_not_be_in_an_address(place: Place) -> None:
    with pytest.raises(ValueError, match="part of an address"):
        Publication({"a/b": place.realm.ca})


def test_lifespan_and_other_scopes(place: Place) -> None:
    sent: list[str] = []

    async def talk() -> None:
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await place.app({"type": "lifespan"}, receive, send)
        with pytest.raises(RuntimeError, match="'websocket'"):
            await place.app({"type": "websocket"}, receive, send)

    asyncio.run(talk())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.interop
def test_openssl_checks_with_what_was_fetched(tmp_path: Path) -> None:
    """`openssl crl`, and `openssl verify -crl_check` before and after a revocation."""
    setting = Setting(tmp_path, static_challenge=STATIC)
    with setting.ca, listening(Publication({"ca": setting.ca}, now=setting.clock)) as origin:
        leaf = setting.certificate(STATIC)
        other = setting.certificate(STATIC, key=keys.rsa_key("other"))
        fetched = []
        for _ in range(2):
            with urlopen(f"{origin}/crl/ca.crl", timeout=20) as answer:
                fetched.append(answer.read())
            setting.ca.revoke(leaf.serial_number, "keyCompromise")
        with urlopen(f"{origin}/aia/ca.cer", timeout=20) as answer:
            ca = x509.load_der_x509_certificate(answer.read())
    ca_file = write_pem(tmp_path / "ca.pem", [ca])
    files = []
    for number, crl in enumerate(fetched):
        path = tmp_path / f"{number}.crl"
        path.write_bytes(x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM))
        openssl("crl", "-in", path, "-CAfile", ca_file, "-verify", "-noout")
        files.append(path)
    at = int((setting.clock() + timedelta(minutes=1)).timestamp())

    def verify(certificate: x509.Certificate, crl: Path) -> str:
        leaf_file = write_pem(tmp_path / "leaf.pem", [certificate])
        return openssl("verify", "-attime", str(at), "-CAfile", ca_file, "-CRLfile", crl,
                       "-crl_check", leaf_file)

    assert "OK" in verify(leaf, files[0])
    assert "OK" in verify(other, files[1])
    with pytest.raises(AssertionError, match="certificate revoked"):
        verify(leaf, files[1])


def test_pyscep_serve_publishes(tmp_path: Path) -> None:
    """Beside its endpoint, and without configuration."""
    with lab(tmp_path / "ca", topology="ca") as running:
        origin = running.url.removesuffix("/scep")
        with urlopen(f"{origin}/crl/ca.crl", timeout=20) as answer:
            assert answer.read() == running.ca.crl()
        with urlopen(f"{origin}/aia/ca.cer", timeout=20) as answer:
            assert answer.headers["content-type"] == "application/pkix-cert"
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"{origin}/crl/other.crl", timeout=20)


def drained(*parts: int, slow: bool = False) -> bool:
    """What `drain` makes of a body in parts of these sizes."""

    async def talk() -> bool:
        sizes = iter(parts)

        async def receive() -> Any:
            size = next(sizes, None)
            if slow:
                raise TimeoutError
            return {"type": "http.request", "body": bytes(size or 0), "more_body": size is not None}

        return await reply.drain(receive)

    return asyncio.run(talk())


def test_bodies_are_read_away_within_bounds() -> None:
    assert drained(10, 10)
    assert drained(*[60_000] * 100)
    assert drained(slow=True)

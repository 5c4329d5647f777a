"""identity: certificates by their DER, odd ones too, and identities."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

import pyscep
from pyscep.codec import der
from pyscep.errors import DecodeError
from pyscep.identity import IssuerAndSerial, RawCertificate, public_key_der
from tests import forge_keys as keys
from tests import forge_tlv as asn1


def make(**shape: Any) -> bytes:
    return keys.certificate("CN=device,O=Lab", keys.rsa_key("client"), **shape)


def with_public_key(spki: bytes) -> bytes:
    """A certificate with another SubjectPublicKeyInfo."""
    outer = asn1.read(make())
    parts = [part.raw for part in outer[0]]
    parts[6] = spki
    return asn1.seq(asn1.seq(*parts), outer[1].raw, outer[2].raw)


def test_parts_are_those_of_cryptography() -> None:
    party = keys.ra("sign")
    raw, certificate = RawCertificate(party.der), party.certificate
    assert raw.certificate == certificate
    assert raw.serial_number == certificate.serial_number
    assert raw.issuer == certificate.issuer.public_bytes()
    assert raw.subject == certificate.subject.public_bytes()
    assert raw.public_key == certificate.public_key()
    assert raw.spki == public_key_der(certificate.public_key())
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert raw.subject_key_identifier == identifier.digest
    assert raw.sha256 == hashlib.sha256(party.der).digest()
    assert raw.issuer_and_serial.to_der() == party.issuer_and_serial
    assert not raw.is_self_issued
    assert RawCertificate(keys.ca().der).is_self_issued


def test_equality_and_text() -> None:
    one, same = RawCertificate(make(serial=5)), RawCertificate(make(serial=5))
    assert one == RawCertificate(one.der)
    assert hash(one) == hash(RawCertificate(one.der))
    assert one != RawCertificate(keys.ca().der)
    assert one != one.der
    assert (one == same) == (one.der == same.der)
    assert repr(one) == f"RawCertificate(sha256={one.sha256.hex()})"


@pytest.mark.parametrize("shape", [
    {"version": 0}, {"version": 0, "times": "generalized"}, {"version": 3}, {"serial": 1 << 263},
    {"times": "generalized"}, {"serial": 0}, {"serial": -7},
])
def test_odd_certificates_of_devices_are_read(shape: dict[str, Any]) -> None:
    raw = RawCertificate(make(**shape))
    assert raw.public_key == keys.rsa_key("client").public_key()
    assert raw.subject_key_identifier is None
    assert raw.serial_number == shape.get("serial", raw.serial_number)


def test_the_length_of_a_serial_number() -> None:
    longest = (1 << 319) - 1
    assert RawCertificate(make(serial=longest)).serial_number == longest
    for serial in (longest + 1, -longest - 2, 1 << 16000):
        data = make(serial=serial)
        for read in (RawCertificate, lambda data: RawCertificate.from_node(der.read(data))):
            with pytest.raises(DecodeError, match="serialNumber of a certificate is too long"):
                read(data)


def test_a_certificate_that_cryptography_refuses() -> None:
    raw = RawCertificate(make(version=3))
    with pytest.raises(DecodeError, match="certificate: .*version"):
        _ = raw.certificate
    assert raw.serial_number


def test_a_certificate_inside_a_message() -> None:
    node = der.read(asn1.seq(asn1.integer(1), make(serial=9), asn1.null())).children()[1]
    raw = RawCertificate.from_node(node)
    assert raw.serial_number == 9
    assert raw.der == make(serial=9)[:0] + raw.certificate.public_bytes(Encoding.DER)


def test_a_key_with_absent_parameters() -> None:
    spki = asn1.read(keys.spki(keys.rsa_key("client")))
    bare = asn1.seq(asn1.seq(spki[0][0].raw), spki[1].raw)
    assert RawCertificate(with_public_key(bare)).public_key == keys.rsa_key("client").public_key()


@pytest.mark.parametrize("spki", [
    asn1.seq(), asn1.seq(asn1.algorithm("1.2.3"), asn1.bits(b"x")),
    asn1.seq(asn1.algorithm(keys.RSA_ENCRYPTION, asn1.null()), asn1.bits(b"")),
    asn1.seq(asn1.algorithm("1.2.840.10045.2.1", asn1.seq(asn1.integer(1))), asn1.bits(b"\x04")),
    asn1.seq(asn1.algorithm("1.2.840.10045.2.1", asn1.oid("1.2.3")), asn1.bits(b"\x04")),
    asn1.seq(asn1.algorithm("1.3.101.112"), asn1.bits(bytes(31))),
    asn1.seq(asn1.algorithm(keys.RSA_ENCRYPTION, asn1.null()), asn1.bits(
        asn1.seq(asn1.integer(-5), asn1.integer(65537)))),
])
def test_public_keys_that_are_none(spki: bytes) -> None:
    raw = RawCertificate(with_public_key(spki))
    with pytest.raises(DecodeError, match="public key of a certificate"):
        _ = raw.public_key


_TBS = [part.raw for part in asn1.read(make())[0]]


@pytest.mark.parametrize("data", [
    b"", asn1.integer(1), asn1.seq(), asn1.seq(asn1.seq(), asn1.seq()),
    asn1.seq(asn1.seq(), asn1.seq(), asn1.bits(b"")),
    asn1.seq(asn1.seq(*_TBS), asn1.seq(), asn1.bits(b""), asn1.null()),
    asn1.seq(asn1.integer(1), asn1.seq(), asn1.bits(b"")),
    *(asn1.seq(asn1.seq(*_TBS[:at], asn1.null(), *_TBS[at + 1:]), asn1.seq(), asn1.bits(b""))
      for at in (1, 3, 5, 6)),
    asn1.seq(asn1.seq(*_TBS[:6]), asn1.seq(), asn1.bits(b"")),
    make() + b"x",
])
def test_what_is_no_certificate(data: bytes) -> None:
    with pytest.raises(DecodeError):
        RawCertificate(data)


@pytest.mark.parametrize("extension", [
    asn1.null(), asn1.seq(), asn1.seq(asn1.oid("2.5.29.14")),
    asn1.seq(asn1.oid("2.5.29.14"), asn1.null()),
    keys.extension("2.5.29.14", b""), keys.extension("2.5.29.14", b"\x04\x05x"),
    keys.extension("2.5.29.14", asn1.integer(1)),
])
def test_a_malformed_key_identifier(extension: bytes) -> None:
    raw = RawCertificate(make(extensions=(extension,)))
    with pytest.raises(DecodeError):
        _ = raw.subject_key_identifier


def test_no_key_identifier_among_other_extensions() -> None:
    assert RawCertificate(make(extensions=(keys.basic_constraints(False),))
                          ).subject_key_identifier is None


def test_issuer_and_serial() -> None:
    name = keys.name("CN=x")
    assert IssuerAndSerial(name, 300).to_der() == asn1.seq(name, asn1.integer(300))


# --- Identity --------------------------------------------------------------------------


def test_identity_from_pem() -> None:
    ca, ra = keys.ca(), keys.ra("sign")
    key = keys.key_pem(ra.key)
    alone = pyscep.Identity.from_pem(ra.pem, key)
    assert alone.certificate == ra.certificate
    assert alone.chain == ()
    chained = pyscep.Identity.from_pem((ra.pem + ca.pem).decode(), key.decode())
    assert chained.chain == (ca.certificate,)
    assert chained.raw == RawCertificate(ra.der)
    assert "BEGIN" not in repr(chained)
    assert "private_key" not in repr(chained)


def test_identity_from_encrypted_pem() -> None:
    ra = keys.ra("sign")
    sealed = ra.key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    assert pyscep.Identity.from_pem(ra.pem, sealed, password=b"word").chain == ()
    with pytest.raises(ValueError, match="password"):
        pyscep.Identity.from_pem(ra.pem, sealed, password=b"other")


def test_the_key_of_another_certificate() -> None:
    with pytest.raises(ValueError, match="does not belong to the certificate"):
        pyscep.Identity(keys.ca().certificate, keys.rsa_key("other"))


@pytest.mark.parametrize(("certificate", "key"), [
    (b"", keys.key_pem(keys.ca().key)), (keys.ca().pem, b""), (b"x", b"y")])
def test_what_is_no_pem(certificate: bytes, key: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        pyscep.Identity.from_pem(certificate, key)

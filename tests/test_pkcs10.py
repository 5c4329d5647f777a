"""pkcs10: CSRs made and read, with OpenSSL and asn1crypto as the other side."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import csr as asn1crypto_csr
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import x25519

import pyscep
from pyscep import pkcs10
from pyscep.errors import AlgorithmError, DecodeError, SignatureError
from tests import forge_keys as keys
from tests import forge_tlv as asn1

RSA = keys.rsa_key("client")


def openssl(*arguments: str, data: bytes, cwd: Path) -> str:
    ran = subprocess.run(
        ["openssl", *arguments], input=data, cwd=cwd, check=True, capture_output=True)
    return (ran.stdout + ran.stderr).decode()


# --- create ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", [RSA, keys.ec_key("client"), keys.ed_key("client")],
                         ids=["rsa", "ec", "ed25519"])
def test_openssl_verifies_what_is_made(key: Any, tmp_path: Path) -> None:
    csr = pkcs10.create(
        key, "CN=printer-7,O=Example", challenge_password="secret word",
        sans=[x509.DNSName("a.example"), x509.UniformResourceIdentifier("urn:x")],
        extensions=[(x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2")]), True)])
    asn1.assert_der(csr.der)
    text = openssl("req", "-inform", "DER", "-noout", "-text", "-verify", "-nameopt", "RFC2253",
                   data=csr.der, cwd=tmp_path)
    assert "verify OK" in text
    assert "CN=printer-7,O=Example" in text
    assert "challengePassword        :secret word" in text
    assert "DNS:a.example, URI:urn:x" in text
    assert "Extended Key Usage: critical" in text
    csr.verify(pyscep.MODERN)


def test_asn1crypto_reads_what_is_made() -> None:
    csr = pkcs10.create(RSA, "CN=x", challenge_password="word", sans=[x509.DNSName("a.b")])
    info = asn1crypto_csr.CertificationRequest.load(csr.der)["certification_request_info"]
    assert info["version"].native == "v1"
    assert info["subject"].native == {"common_name": "x"}
    attributes = {one["type"].native: one["values"] for one in info["attributes"]}
    assert attributes["challenge_password"].native == ["word"]
    assert attributes["extension_request"][0][0]["extn_id"].native == "subject_alt_name"


@pytest.mark.parametrize(("word", "tag"), [
    ("plain-word 1", "PrintableString"), ("a_b", "UTF8String"), ("geheim\u00e4", "UTF8String"),
    ("", "PrintableString"), ("x" * 32_768, "PrintableString")])
def test_challenge_passwords_survive(word: str, tag: str) -> None:
    csr = pkcs10.read(pkcs10.create(RSA, "CN=x", challenge_password=word).der)
    assert (csr.challenge_password, csr.challenge_tag) == (word, tag)


def test_a_challenge_that_is_too_long() -> None:
    with pytest.raises(DecodeError, match="too long"):
        pkcs10.create(RSA, "CN=x", challenge_password="x" * 32_769)


def test_nothing_but_a_subject() -> None:
    csr = pkcs10.create(RSA, x509.Name([]))
    assert (csr.challenge_password, csr.challenge_tag) == (None, None)
    assert list(csr.extensions) == []
    assert csr.subject == b"\x30\x00"
    assert csr.subject_name == x509.Name([])
    assert b"\xa0\x00" in csr.der


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
def test_digests(digest: str) -> None:
    csr = pkcs10.create(RSA, "CN=x", digest=digest)
    assert csr.certificate_request.signature_hash_algorithm.name == digest  # type: ignore[union-attr]  # RSA has one
    csr.verify(pyscep.COMPATIBLE)


@pytest.mark.parametrize(("arguments", "options", "error"), [
    ((RSA, "CN=x"), {"digest": "sha3"}, ValueError),
    ((RSA, "no name"), {}, ValueError),
    ((x25519.X25519PrivateKey.generate(), "CN=x"), {}, TypeError),
])
def test_misuse(arguments: tuple[Any, Any], options: dict[str, Any], error: type) -> None:
    with pytest.raises(error):
        pkcs10.create(*arguments, **options)


# --- read ------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [asn1.PRINTABLE, asn1.UTF8, asn1.T61, asn1.IA5, asn1.BMP,
                                 asn1.UNIVERSAL])
def test_a_challenge_in_any_string_type(tag: int) -> None:
    csr = pkcs10.read(keys.csr(RSA, challenge="a word", challenge_tag=tag))
    assert csr.challenge_password == "a word"
    assert csr.challenge_tag is not None


@pytest.mark.parametrize("subject", ["/CN=device", "/C=NL/O=Lab/CN=device/emailAddress=a@b.c"])
def test_a_csr_of_openssl(subject: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(keys.key_pem(RSA))
    (tmp_path / "config").write_text(
        "[req]\ndistinguished_name=dn\nattributes=attributes\nreq_extensions=e\n[dn]\n"
        "[attributes]\nchallengePassword=word\n"
        "[e]\nsubjectAltName=DNS:a.example\nkeyUsage=digitalSignature\n")
    made = subprocess.run(
        ["openssl", "req", "-new", "-key", "key", "-subj", subject, "-outform", "DER", "-config",
         "config"], cwd=tmp_path, check=True, capture_output=True).stdout
    csr = pkcs10.read(made)
    csr.verify(pyscep.MODERN)
    assert csr.public_key == RSA.public_key()
    assert csr.spki == keys.spki(RSA)
    assert csr.subject == csr.subject_name.public_bytes()
    assert len(list(csr.extensions)) == 2


def test_equality_and_text() -> None:
    data = keys.csr(RSA, challenge="a secret")
    one, same, other = pkcs10.read(data), pkcs10.read(data), pkcs10.read(keys.csr(RSA))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != data
    assert "a secret" not in repr(one)
    assert repr(one) == f"<CertificateRequest of {len(data)} bytes>"


def parts(**shape: Any) -> list[bytes]:
    """version, subject, public key, attributes."""
    found = {"version": asn1.integer(0), "subject": keys.name("CN=x"), "spki": keys.spki(RSA),
             "attributes": asn1.tlv(0xA0)} | shape
    return [found[name] for name in ("version", "subject", "spki", "attributes")]


def signed(*pieces: bytes, key: Any = RSA) -> bytes:
    info = asn1.seq(*pieces)
    return asn1.seq(info, keys.signature_algorithm(key), asn1.bits(keys.sign(key, info)))


def challenge(*values: bytes) -> bytes:
    return keys.challenge_attribute(*values)


@pytest.mark.parametrize("data", [
    b"", asn1.seq(), asn1.seq(asn1.seq(), asn1.seq(), asn1.bits(b"")), asn1.null(),
    signed(*parts()) + b"x", signed(*parts()[:2]), signed(*parts(subject=asn1.null())),
    signed(*parts(spki=asn1.null())), signed(*parts(version=asn1.integer(1))),
    signed(*parts(version=asn1.integer(-1))), signed(*parts(version=asn1.octets(b"\x00"))),
    signed(*parts(), asn1.null()), signed(*parts(attributes=asn1.tlv(0xA1))),
    signed(*parts(attributes=asn1.tlv(0xA0, asn1.null()))),
    signed(*parts(attributes=asn1.tlv(0xA0, asn1.seq(asn1.oid("1.2.3"))))),
    signed(*parts(attributes=asn1.tlv(0xA0, asn1.seq(asn1.oid(keys.CHALLENGE_PASSWORD),
                                                     asn1.seq())))),
    asn1.BER.seq(asn1.seq(*parts()), keys.signature_algorithm(RSA), asn1.bits(bytes(256))),
    asn1.seq(asn1.Style(pad=1).seq(*parts()), keys.signature_algorithm(RSA),
             asn1.bits(bytes(256))),
    keys.ca().der,
])
def test_what_is_no_csr(data: bytes) -> None:
    with pytest.raises(DecodeError):
        pkcs10.read(data)


@pytest.mark.parametrize("attributes", [
    (challenge(),), (challenge(asn1.text("a"), asn1.text("b")),),
    (challenge(asn1.text("a")), challenge(asn1.text("a"))), (challenge(asn1.integer(1)),),
    (challenge(asn1.octets(b"a")),), (challenge(asn1.tlv(asn1.UTF8, b"\xff")),),
    (challenge(asn1.tlv(asn1.BMP, b"a")),), (challenge(asn1.text("x" * 32_769)),),
], ids=["none", "two values", "two attributes", "integer", "octets", "utf-8", "bmp", "long"])
def test_challenges_that_are_refused(attributes: tuple[bytes, ...]) -> None:
    with pytest.raises(DecodeError):
        pkcs10.read(signed(*parts(attributes=asn1.tlv(0xA0, *sorted(attributes)))))


def extension_request(*extensions: bytes) -> bytes:
    return asn1.tlv(0xA0, asn1.seq(
        asn1.oid(keys.EXTENSION_REQUEST), asn1.set_of(asn1.seq(*extensions))))


@pytest.mark.parametrize("extensions", [
    (keys.extension("2.5.29.17", asn1.seq(asn1.tlv(0xA3, asn1.seq()))),),
    (keys.extension("2.5.29.17", b"\x05"),), (keys.extension("2.5.29.19", asn1.null()),),
    (keys.basic_constraints(True), keys.basic_constraints(True)),
    (keys.extension("2.5.29.17", asn1.seq(asn1.tlv(0x87, b"abc"))),),
    (keys.extension("2.5.29.17", asn1.seq(asn1.tlv(0x82, b"\xff"))),),
], ids=["x400", "not DER", "null", "twice", "address", "not ASCII"])
def test_extensions_that_are_refused_when_they_are_looked_at(
    extensions: tuple[bytes, ...]
) -> None:
    csr = pkcs10.read(signed(*parts(attributes=extension_request(*extensions))))
    with pytest.raises(DecodeError, match="extensions of the CSR"):
        _ = csr.extensions


def test_a_subject_outside_its_string_type() -> None:
    name = asn1.seq(asn1.set_of(asn1.seq(asn1.oid("2.5.4.3"), asn1.tlv(asn1.UTF8, b"\xff"))))
    csr = pkcs10.read(signed(*parts(subject=name)))
    assert csr.subject == name
    with pytest.raises(DecodeError, match="subject of the CSR"):
        _ = csr.subject_name


def test_an_unknown_kind_of_key() -> None:
    csr = pkcs10.read(signed(*parts(spki=asn1.seq(asn1.algorithm("1.2.3"), asn1.bits(b"x")))))
    with pytest.raises(DecodeError, match="public key of the CSR"):
        _ = csr.public_key
    with pytest.raises(DecodeError, match="public key of the CSR"):
        csr.verify(pyscep.MODERN)


# --- verify ----------------------------------------------------------------------------


def test_verify() -> None:
    pkcs10.read(keys.csr(RSA)).verify(pyscep.MODERN)
    with pytest.raises(SignatureError):
        pkcs10.read(keys.csr(RSA, flip=True)).verify(pyscep.LEGACY)
    with pytest.raises(SignatureError):
        pkcs10.read(keys.csr(RSA, signing_key=keys.rsa_key("other"))).verify(pyscep.LEGACY)
    with pytest.raises(AlgorithmError, match="sha1"):
        pkcs10.read(keys.csr(RSA, digest="sha1")).verify(pyscep.MODERN)
    pkcs10.read(keys.csr(RSA, digest="sha1")).verify(pyscep.COMPATIBLE)
    with pytest.raises(AlgorithmError, match="1024 bits"):
        pkcs10.read(keys.csr(keys.rsa_key("weak", 1024))).verify(pyscep.LEGACY)


def test_a_key_object_is_adopted_only_for_the_same_key() -> None:
    public = RSA.public_key()
    csr = pkcs10.read(keys.csr(RSA))
    assert not csr.adopt_key(keys.spki(keys.rsa_key("other")), keys.rsa_key("other").public_key())
    assert csr.public_key is not public
    csr = pkcs10.read(keys.csr(RSA))
    assert csr.adopt_key(keys.spki(RSA), public)
    assert csr.public_key is public
    csr.verify(pyscep.MODERN, key_checked=True)


def test_a_csr_without_attributes_is_refused() -> None:
    """RFC 2986 section 4.1: an empty set is written, not left out; cryptography is as strict."""
    key = keys.rsa_key("client")
    body = asn1.seq(asn1.integer(0), keys.name("CN=bare"), keys.spki(key))
    bare = asn1.seq(
        body, keys.signature_algorithm(key, "sha256"), asn1.bits(keys.sign(key, body)))
    with pytest.raises(DecodeError, match="CSR"):
        pkcs10.read(bare)

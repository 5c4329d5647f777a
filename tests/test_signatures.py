"""cms.signatures: identifiers, PSS parameters, signing, verifying; OpenSSL for the other side."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

from pyscep.cms import signatures, signing
from pyscep.cms.algorithms import DIGESTS
from pyscep.codec import der
from pyscep.errors import AlgorithmError, DecodeError, ProtocolError, SignatureError
from tests import forge_keys as keys
from tests import forge_tlv as asn1

DATA = b"what is signed"
RSA = keys.rsa_key("client")
EC = keys.ec_key("client")
ED = keys.ed_key("client")


def read(identifier: bytes) -> signatures.SignatureAlgorithm:
    return signatures.signature_algorithm_from(der.read(identifier))


def pss(*parts: bytes) -> bytes:
    return asn1.algorithm(keys.RSASSA_PSS, asn1.seq(*parts))


def digest_id(name: str, parameters: bytes | None = None) -> bytes:
    return asn1.algorithm(keys.DIGEST_OIDS[name], parameters)


def mgf(name: str) -> bytes:
    return asn1.tlv(0xA1, asn1.algorithm(keys.MGF1, digest_id(name)))


def salt(length: int) -> bytes:
    return asn1.tlv(0xA2, asn1.integer(length))


def trailer(value: int) -> bytes:
    return asn1.tlv(0xA3, asn1.integer(value))


# --- identifiers -----------------------------------------------------------------------


@pytest.mark.parametrize(("dotted", "name", "kind", "digest"), [
    ("1.2.840.113549.1.1.1", "rsaEncryption", "rsa", None),
    ("1.2.840.113549.1.1.4", "md5WithRSA", "rsa", "md5"),
    ("1.2.840.113549.1.1.5", "sha1WithRSA", "rsa", "sha1"),
    ("1.3.14.3.2.29", "sha1WithRSA", "rsa", "sha1"),
    ("1.2.840.113549.1.1.14", "sha224WithRSA", "rsa", "sha224"),
    ("1.2.840.113549.1.1.11", "sha256WithRSA", "rsa", "sha256"),
    ("1.2.840.113549.1.1.12", "sha384WithRSA", "rsa", "sha384"),
    ("1.2.840.113549.1.1.13", "sha512WithRSA", "rsa", "sha512"),
    ("1.2.840.10045.2.1", "ecPublicKey", "ec", None),
    ("1.2.840.10045.4.1", "ecdsaWithSHA1", "ec", "sha1"),
    ("1.2.840.10045.4.3.2", "ecdsaWithSHA256", "ec", "sha256"),
    ("1.2.840.10045.4.3.3", "ecdsaWithSHA384", "ec", "sha384"),
    ("1.2.840.10045.4.3.4", "ecdsaWithSHA512", "ec", "sha512"),
    ("1.3.101.112", "ed25519", "ed25519", None),
])
@pytest.mark.parametrize("parameters", [None, asn1.null()])
def test_names(
    dotted: str, name: str, kind: str, digest: str | None, parameters: bytes | None
) -> None:
    found = read(asn1.algorithm(dotted, parameters))
    assert (found.name, found.kind, found.digest) == (name, kind, digest)


@pytest.mark.parametrize("dotted", ["1.2.840.113549.1.1.2", "1.2.840.10040.4.3", "1.2.3"])
def test_unknown_identifiers_are_named(dotted: str) -> None:
    with pytest.raises(AlgorithmError, match=f"unknown signature algorithm {dotted}"):
        read(asn1.algorithm(dotted))


@pytest.mark.parametrize("identifier", [
    asn1.seq(), asn1.seq(asn1.null()), asn1.null(), asn1.set_of(asn1.oid("1.2.3")),
    asn1.seq(asn1.oid("1.3.101.112"), asn1.null(), asn1.null())])
def test_what_is_no_identifier(identifier: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(identifier)


@pytest.mark.parametrize(("identifier", "digest", "length"), [
    (asn1.algorithm(keys.RSASSA_PSS), "sha1", 20),
    (pss(), "sha1", 20),
    (pss(asn1.tlv(0xA0, digest_id("sha256")), mgf("sha256"), salt(32)), "sha256", 32),
    (pss(asn1.tlv(0xA0, digest_id("sha256", asn1.null())), mgf("sha256"), salt(0)), "sha256", 0),
    (pss(asn1.tlv(0xA0, digest_id("sha512")), mgf("sha512"), salt(64), trailer(1)), "sha512", 64),
    (pss(salt(222)), "sha1", 222),
    (pss(asn1.tlv(0xA0, digest_id("sha1")), mgf("sha1"), trailer(1)), "sha1", 20),
])
def test_pss_parameters(identifier: bytes, digest: str, length: int) -> None:
    found = read(identifier)
    assert found == signatures.SignatureAlgorithm("rsassa-pss", "pss", digest, length)


@pytest.mark.parametrize("identifier", [
    pss(asn1.tlv(0xA0, digest_id("sha256"))),
    pss(mgf("sha256")),
    pss(asn1.tlv(0xA0, digest_id("sha256")), mgf("sha384")),
    pss(salt(-1)), pss(salt(1025)), pss(salt(1 << 900)), pss(trailer(2)), pss(trailer(0)),
    pss(asn1.tlv(0xA4, asn1.integer(1))), pss(asn1.tlv(0xA1, digest_id("sha1"))),
    pss(asn1.tlv(0xA1, asn1.algorithm(keys.MGF1))), pss(asn1.tlv(0xA0, asn1.algorithm("1.2.3"))),
    pss(asn1.tlv(0xA0, digest_id("sha256", asn1.integer(1)))),
])
def test_pss_parameters_that_are_refused(identifier: bytes) -> None:
    with pytest.raises(AlgorithmError):
        read(identifier)


@pytest.mark.parametrize("identifier", [
    asn1.algorithm(keys.RSASSA_PSS, asn1.null()),
    pss(asn1.tlv(0x80, b"\x01")), pss(asn1.tlv(0xA2)), pss(asn1.tlv(0xA2, asn1.octets(b"x"))),
    pss(asn1.tlv(0xA3, asn1.null())), pss(asn1.integer(20)), pss(asn1.seq()),
])
def test_pss_parameters_that_are_none(identifier: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(identifier)


# --- signing and verifying -------------------------------------------------------------


def verify(
    key: Any, identifier: bytes, digest: str, signature: bytes, data: bytes = DATA
) -> None:
    signatures.verify(key.public_key(), read(identifier), DIGESTS[digest], signature, data)


@pytest.mark.parametrize("digest", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("combined", [False, True])
def test_rsa(digest: str, combined: bool) -> None:
    made = DIGESTS[digest]
    scheme = signing.scheme_for(RSA, made, combined=combined)
    signature, identifier = scheme.sign(RSA, DATA), scheme.identifier
    assert identifier == (
        keys.signature_algorithm(RSA, digest) if combined
        else asn1.algorithm(keys.RSA_ENCRYPTION, asn1.null()))
    RSA.public_key().verify(signature, DATA, padding.PKCS1v15(), made.algorithm)
    verify(RSA, identifier, digest, signature)
    with pytest.raises(SignatureError, match="does not verify"):
        verify(RSA, identifier, digest, signature, DATA + b"x")


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
def test_ecdsa(digest: str) -> None:
    made = DIGESTS[digest]
    scheme = signing.scheme_for(EC, made, combined=False)
    signature, identifier = scheme.sign(EC, DATA), scheme.identifier
    assert identifier == keys.signature_algorithm(EC, digest)
    EC.public_key().verify(signature, DATA, ec.ECDSA(made.algorithm))
    verify(EC, identifier, digest, signature)
    for wrong in (signature[:-1], b"", b"\x30\x00", bytes(70)):
        with pytest.raises(SignatureError):
            verify(EC, identifier, digest, wrong)


def test_ed25519() -> None:
    scheme = signing.scheme_for(ED, DIGESTS["sha256"], combined=True)
    assert scheme.digest is DIGESTS["sha512"]
    signature, identifier = scheme.sign(ED, DATA), scheme.identifier
    assert identifier == keys.signature_algorithm(ED)
    verify(ED, identifier, "sha512", signature)
    with pytest.raises(SignatureError):
        verify(ED, identifier, "sha512", bytes(64))
    with pytest.raises(AlgorithmError, match="Ed25519 with the digest sha256"):
        verify(ED, identifier, "sha256", signature)


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("length", [0, 20, 64])
def test_pss(digest: str, length: int) -> None:
    made = DIGESTS[digest].algorithm
    signature = RSA.sign(DATA, padding.PSS(padding.MGF1(made), length), made)
    identifier = pss(asn1.tlv(0xA0, digest_id(digest)), mgf(digest), salt(length))
    verify(RSA, identifier, digest, signature)
    with pytest.raises(SignatureError):
        verify(RSA, identifier, digest, signature, b"other")
    other = pss(asn1.tlv(0xA0, digest_id(digest)), mgf(digest), salt(length + 1))
    with pytest.raises(SignatureError):
        verify(RSA, other, digest, signature)
    with pytest.raises(SignatureError):
        verify(RSA, pss(asn1.tlv(0xA0, digest_id(digest)), mgf(digest), salt(1024)), digest,
               signature)


@pytest.mark.parametrize("wrong", [b"", b"\x00", bytes(255), bytes(256), b"\xff" * 256, bytes(257)])
def test_what_is_no_rsa_signature(wrong: bytes) -> None:
    for identifier in (keys.signature_algorithm(RSA), pss()):
        with pytest.raises(SignatureError):
            verify(RSA, identifier, "sha256" if identifier != pss() else "sha1", wrong)


@pytest.mark.parametrize(("key", "signer"), [
    (RSA, EC), (RSA, ED), (EC, RSA), (EC, ED), (ED, RSA), (ED, EC)])
def test_an_algorithm_of_another_kind_of_key(key: Any, signer: Any) -> None:
    scheme = signing.scheme_for(signer, DIGESTS["sha512"], combined=True)
    signature, identifier = scheme.sign(signer, DATA), scheme.identifier
    with pytest.raises(AlgorithmError, match="does not fit the key"):
        verify(key, identifier, "sha512", signature)


def test_pss_needs_an_rsa_key() -> None:
    with pytest.raises(AlgorithmError, match="does not fit the key"):
        verify(EC, pss(), "sha1", b"")


def test_another_digest_than_the_identifier_names() -> None:
    signature = RSA.sign(DATA, padding.PKCS1v15(), DIGESTS["sha256"].algorithm)
    with pytest.raises(AlgorithmError, match="sha256WithRSA with the digest sha1"):
        verify(RSA, keys.signature_algorithm(RSA), "sha1", signature)


def test_what_the_key_cannot_check_is_an_algorithm_error() -> None:
    class Odd(ed25519.Ed25519PublicKey):
        def verify(self, signature: bytes, data: bytes) -> None:
            raise ValueError("no")

        public_bytes = public_bytes_raw = __eq__ = __copy__ = __deepcopy__ = None  # type: ignore[assignment]  # unused

    with pytest.raises(AlgorithmError, match="can't be checked: no"):
        signatures.verify(Odd(), read(asn1.algorithm("1.3.101.112")), DIGESTS["sha512"], b"", b"")


def test_keys_that_cannot_sign() -> None:
    with pytest.raises(TypeError, match="str can't sign"):
        signing.scheme_for("key", DIGESTS["sha256"], combined=True)


@pytest.mark.parametrize("kind", ["rsa", "ec", "ed"])
def test_no_signature_is_longer_than_the_longest(kind: str) -> None:
    key = {"rsa": RSA, "ec": EC, "ed": ED}[kind]
    scheme = signing.scheme_for(key, DIGESTS["sha256"], combined=False)
    sizes = {len(scheme.sign(key, bytes((n,)))) for n in range(40)}
    assert max(sizes) <= signing.longest_signature(key.public_key()) <= max(sizes) + 4


# --- SIGNED structures -----------------------------------------------------------------


def structure(key: Any, *, digest: str = "sha256", identifier: bytes | None = None,
              bits: bytes | None = None) -> der.Node:
    data = asn1.seq(asn1.integer(7))
    return der.read(asn1.seq(
        data, identifier or keys.signature_algorithm(key, digest),
        bits or asn1.bits(keys.sign(key, data, digest))))


def verify_structure(node: der.Node, key: Any, *digests: str) -> str:
    return signatures.verify_structure(node, key.public_key(), frozenset(digests))


def test_a_signed_structure() -> None:
    assert verify_structure(structure(RSA), RSA, "sha256") == "sha256"
    assert verify_structure(structure(EC, digest="sha384"), EC, "sha384") == "sha384"
    assert verify_structure(structure(ED), ED, "sha512") == "sha512"
    with pytest.raises(SignatureError):
        verify_structure(structure(RSA), keys.rsa_key("other"), "sha256")


@pytest.mark.parametrize("leaf_depth", [2, 25])
def test_pss_parameters_are_read_however_deep_the_index_goes(leaf_depth: int) -> None:
    data = asn1.seq(asn1.integer(7))
    identifier = pss(asn1.tlv(0xA0, digest_id("sha256")), mgf("sha256"), salt(32))
    encoded = asn1.seq(data, identifier, asn1.bits(keys.sign(RSA, data, pss=True)))
    node = der.read(encoded, leaf_depth=leaf_depth)
    assert verify_structure(node, RSA, "sha256") == "sha256"
    with pytest.raises(AlgorithmError, match="refuses a signature with sha256"):
        verify_structure(node, RSA, "sha1")


def test_a_signed_structure_with_a_digest_that_is_refused() -> None:
    for digest in ("md5", "sha1", "sha224"):
        with pytest.raises(AlgorithmError, match=f"refuses a signature with {digest}"):
            verify_structure(structure(RSA, digest=digest), RSA, "sha256")


def test_a_signed_structure_that_names_no_digest() -> None:
    plain = asn1.algorithm(keys.RSA_ENCRYPTION, asn1.null())
    with pytest.raises(AlgorithmError, match="rsaEncryption names no digest"):
        verify_structure(structure(RSA, identifier=plain), RSA, "sha256")


def test_a_signature_of_part_of_an_octet() -> None:
    with pytest.raises(DecodeError, match="whole octets"):
        verify_structure(structure(RSA, bits=asn1.bits(bytes(256), 1)), RSA, "sha256")


@pytest.mark.parametrize("size", ["-1", "-2", "20", "auto"])
def test_pss_of_openssl(tmp_path: Path, size: str) -> None:
    (tmp_path / "key").write_bytes(keys.key_pem(RSA))
    made = subprocess.run(
        ["openssl", "req", "-new", "-key", "key", "-subj", "/CN=x", "-outform", "DER", "-sha384",
         "-sigopt", "rsa_padding_mode:pss", "-sigopt", f"rsa_pss_saltlen:{size}"],
        cwd=tmp_path, check=True, capture_output=True).stdout
    assert verify_structure(der.read(made), RSA, "sha384") == "sha384"

"""cms.signed_data: one signer, verified; what rule tests leave, and OpenSSL on the other side."""

from __future__ import annotations

import copy
import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

import pyscep
from pyscep.cms import signed_data
from pyscep.cms.algorithms import DIGESTS
from pyscep.codec import der
from pyscep.errors import AlgorithmError, DecodeError, ProtocolError, SignatureError
from pyscep.identity import RawCertificate
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import identity


def verify(data: bytes, policy: Any = pyscep.MODERN, **options: Any) -> Any:
    return signed_data.verify(
        signed_data.read_signed_data(data), policy, **{"max_rsa_bits": 4096} | options)


def message(**knobs: Any) -> bytes:
    return forge.Forge(**({"content": b"content"} | knobs)).build()


# --- sign ------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"content", b"", None])
@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("combined", [False, True])
def test_openssl_verifies_what_is_signed(
    content: bytes | None, digest: str, combined: bool, tmp_path: Path
) -> None:
    party = keys.client()
    encoded = signed_data.sign(
        content, [signed_data.attribute(signed_data.SIGNING_TIME, der.time(forge.now()))],
        identity(party), DIGESTS[digest], combined_identifier=combined)
    asn1.assert_der(encoded)
    (tmp_path / "message").write_bytes(encoded)
    (tmp_path / "content").write_bytes(content or b"")
    detached = [] if content is not None else ["-content", "content"]
    ran = subprocess.run(
        ["openssl", "cms", "-verify", "-inform", "DER", "-in", "message", "-noverify", "-binary",
         *detached], cwd=tmp_path, capture_output=True, check=True)
    assert ran.stdout == (content or b"")
    verified = verify(encoded, pyscep.COMPATIBLE)
    assert verified.content == content
    assert verified.digest == digest
    assert verified.signer == RawCertificate(party.der)
    assert verified.signature_algorithm == (
        f"{digest}WithRSA" if combined else "rsaEncryption")


@pytest.mark.parametrize("key", [keys.ec_key("client"), keys.ed_key("client")],
                         ids=["ec", "ed25519"])
def test_other_kinds_of_keys_sign(key: Any, tmp_path: Path) -> None:
    party = keys.party("CN=signer", key)
    encoded = signed_data.sign(b"content", (), identity(party), DIGESTS["sha256"])
    asn1.assert_der(encoded)
    verified = verify(encoded)
    # RFC 8419 section 3.1: Ed25519 goes with SHA-512
    assert verified.digest == ("sha256" if key is keys.ec_key("client") else "sha512")
    forge.read_message(encoded)
    (tmp_path / "message").write_bytes(encoded)
    if key is keys.ec_key("client"):
        subprocess.run(
            ["openssl", "cms", "-verify", "-inform", "DER", "-in", "message", "-noverify"],
            cwd=tmp_path, capture_output=True, check=True)


def test_the_bag_is_what_is_given() -> None:
    bag = [keys.ra().der, keys.ca().der]
    encoded = signed_data.sign(
        b"", (), identity(keys.ca()), DIGESTS["sha256"], certificates=bag)
    assert [node.raw for node in verify(encoded).certificates] == sorted(bag)
    encoded = signed_data.sign(b"", (), identity(keys.ca()), DIGESTS["sha256"], certificates=[])
    assert forge.read_message(encoded, known=[keys.ca().der]).bag == ()
    with pytest.raises(SignatureError, match="not there"):
        verify(encoded)
    assert verify(encoded, signers=[RawCertificate(keys.ca().der)]).certificates == ()


def test_a_key_that_cannot_sign() -> None:
    class Stranger:
        private_key = "key"
        raw = RawCertificate(keys.ca().der)

    with pytest.raises(TypeError, match="can't sign"):
        signed_data.sign(b"", (), Stranger(), DIGESTS["sha256"])  # type: ignore[arg-type]  # the point


# --- read ------------------------------------------------------------------------------


def rebuilt(*path: int, value: bytes | None = None, **knobs: Any) -> bytes:
    """A sound message with the element at `path` exchanged, or taken out."""

    def walk(element: asn1.Element, steps: tuple[int, ...]) -> bytes:
        if not steps:
            return value or b""
        parts = [walk(child, steps[1:]) if number == steps[0] else child.raw
                 for number, child in enumerate(element)]
        return asn1.tlv(element.tag, *parts)

    return walk(asn1.read(message(**knobs)), path)


SIGNED, INFO = (1, 0), (1, 0, 4, 0)
"""Where SignedData and SignerInfo stand."""


@pytest.mark.parametrize(("path", "value"), [
    ((0,), None), ((0,), asn1.oid(forge.DATA)), ((0,), asn1.integer(1)), ((1,), None),
    ((1,), asn1.null()), ((1,), asn1.tlv(0xA0)), (SIGNED, asn1.null()), (SIGNED, asn1.seq()),
    ((*SIGNED, 0), None), ((*SIGNED, 0), asn1.octets(b"\x01")), ((*SIGNED, 1), asn1.null()),
    ((*SIGNED, 2), asn1.seq()), ((*SIGNED, 2), asn1.null()),
    ((*SIGNED, 2), asn1.seq(asn1.null())),
    ((*SIGNED, 2), asn1.seq(asn1.oid(forge.DATA), asn1.octets(b"content"))),
    ((*SIGNED, 2), asn1.seq(asn1.oid(forge.DATA), asn1.tlv(0xA0))),
    ((*SIGNED, 4), None), ((*SIGNED, 4), asn1.seq()), ((*SIGNED, 4), asn1.set_of() * 2),
    ((*SIGNED, 4), asn1.tlv(0xA2) + asn1.set_of()), (INFO, asn1.null()), (INFO, asn1.seq()),
    ((*INFO, 0), None), ((*INFO, 0), asn1.octets(b"\x01")), ((*INFO, 5), None),
    ((*INFO, 5), asn1.integer(1)), ((*INFO, 5), asn1.tlv(0x24, asn1.null())),
    ((*INFO, 4), b""),
])
def test_structures_that_are_refused(path: tuple[int, ...], value: bytes | None) -> None:
    with pytest.raises(DecodeError):
        signed_data.read_signed_data(rebuilt(*path, value=value))


@pytest.mark.parametrize(("path", "value"), [
    ((*INFO, 1), asn1.null()), ((*INFO, 1), asn1.seq()), ((*INFO, 1), asn1.seq(asn1.null())),
    ((*INFO, 1), asn1.seq(keys.name("CN=x"), asn1.null())), ((*INFO, 1), asn1.tlv(0xA0)),
    ((*INFO, 1), asn1.tlv(0x80, b"an identifier")), ((*INFO, 2), asn1.null()),
    ((*INFO, 2), asn1.seq()), ((*INFO, 4), asn1.null()), ((*INFO, 3), asn1.tlv(0xA0)),
    ((*INFO, 3), asn1.tlv(0xA0, asn1.null())), ((*INFO, 3), asn1.tlv(0xA0, asn1.seq())),
    ((*INFO, 3), asn1.tlv(0xA0, asn1.seq(asn1.null(), asn1.set_of(asn1.null())))),
    ((*INFO, 3), asn1.tlv(0xA0, asn1.seq(asn1.oid("1.2.3"), asn1.seq(asn1.null())))),
    ((*INFO, 3), asn1.tlv(0xA0, asn1.seq(asn1.oid("1.2.3"), asn1.set_of()))),
    ((*SIGNED, 2, 1, 0), asn1.integer(1)), ((*SIGNED, 2, 1, 0), asn1.seq()),
    ((*SIGNED, 3), asn1.tlv(0xA0, asn1.null())), ((*SIGNED, 3), asn1.tlv(0xA0, asn1.seq())),
])
def test_structures_that_fail_to_verify(path: tuple[int, ...], value: bytes) -> None:
    with pytest.raises(ProtocolError):
        verify(rebuilt(*path, value=value))


def test_numbers_of_certificates_and_attributes() -> None:
    der_ = keys.client().der
    assert verify(message(certificates=(der_,) * 32)).signer.der == der_
    with pytest.raises(DecodeError, match="too many certificates"):
        verify(message(certificates=(der_,) * 33))
    extra = [forge.attribute(f"1.2.3.{number}", asn1.null()) for number in range(70)]
    plain = {"message_type": None, "transaction_id": None, "sender_nonce": None}
    assert len(verify(message(extra=tuple(extra[:62]), **plain)).attributes) == 64
    with pytest.raises(DecodeError, match="too many signed attributes"):
        verify(message(extra=tuple(extra[:63]), **plain))


def test_a_certificate_that_is_too_long_is_passed_over() -> None:
    key = keys.rsa_key("client")
    huge = keys.party("CN=huge", key, extensions=(
        keys.extension("1.2.3", bytes(signed_data.MAX_CERTIFICATE_BYTES)),))
    with pytest.raises(SignatureError, match="not there"):
        verify(message(signer=huge))


def test_crls_in_a_message_are_read_and_ignored() -> None:
    crl = keys.crl(keys.ca())
    bag = asn1.tlv(0xA0, keys.client().der) + asn1.tlv(0xA1, crl)
    encoded = rebuilt(*SIGNED, 3, value=bag)
    read = signed_data.read_signed_data(encoded)
    assert [node.raw for node in read.crls] == [crl]
    assert verify(encoded).content == b"content"


def test_more_signers_than_anybody_needs() -> None:
    read = signed_data.read_signed_data(message(signer_infos=20))
    assert len(read.signers) == 16
    for count in (0, 2, 20):
        with pytest.raises(DecodeError, match="signers where there must be one"):
            verify(message(signer_infos=count))


def test_a_signer_without_signed_attributes() -> None:
    read = signed_data.read_signed_data(message(no_signed_attributes=True))
    assert read.signers[0].signed_attributes is None
    assert read.signers[0].attributes == {}


def test_bounds_of_the_signers_key() -> None:
    with pytest.raises(AlgorithmError, match="2048 bits"):
        verify(message(), max_rsa_bits=2047)


# --- content ---------------------------------------------------------------------------


def test_content_in_place_of_its_octets() -> None:
    """PKCS #7 has the content itself where CMS has its octets; its digest leaves the header out."""
    inner = forge.certs_only((keys.ca().der,), wrap=False)
    value = asn1.read(inner)
    octets = b"".join(part.raw for part in value)
    encoded = message(
        content=octets, econtent=asn1.tlv(0xA0, inner), econtent_type=forge.SIGNED_DATA)
    read = signed_data.read_signed_data(encoded)
    assert (read.content, read.nested) == (octets, inner)
    with pytest.raises(DecodeError, match="eContentType is not id-data"):
        verify(encoded)
    types = frozenset({signed_data.ID_DATA, signed_data.ID_SIGNED_DATA})
    assert verify(encoded, content_types=types).content == octets


@pytest.mark.parametrize("knobs", [{"no_content": True}, {"content": b"octets"}])
def test_nested_is_the_octets_otherwise(knobs: dict[str, Any]) -> None:
    read = signed_data.read_signed_data(message(**knobs))
    assert read.nested == (read.content or b"") == (b"" if "no_content" in knobs else b"octets")


# --- CMSAlgorithmProtection ------------------------------------------------------------


def protection(*parts: bytes) -> dict[str, Any]:
    return {"extra": (forge.attribute("algorithm_protection", asn1.seq(*parts)),)}


SHA256 = asn1.algorithm(keys.DIGEST_OIDS["sha256"])
RSA_SIGNATURE = asn1.tlv(0xA1, asn1.oid(keys.RSA_ENCRYPTION), asn1.null())


@pytest.mark.parametrize("parts", [
    (SHA256, RSA_SIGNATURE), (SHA256, asn1.tlv(0xA2, asn1.oid("1.2.3")))])
def test_algorithm_protection(parts: tuple[bytes, ...]) -> None:
    assert verify(message(**protection(*parts))).content == b"content"


@pytest.mark.parametrize(("parts", "error"), [
    ((asn1.algorithm(keys.DIGEST_OIDS["sha512"]), RSA_SIGNATURE), SignatureError),
    ((SHA256, asn1.tlv(0xA1, asn1.oid("1.2.3"))), SignatureError),
    ((SHA256,), DecodeError), ((asn1.seq(), RSA_SIGNATURE), DecodeError),
    ((asn1.null(), RSA_SIGNATURE), DecodeError), ((SHA256, asn1.tlv(0xA1)), DecodeError),
])
def test_algorithm_protection_that_is_refused(
    parts: tuple[bytes, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        verify(message(**protection(*parts)))


@pytest.mark.parametrize("data", [message(), message(style=asn1.BER)], ids=["usual", "any"])
def test_parts_are_made_when_they_are_asked_for(data: bytes) -> None:
    read = signed_data.read_signed_data(data)
    twin = copy.copy(read)
    assert read.signers is read.signers
    assert twin.version == read.version == 1
    assert twin.content == read.content == b"content"
    assert twin.content_node is not None
    for name in ("colour", "__fspath__"):
        with pytest.raises(AttributeError):
            getattr(read, name)


# --- the form that was signed ----------------------------------------------------------


@pytest.mark.parametrize("knobs", [
    {"attributes_style": asn1.BER}, {"attributes_style": asn1.Style(pad=1)},
    {"order": "reversed"}, {"order": "reversed", "sign_over": "sorted"},
    {"attributes_style": asn1.BER, "order": "reversed", "sign_over": "sorted"},
])
def test_attributes_in_other_forms(knobs: dict[str, Any]) -> None:
    assert verify(message(**knobs)).content == b"content"


def test_each_octet_of_the_attributes_counts() -> None:
    encoded = message()
    read = signed_data.read_signed_data(encoded)
    node = read.signers[0].signed_attributes
    assert node is not None
    for at in range(node.content, node.end):
        changed = bytearray(encoded)
        changed[at] ^= 0x01
        with pytest.raises(ProtocolError):
            verify(bytes(changed))


def test_each_octet_of_the_content_counts() -> None:
    encoded = message(content=b"0123456789")
    at = encoded.index(b"0123456789")
    for offset in range(10):
        changed = bytearray(encoded)
        changed[at + offset] ^= 0x80
        with pytest.raises(SignatureError, match="messageDigest"):
            verify(bytes(changed))


@pytest.mark.parametrize("name", ["content_type", "message_digest"])
def test_attributes_that_must_be_there(name: str) -> None:
    with pytest.raises(SignatureError):
        verify(message(drop=frozenset({name})))
    with pytest.raises(SignatureError):
        verify(message(replace_values=((name, (asn1.integer(1),)),)))


def test_a_digest_in_pieces_is_no_digest() -> None:
    digest = hashlib.sha256(b"content").digest()
    pieces = asn1.tlv(0x24, asn1.octets(digest[:9]), asn1.octets(digest[9:]))
    with pytest.raises(SignatureError, match="messageDigest"):
        verify(message(replace_values=(("message_digest", (pieces,)),)))


# --- who signed ------------------------------------------------------------------------


def test_certificates_are_found_by_name_and_number_or_identifier() -> None:
    candidates = [RawCertificate(party.der) for party in (
        keys.ca(), keys.ra("sign"), keys.client())]
    for party, raw in zip((keys.ca(), keys.ra("sign"), keys.client()), candidates, strict=True):
        for sid in (party.issuer_and_serial, asn1.tlv(0x80, keys.key_identifier(party.key)),
                    asn1.tlv(0xA0, asn1.octets(keys.key_identifier(party.key)))):
            assert signed_data.find_certificate(der.read(sid), candidates) is raw
    for sid in (forge.issuer_and_serial(keys.ca().subject, 2), asn1.tlv(0x80, b"x" * 20),
                forge.issuer_and_serial(keys.name("CN=x"), keys.ca().serial)):
        assert signed_data.find_certificate(der.read(sid), candidates) is None
        assert signed_data.find_certificate(der.read(sid), []) is None


def test_rubbish_in_the_bag_is_no_fault() -> None:
    """Nobody signed the bag (C12): a certificate that does not parse is passed over."""
    odd = (asn1.seq(asn1.octets(b"no certificate")), asn1.tlv(0xA2, asn1.octets(b"other")))
    signer = keys.client().der
    for bag in ((*odd, signer), (signer, *odd)):
        verified = verify(message(certificates=bag))
        assert verified.signer.der == signer
    with pytest.raises(SignatureError, match="not there"):
        verify(message(certificates=odd))

"""forge.py itself, judged by ``openssl cms`` and asn1crypto."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from asn1crypto import cms
from cryptography import x509

from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.forge_envelope import CIPHERS, Envelope, Recipient

BERS = {"der": asn1.DER, "indefinite": asn1.BER, "bouncy": asn1.BOUNCY_CASTLE,
        "long": asn1.Style(pad=2), "tiny": asn1.Style(indefinite=True, chunk=7)}


def openssl(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=False)


def openssl_verifies(message: bytes) -> bytes | None:
    """The content if `openssl cms -verify` takes the signature, else None."""
    done = openssl("cms", "-verify", "-noverify", "-binary", "-inform", "DER", data=message)
    return done.stdout if done.returncode == 0 else None


def openssl_opens(envelope: bytes, party: keys.Party, folder: Path) -> bytes | None:
    """The plaintext if `openssl cms -decrypt` opens the envelope, else None."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    key.write_bytes(keys.key_pem(party.key))
    certificate.write_bytes(party.pem)
    done = openssl("cms", "-decrypt", "-binary", "-inform", "DER", "-inkey", str(key),
                   "-recip", str(certificate), "-provider", "default", "-provider", "legacy",
                   data=envelope)
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize("style", BERS.values(), ids=BERS)
@pytest.mark.parametrize("digest", ["md5", "sha1", "sha256", "sha384", "sha512"])
def test_openssl_verifies_each_style_and_digest(style: asn1.Style, digest: str) -> None:
    message = forge.pkcs_req(keys.ca(), style=style, digest=digest)
    data = message.build()
    assert openssl_verifies(data) == message.octets
    assert forge.read_message(data).content == message.octets


@pytest.mark.parametrize("knobs", [
    {"signature": "combined"}, {"signature": "pss"}, {"sid": "ski"}, {"algorithm_protection": True},
    {"digest_parameters": asn1.null()},
    {"signing_time": asn1.utc_time(forge.now())}, {"no_signed_attributes": True},
    {"order": "reversed"},
    {"signer": keys.party("CN=ec", keys.ec_key("ec"))},
], ids=str)
def test_openssl_verifies_each_signature(knobs: dict[str, object]) -> None:
    request = keys.csr(keys.rsa_key("client"))
    message = forge.pkcs_req(keys.ca(), request=request, **knobs)
    assert openssl_verifies(message.build()) == message.octets


def test_ed25519_verifies_by_its_primitive_alone() -> None:
    """OpenSSL 3.0 has no EdDSA in CMS (RFC 8419)."""
    device = keys.party("CN=ed", keys.ed_key("ed"))
    request = keys.csr(keys.rsa_key("client"))
    message = forge.pkcs_req(keys.ca(), request=request, signer=device, digest="sha512")
    assert forge.read_message(message.build()).content == message.octets


@pytest.mark.parametrize("knobs", [
    # OpenSSL takes the attributes as they were sent, and nothing else.
    {"sign_over": "sorted", "order": "reversed"},
    {"sign_over": "A0"}, {"message_digest": bytes(32)}, {"signature_digest": "sha1"},
    {"attribute_digest": "sha1"}, {"certificates": (keys.ca().der,)}, {"signature_value": b"x"},
    {"style": asn1.Style(chunk=100), "chunks_swapped": True},
    {"after_signing": (asn1.text("19"), asn1.text("17"))},
], ids=str)
def test_openssl_refuses_what_is_forged_badly(knobs: dict[str, object]) -> None:
    assert openssl_verifies(forge.pkcs_req(keys.ca(), **knobs).build()) is None


@pytest.mark.parametrize("cipher", ["des-cbc", "des-ede3-cbc", "aes128-cbc", "aes192-cbc",
                                    "aes256-cbc"])
@pytest.mark.parametrize("style", BERS.values(), ids=BERS)
def test_openssl_opens_each_cipher_and_style(
    cipher: str, style: asn1.Style, tmp_path: Path
) -> None:
    plaintext = os.urandom(2500)
    envelope = Envelope(plaintext=plaintext, recipients=(Recipient(party=keys.ca()),),
                        cipher=cipher, style=style).build()
    assert openssl_opens(envelope, keys.ca(), tmp_path) == plaintext
    opened = forge.open_envelope(envelope, keys.ca())
    assert (opened.plaintext, opened.cipher) == (plaintext, cipher)


@pytest.mark.parametrize("to", [
    {"rid": "ski"}, {"oaep": ("sha1", "sha1")},
    {"oaep": ("sha1", "sha1"), "oaep_parameters": "empty"}, {"oaep": ("sha256", "sha256")},
    {"oaep": ("sha256", "sha1")}, {"null_parameters": False},
], ids=str)
def test_openssl_opens_each_recipient(to: dict[str, object], tmp_path: Path) -> None:
    other = Recipient(party=keys.client("other"))
    envelope = Envelope(plaintext=b"16 octets exactly",
                        recipients=(other, Recipient(party=keys.ca(), **to))).build()
    assert openssl_opens(envelope, keys.ca(), tmp_path) == b"16 octets exactly"
    assert forge.open_envelope(envelope, keys.ca()).oaep == ("oaep" in to)


def test_reader_opens_openssl(tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.write_bytes(keys.ca().pem)
    for cipher, flag in (("aes-256-cbc", "-stream"), ("des3", "-nodetach")):
        done = openssl("cms", "-encrypt", "-binary", "-outform", "DER", f"-{cipher}", flag,
                       str(certificate), data=b"x" * 3000)
        assert forge.open_envelope(done.stdout, keys.ca()).plaintext == b"x" * 3000


@pytest.mark.parametrize("shape", [{}, {"version": 3}, {"signer": keys.ca()}], ids=str)
def test_certs_only_is_what_asn1crypto_reads(shape: dict[str, object]) -> None:
    listed = (keys.ca().der, keys.ra().der)
    info = cms.ContentInfo.load(forge.certs_only(listed, **shape), strict=True)
    assert [part.dump() for part in info["content"]["certificates"]] == list(listed)


def test_certificates_are_read_by_cryptography() -> None:
    issued = x509.load_der_x509_certificate(keys.issue(keys.ca(), keys.csr(keys.rsa_key("client"))))
    issued.verify_directly_issued_by(keys.ca().certificate)
    old = keys.party("CN=old", keys.rsa_key("client"), version=0, times="generalized",
                     serial=1 << 255, extensions=()).certificate
    assert old.version is x509.Version.v1
    assert keys.ra("sign").certificate.extensions.get_extension_for_class(
        x509.KeyUsage).value.digital_signature


def test_csr_is_read_by_cryptography() -> None:
    good = x509.load_der_x509_csr(keys.csr(keys.rsa_key("client"), challenge="secret"))
    assert good.is_signature_valid
    assert good.attributes[0].value == b"secret"
    broken = x509.load_der_x509_csr(keys.csr(keys.rsa_key("client"), flip=True))
    assert not broken.is_signature_valid


def test_ciphers_know_their_sizes() -> None:
    assert {block for _, _, block in CIPHERS.values()} == {1, 8, 16}


def test_der_is_told_from_ber() -> None:
    asn1.assert_der(forge.pkcs_req(keys.ca()).build())
    for style in list(BERS.values())[1:]:
        with pytest.raises(AssertionError):
            asn1.assert_der(forge.pkcs_req(keys.ca(), style=style).build())

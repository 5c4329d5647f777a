"""GetCRL with CRLs of any length: long ones are decrypted, hashed and cut out where they stand."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from cryptography import x509

import pyscep
from pyscep.cms import signed_data
from pyscep.cms.certs_only import CertsOnly, read_certs_only, take_certs_only
from pyscep.codec.space import LONG_BYTES, Space
from pyscep.errors import DecodeError, DecryptionError, SignatureError
from pyscep.pki_message import decode_cert_rep
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import identity
from tests.forge_envelope import (
    Envelope,
    Recipient,
    inconsistent_pad,
    no_pad,
    oversized_pad,
    zero_count_pad,
)

CA, CLIENT = keys.ca(), keys.client()
TRANSACTION = pyscep.Transaction(transaction_id="T-1", sender_nonce=b"n" * 16)
STYLES = {"DER": asn1.DER, "BER": asn1.BER, "Bouncy Castle": asn1.BOUNCY_CASTLE}


def a_crl(size: int) -> bytes:
    return asn1.seq(asn1.seq(), asn1.octets(secrets.token_bytes(size)))


def reply(plain: bytes, *, style: asn1.Style = asn1.DER, **knobs: Any) -> forge.Forge:
    """A CertRep as software of others would write it."""
    envelope = Envelope(
        plaintext=plain, recipients=(Recipient(party=CLIENT),), style=style, **knobs)
    return forge.Forge(
        signer=CA, envelope=envelope, message_type="3", pki_status="0", transaction_id="T-1",
        recipient_nonce=b"n" * 16, style=style)


def read(data: bytes) -> Any:
    return decode_cert_rep(
        data, transaction=TRANSACTION, signers=(identity(CA).raw,), recipient=identity(CLIENT),
        policy=pyscep.COMPATIBLE, token_bytes=secrets.token_bytes)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("cipher", ["aes128-cbc", "des-ede3-cbc"])
@pytest.mark.parametrize("size", [
    10, *range(LONG_BYTES - 700, LONG_BYTES + 40, 37), 100_000])
def test_a_crl_of_any_length(size: int, cipher: str, style: str) -> None:
    crl = a_crl(size)
    found = read(reply(forge.certs_only(crls=(crl,)), cipher=cipher, style=STYLES[style]).build())
    assert found == CertsOnly(crls=(crl,))
    assert type(found.crls[0]) is bytes


def test_a_crl_of_16_megabytes() -> None:
    """Where a length takes four octets."""
    crl = a_crl((1 << 24) + 5)
    assert read(reply(forge.certs_only(crls=(crl,))).build()).crls == (crl,)


LONG, OTHER = a_crl(LONG_BYTES), a_crl(5)
PLAIN: dict[str, bytes] = {
    "one CRL": forge.certs_only(crls=(LONG,)),
    "version 3": forge.certs_only(crls=(LONG,), version=3),
    "signed": forge.certs_only(crls=(LONG,), signer=CA),
    "with content": forge.certs_only(
        crls=(LONG,), econtent=asn1.tlv(0xA0, asn1.octets(b"content"))),
    "two CRLs": forge.certs_only(crls=(LONG, OTHER)),
    "certificates too": forge.certs_only((CA.der, CLIENT.der), crls=(LONG,)),
    "certificates alone": forge.certs_only((CA.der, asn1.octets(bytes(LONG_BYTES)))),
    "without ContentInfo": forge.certs_only(crls=(LONG,), wrap=False),
    "BER": forge.certs_only(crls=(LONG,), style=asn1.BER),
    "trailing zero": forge.certs_only(crls=(LONG,)) + b"\x00",
    "neither": forge.certs_only(econtent=asn1.tlv(0xA0, asn1.octets(bytes(LONG_BYTES)))),
}


@pytest.mark.parametrize("name", PLAIN)
def test_every_form_of_the_content(name: str) -> None:
    plain = PLAIN[name]
    expected = read_certs_only(plain)
    assert read(reply(plain).build()) == expected
    space = Space(len(plain) + 16)
    space.view[: len(plain)] = plain
    assert take_certs_only(space, len(plain)) == expected


@pytest.mark.parametrize("plain", [
    bytes(LONG_BYTES), asn1.octets(bytes(LONG_BYTES)), PLAIN["one CRL"][:-1],
    PLAIN["one CRL"] + bytes(9), asn1.seq(asn1.octets(bytes(LONG_BYTES)))])
def test_what_is_no_certificates_only(plain: bytes) -> None:
    for _ in range(2):
        with pytest.raises(DecodeError):
            read_certs_only(plain)
        with pytest.raises(DecodeError):
            read(reply(plain).build())


@pytest.mark.parametrize("pad", [no_pad, inconsistent_pad, oversized_pad, zero_count_pad])
@pytest.mark.parametrize("size", [1000, LONG_BYTES])
def test_bad_padding_looks_the_same_in_both(pad: Any, size: int) -> None:
    plain = forge.certs_only(crls=(a_crl(size - size % 16 - 60),))
    plain += bytes(-len(plain) % 16)
    with pytest.raises(DecryptionError, match="does not open with our key"):
        read(reply(plain, pad=pad).build())


@pytest.mark.parametrize("cek", [bytes(15), bytes(17)])
def test_a_key_of_a_wrong_length(cek: bytes) -> None:
    # Under the random key in its place, one plaintext of 256 happens to be padded well.
    with pytest.raises((DecryptionError, DecodeError)):
        read(reply(PLAIN["one CRL"], cek=cek).build())


def test_a_long_content_that_was_changed() -> None:
    encoded = bytearray(reply(PLAIN["one CRL"]).build())
    encoded[len(encoded) // 2] ^= 1
    with pytest.raises(SignatureError, match="not the digest"):
        read(bytes(encoded))


def test_half_a_block() -> None:
    with pytest.raises(DecryptionError, match="whole blocks"):
        read(reply(b"", ciphertext=bytes(LONG_BYTES + 8)).build())


def test_a_long_content_is_not_copied_to_be_verified() -> None:
    data = reply(PLAIN["one CRL"]).build()
    verified = signed_data.verify(
        signed_data.read_signed_data(data), pyscep.MODERN, max_rsa_bits=4096)
    assert isinstance(verified.content, memoryview)
    assert verified.content.obj is data
    assert verified.content == signed_data.read_signed_data(data).content


@pytest.mark.parametrize("extra", [LONG_BYTES - 3000, LONG_BYTES, 90_000])
def test_a_server_opens_a_long_request(extra: int) -> None:
    """Requests take the same way as far as the envelope goes."""
    key = CLIENT.key
    long = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(extra))
    csr = pyscep.pkcs10.create(key, "CN=device", extensions=[(long, False)])
    seen = []

    def authority(request: pyscep.PkiRequest) -> pyscep.Outcome:
        seen.append(request.message)
        return pyscep.Failure()

    envelope = Envelope(plaintext=csr.der, recipients=(Recipient(party=CA),))
    pyscep.Server(identity(CA)).handle(
        pyscep.HttpRequest(
            method="POST", query=b"operation=PKIOperation",
            body=forge.Forge(signer=CLIENT, envelope=envelope).build()),
        authority)
    assert seen == [pyscep.PKCSReq(csr=csr)]

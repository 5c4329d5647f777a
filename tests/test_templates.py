"""codec.templates and codec.space: what is written in one go, against a writer that nests."""

from __future__ import annotations

import hashlib
import secrets
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

import pyscep
from pyscep.cms import certificates, sealing, signed_data
from pyscep.cms.algorithms import DIGESTS, Algorithms
from pyscep.cms.certs_only import around_crl, build_certs_only
from pyscep.cms.signing import scheme_for
from pyscep.codec import der
from pyscep.codec.space import LONG_BYTES, Space
from pyscep.codec.templates import Template, attribute_of
from pyscep.exchange import self_signed
from pyscep.identity import public_key_der
from pyscep.pki_message import encode_cert_rep
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import identity

# Where a length takes one octet more, seen from a few levels further out too.
EDGES = sorted(
    edge - nearby for edge in (0x80, 0x100, 0x10000, 0x1000000)
    for nearby in (-1, 0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 20)
)
NESTED = Template(
    b"\x05\x00",
    (0x30, der.integer(1), "first", (0xA0, (0x31, "second", b"\x01\x01\xff"), (0x04, "third"))),
    (0x30,),
)


def nested(first: bytes, second: bytes, third: bytes) -> bytes:
    tlv = asn1.tlv
    return asn1.null() + tlv(
        0x30, asn1.integer(1), first,
        tlv(0xA0, tlv(0x31, second, b"\x01\x01\xff"), tlv(0x04, third))) + tlv(0x30)


@pytest.mark.parametrize("size", EDGES)
def test_lengths(size: int) -> None:
    for values in ((bytes(size), b"", b""), (b"", bytes(size), b""), (b"", b"", bytes(size))):
        expected = nested(*values)
        assert NESTED.fill(*values) == expected
        for hole, name in enumerate(NESTED.names):
            others = [value for at, value in enumerate(values) if at != hole]
            before, after = NESTED.around(name, len(values[hole]), *others)
            assert before + values[hole] + after == expected


@given(st.tuples(*[st.integers(0, 300).map(bytes)] * 3))
def test_any_values(values: tuple[bytes, bytes, bytes]) -> None:
    assert NESTED.fill(*values) == nested(*values)


def test_a_wrong_number_of_values() -> None:
    for values in ((), (b"",) * 2, (b"",) * 4):
        with pytest.raises(ValueError, match="zip"):
            NESTED.fill(*values)
    with pytest.raises(ValueError, match="two slots"):
        Template((0x30, "a", (0x30, "a")))


@pytest.mark.parametrize("size", [*range(96, 136), 255, 256, 65535])
def test_attributes_of_any_length(size: int) -> None:
    oid = der.oid("2.16.840.1.113733.1.9.7")
    expected = asn1.seq(oid, asn1.tlv(0x31, asn1.tlv(0x13, b"x" * size)))
    assert attribute_of(oid, 0x13, b"x" * size) == expected


@pytest.mark.parametrize(("size", "start", "end"), [
    (1, 0, 1), (100, 0, 100), (100, 30, 100), (100, 30, 90), (100, 30, 40), (100, 5, 5),
    (300_000, 3, 299_999), (300_000, 200_000, 200_001)])
def test_a_space_becomes_bytes(size: int, start: int, end: int) -> None:
    octets = secrets.token_bytes(size)
    space = Space(size)
    assert len(space.view) == size
    space.view[:] = octets
    assert space.cut(start, end) == octets[start:end]
    with pytest.raises(ValueError, match="released"):
        space.view[0] = 1


# --- certificates -----------------------------------------------------------------------


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050])
@pytest.mark.parametrize("extra", [0, 60, 100, 200, 40_000])
def test_a_certificate_as_cryptography_makes_it(year: int, extra: int) -> None:
    client = keys.client()
    name = x509.Name.from_rfc4514_string("CN=device,O=Lab")
    more = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(extra))
    start, end = datetime(year, 2, 28, 1, 2, 3, tzinfo=UTC), datetime(year + 1, 12, 31, tzinfo=UTC)
    for serial in (1, 127, 128, 255, 256, (1 << 159) - 1):
        expected = (
            x509.CertificateBuilder(name, name, client.key.public_key(), serial, start, end)
            .add_extension(more, critical=False)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .sign(client.key, hashes.SHA256())
        )
        scheme = scheme_for(client.key, DIGESTS["sha256"], combined=True)
        tbs = certificates.tbs_certificate(
            serial_number=serial, algorithm=scheme.identifier, issuer=name.public_bytes(),
            validity=der.time(start) + der.time(end), subject=name.public_bytes(),
            spki=public_key_der(client.key.public_key()),
            extensions=certificates.extension(der.oid("1.2.3.4"), bytes(extra))
            + certificates.extension(
                der.oid("2.5.29.19"), x509.BasicConstraints(True, None).public_bytes(),
                critical=True))
        made = certificates.signed(tbs, scheme, client.key)
        assert made == expected.public_bytes(Encoding.DER)


def test_the_certificate_of_a_first_request_as_cryptography_makes_it() -> None:
    key, now = keys.client().key, datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    csr = pyscep.pkcs10.create(key, "CN=device,O=Lab", challenge_password="word")
    made = self_signed(key, csr, now=now, token_bytes=lambda size: b"\x81" * size)
    off = dict.fromkeys(("content_commitment", "data_encipherment", "key_agreement",
                         "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
    expected = (
        x509.CertificateBuilder(
            csr.subject_name, csr.subject_name, key.public_key(),
            int.from_bytes(b"\x01" + b"\x81" * 15, "big"),
            now - timedelta(days=1), now + timedelta(days=7))
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_encipherment=True, **off), critical=True)
        .sign(key, hashes.SHA256())
    )
    assert made.certificate == expected
    assert made.raw == pyscep.RawCertificate(expected.public_bytes(Encoding.DER))


# --- written in place -------------------------------------------------------------------

TRANSACTION = pyscep.Transaction(transaction_id="AB" * 16, sender_nonce=b"n" * 16)


class Constant(rsa.RSAPublicKey):
    """Encrypts one key to the same octets each time, so that whole messages can be compared."""

    def __init__(self, size: int) -> None:
        self.size = size

    def encrypt(self, plaintext: bytes, padding: Any) -> bytes:
        return (hashlib.sha512(plaintext).digest() * 8)[: self.size]

    key_size = property(lambda self: 8 * self.size)
    verify = recover_data_from_signature = public_numbers = public_bytes = None  # type: ignore[assignment]  # unused
    __eq__ = __copy__ = __deepcopy__ = None  # type: ignore[assignment]  # unused


def recipient() -> Any:
    made = pyscep.RawCertificate(keys.client().der)
    made.__dict__["public_key"] = Constant(256)
    return made


@pytest.mark.parametrize("size", [1, 40, *EDGES])
def test_in_place_is_the_same(size: int) -> None:
    crl, algorithms, signer = secrets.token_bytes(size), Algorithms(), identity(keys.ca())
    plain = build_certs_only((), (crl,))
    before, after = around_crl(size)
    assert before + crl + after == plain
    envelope = sealing.encrypt(plain, recipient(), algorithms, token_bytes=bytes)
    sealer = sealing.Sealer(len(plain), recipient(), algorithms, bytes)
    assert sealer.size == len(envelope)
    expected = signed_data.sign(envelope, [], signer, DIGESTS["sha256"])
    assert expected == signed_data.sign_in_place(
        sealer.size, lambda target: sealer.seal_into(target, before, crl, after), [], signer,
        DIGESTS["sha256"])


@pytest.mark.parametrize("kind", ["ec", "ed25519"])
def test_in_place_with_signatures_of_any_length(kind: str) -> None:
    """An ECDSA signature is shorter than the room for it: around a boundary the head is too."""
    key = keys.ec_key("client") if kind == "ec" else keys.ed_key("client")
    signer = identity(keys.party("CN=signer", key))

    def signed(size: int) -> bytes:
        return signed_data.sign_in_place(
            size, lambda target: target.__setitem__(slice(size), bytes(size)), [], signer,
            DIGESTS["sha256"])

    overhead = len(signed(70_000)) - 70_000
    for size in range(0x10000 - overhead - 8, 0x10000 - overhead + 24):
        encoded = signed(size)
        asn1.assert_der(encoded)
        verified = signed_data.verify(
            signed_data.read_signed_data(encoded), pyscep.MODERN, max_rsa_bits=4096)
        assert verified.content == bytes(size)


@pytest.mark.parametrize("cipher", ["des-ede3-cbc", "aes128-cbc", "aes256-cbc"])
@pytest.mark.parametrize("size", [LONG_BYTES - 1, LONG_BYTES, 100_000, 1 << 20])
def test_openssl_opens_a_crl_of_any_length(cipher: str, size: int, tmp_path: Path) -> None:
    client, signer = keys.client(), keys.ca()
    crl = asn1.seq(secrets.token_bytes(size))
    reply = encode_cert_rep(
        pyscep.Success(crls=(crl,)), transaction=TRANSACTION, signer=identity(signer),
        recipient=pyscep.RawCertificate(client.der), algorithms=Algorithms(cipher=cipher),
        token_bytes=secrets.token_bytes)
    assert type(reply) is bytes
    assert cms.ContentInfo.load(reply).copy().dump(force=True) == reply
    key = client.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    ca, recipient = (one.certificate.public_bytes(Encoding.PEM) for one in (signer, client))
    for name, data in {"reply": reply, "ca": ca, "client": recipient, "key": key}.items():
        (tmp_path / name).write_bytes(data)
    for command in (
        "-verify -in reply -inform DER -out envelope -CAfile ca -purpose any -binary",
        "-decrypt -in envelope -inform DER -recip client -inkey key -out content -binary",
    ):
        subprocess.run(["openssl", "cms", *command.split()], cwd=tmp_path, check=True,
                       capture_output=True)
    content = cms.ContentInfo.load((tmp_path / "content").read_bytes())["content"]
    assert [one.dump() for one in content["crls"]] == [crl]

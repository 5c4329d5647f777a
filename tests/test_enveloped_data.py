"""cms.enveloped_data: sealed, opened, and faults that all look the same; OpenSSL beside it."""

from __future__ import annotations

import copy
import secrets
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa

import pyscep
from pyscep.cms import enveloped_data, sealing
from pyscep.cms.algorithms import CIPHERS, Algorithms
from pyscep.codec import der
from pyscep.errors import AlgorithmError, DecodeError, DecryptionError, ProtocolError
from pyscep.identity import RawCertificate
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import identity
from tests.forge import open_envelope
from tests.forge_envelope import (
    DATA,
    ENVELOPED_DATA,
    Envelope,
    Recipient,
    inconsistent_pad,
    kek_recipient,
    no_pad,
    oversized_pad,
    raw_rsa,
    zero_count_pad,
)

PLAIN = b"what is in the envelope"
CA = keys.ca()


def opened(data: bytes, *parties: keys.Party, policy: Any = pyscep.LEGACY,
           token_bytes: Any = secrets.token_bytes) -> enveloped_data.OpenedEnvelope:
    return enveloped_data.decrypt(
        enveloped_data.read_enveloped_data(data),
        tuple(map(identity, parties or (CA,))), policy, token_bytes=token_bytes)


def sealed(*parties: keys.Party, **knobs: Any) -> bytes:
    recipients = tuple(Recipient(party=party) for party in parties or (CA,))
    return Envelope(**({"plaintext": PLAIN, "recipients": recipients} | knobs)).build()


# --- sealing ---------------------------------------------------------------------------


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("size", [0, 1, 7, 8, 15, 16, 17, 5000])
def test_round_trip(cipher: str, size: int) -> None:
    data = secrets.token_bytes(size)
    encoded = sealing.encrypt(
        data, RawCertificate(CA.der), Algorithms(cipher=cipher), token_bytes=secrets.token_bytes)
    asn1.assert_der(encoded)
    other = open_envelope(encoded, CA)
    assert (other.plaintext, other.cipher, other.version) == (data, cipher, 0)
    assert len(other.ciphertext) == size + CIPHERS[cipher].block_size - (
        size % CIPHERS[cipher].block_size)
    found = opened(encoded)
    assert (found.plaintext, found.sound, found.cipher) == (data, True, cipher)
    assert found.recipient.certificate == CA.certificate


@pytest.mark.parametrize("cipher", ["aes128-cbc", "aes192-cbc", "aes256-cbc", "des-ede3-cbc"])
@pytest.mark.parametrize("transport", [
    Algorithms(), Algorithms(key_transport="rsaes-oaep"),
    Algorithms(key_transport="rsaes-oaep", oaep_digest="sha256", oaep_mgf_digest="sha256"),
    Algorithms(key_transport="rsaes-oaep", oaep_digest="sha512", oaep_mgf_digest="sha1")],
    ids=["pkcs1", "oaep", "oaep sha256", "oaep mixed"])
def test_openssl_opens_ours(cipher: str, transport: Algorithms, tmp_path: Path) -> None:
    encoded = sealing.encrypt(
        PLAIN, RawCertificate(CA.der), replace(transport, cipher=cipher),
        token_bytes=secrets.token_bytes)
    (tmp_path / "key").write_bytes(keys.key_pem(CA.key))
    (tmp_path / "cert").write_bytes(CA.pem)
    (tmp_path / "envelope").write_bytes(encoded)
    ran = subprocess.run(
        ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", "envelope", "-recip", "cert",
         "-inkey", "key", "-binary"], cwd=tmp_path, check=True, capture_output=True)
    assert ran.stdout == PLAIN
    assert opened(encoded).key_transport.name == transport.key_transport


@pytest.mark.parametrize("options", [
    ("-aes-128-cbc",), ("-aes-256-cbc", "-keyid"), ("-des3",), ("-aes128", "-stream")])
def test_ours_opens_openssl(options: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "cert").write_bytes(CA.pem)
    (tmp_path / "plain").write_bytes(PLAIN)
    made = subprocess.run(
        ["openssl", "cms", "-encrypt", "-binary", "-outform", "DER", "-in", "plain", "-recip",
         "cert", *options], cwd=tmp_path, check=True, capture_output=True).stdout
    assert opened(made).plaintext == PLAIN


@pytest.mark.parametrize("key", [keys.ec_key("client"), keys.ed_key("client")])
def test_a_recipient_that_cannot_decrypt(key: Any) -> None:
    certificate = RawCertificate(keys.party("CN=x", key).der)
    with pytest.raises(AlgorithmError, match="an RSA key is needed"):
        sealing.encrypt(b"", certificate, Algorithms(), token_bytes=bytes)


# --- reading ---------------------------------------------------------------------------


def shape(*fields: bytes, content: bytes | None = None) -> bytes:
    return asn1.seq(asn1.oid(ENVELOPED_DATA), asn1.tlv(0xA0, content or asn1.seq(*fields)))


VERSION, ONE = asn1.integer(0), asn1.set_of(Recipient(party=CA).build(bytes(16), asn1.DER))
AES = asn1.algorithm("2.16.840.1.101.3.4.1.2", asn1.octets(bytes(16)))
CONTENT = asn1.seq(asn1.oid(DATA), AES, asn1.tlv(0x80, bytes(16)))


@pytest.mark.parametrize("parts", [(VERSION, ONE, CONTENT), (VERSION, ONE, CONTENT,
                                                              asn1.tlv(0xA1))],
                         ids=["usual", "any"])
def test_parts_are_made_when_they_are_asked_for(parts: tuple[bytes, ...]) -> None:
    read = enveloped_data.read_enveloped_data(shape(*parts))
    twin = copy.copy(read)
    assert read.recipients is read.recipients
    assert twin.recipient_count == 1
    assert twin.encrypted_content == twin.encrypted_node.value == bytes(16)
    for name in ("colour", "__fspath__"):
        with pytest.raises(AttributeError):
            getattr(read, name)


def test_originator_info_is_passed_over() -> None:
    info = asn1.tlv(0xA0, asn1.tlv(0xA0, CA.der))
    found = enveloped_data.read_enveloped_data(shape(VERSION, info, ONE, CONTENT))
    assert (found.version, found.recipient_count, len(found.recipients)) == (0, 1, 1)
    assert enveloped_data.read_enveloped_data(
        shape(VERSION, ONE, CONTENT, asn1.tlv(0xA1))).encrypted_content == bytes(16)


@pytest.mark.parametrize("data", [
    b"", asn1.null(), asn1.seq(), shape(VERSION, ONE, CONTENT) + b"x",
    asn1.seq(asn1.oid(DATA), asn1.tlv(0xA0, asn1.seq(VERSION, ONE, CONTENT))),
    asn1.seq(asn1.oid(ENVELOPED_DATA)), asn1.seq(asn1.oid(ENVELOPED_DATA), asn1.null()),
    asn1.seq(asn1.oid(ENVELOPED_DATA), asn1.tlv(0xA0)), shape(content=asn1.null()),
    shape(VERSION, ONE), shape(VERSION, asn1.tlv(0xA0), ONE), shape(asn1.null(), ONE, CONTENT),
    shape(VERSION, asn1.set_of(), CONTENT), shape(VERSION, asn1.seq(ONE), CONTENT),
    shape(VERSION, asn1.set_of(asn1.seq()), CONTENT),
    shape(VERSION, asn1.set_of(*[kek_recipient()] * 17), CONTENT),
    shape(VERSION, asn1.set_of(asn1.seq(asn1.null(), asn1.seq(), asn1.seq(), asn1.octets(b""))),
          CONTENT),
    shape(VERSION, asn1.set_of(asn1.seq(VERSION, asn1.seq(), asn1.seq(), asn1.null())), CONTENT),
    shape(VERSION, ONE, asn1.seq()), shape(VERSION, ONE, asn1.null()),
    shape(VERSION, ONE, asn1.seq(asn1.oid(DATA), AES)),
    shape(VERSION, ONE, asn1.seq(asn1.null(), AES, asn1.tlv(0x80))),
])
def test_what_is_no_envelope(data: bytes) -> None:
    with pytest.raises(DecodeError):
        enveloped_data.read_enveloped_data(data)


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "nothing to decode"), (b"\x31\x05", "ContentInfo has tag 0x31"),
    (b"\x04\x80" + bytes(40), "ContentInfo has tag 0x04"),
    (b"\x1f" * 40_000, "ContentInfo has tag 0x1f"), (b"\x30", "ends inside a tag or length"),
])
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_the_tag_is_looked_at_before_the_bounds(data: bytes, reason: str, kind: Any) -> None:
    with pytest.raises(DecodeError) as caught:
        enveloped_data.read_enveloped_data(kind(data))
    assert (caught.value.reason, caught.value.offset) == (reason, 0)


def test_sixteen_recipients() -> None:
    infos = asn1.set_of(*[kek_recipient()] * 15, Recipient(party=CA).build(bytes(16), asn1.DER))
    found = enveloped_data.read_enveloped_data(shape(VERSION, infos, CONTENT))
    assert (found.recipient_count, len(found.recipients)) == (16, 1)


# --- opening ---------------------------------------------------------------------------


def test_the_first_recipient_that_is_ours_counts() -> None:
    calls: list[str] = []

    class Key(rsa.RSAPrivateKey):
        """Counts what is decrypted with it."""

        def __init__(self, name: str, key: Any) -> None:
            self.name, self.key = name, key

        def decrypt(self, *arguments: Any) -> Any:
            calls.append(self.name)
            return self.key.decrypt(*arguments)

        def public_key(self) -> Any:
            return self.key.public_key()

        private_bytes = private_numbers = key_size = sign = None  # type: ignore[assignment]  # unused
        __copy__ = __deepcopy__ = None  # type: ignore[assignment]  # unused

    ra = keys.ra("encrypt")
    ours = [pyscep.Identity(party.certificate, Key(name, party.key))
            for name, party in (("ca", CA), ("ra", ra))]
    envelope = enveloped_data.read_enveloped_data(sealed(keys.client(), ra, CA))
    found = enveloped_data.decrypt(envelope, ours, pyscep.MODERN, token_bytes=secrets.token_bytes)
    assert found.plaintext == PLAIN
    assert found.recipient is ours[1]
    assert calls == ["ra"]


@pytest.mark.parametrize("rid", [asn1.null(), asn1.seq(), asn1.tlv(0x81, b"x"), asn1.tlv(0xA0)])
def test_a_malformed_recipient_identifier(rid: bytes) -> None:
    data = sealed(recipients=(Recipient(party=CA, rid=rid),))
    with pytest.raises(ProtocolError):
        opened(data)


@pytest.mark.parametrize("size", [0, 1, 15, 17, 31])
def test_a_ciphertext_that_is_not_whole_blocks(size: int) -> None:
    with pytest.raises(DecryptionError, match="whole blocks"):
        opened(sealed(ciphertext=bytes(size)))


def test_another_content_type() -> None:
    with pytest.raises(DecodeError, match="content type"):
        opened(sealed(content_type=ENVELOPED_DATA))


BROKEN: dict[str, dict[str, Any]] = {
    "key too short": {"cek": bytes(15)},
    "key too long": {"cek": bytes(17)},
    "no key": {"cek": b""},
    "padding 0": {"pad": zero_count_pad},
    "padding too long": {"pad": oversized_pad},
    "padding inconsistent": {"pad": inconsistent_pad},
    "no padding": {"pad": no_pad},
    "random ciphertext": {"ciphertext": bytes(range(64))},
    "key of another": {"recipients": (Recipient(party=CA, encrypted_key=keys.rsa_key(
        "other").public_key().encrypt(bytes(16), padding.PKCS1v15())),)},
    "not padded": {"recipients": (Recipient(party=CA, encrypted_key=raw_rsa(CA, bytes(256))),)},
    "too short": {"recipients": (Recipient(party=CA, encrypted_key=bytes(255)),)},
    "too long": {"recipients": (Recipient(party=CA, encrypted_key=bytes(257)),)},
    "above the modulus": {"recipients": (Recipient(party=CA, encrypted_key=b"\xff" * 256),)},
    "empty": {"recipients": (Recipient(party=CA, encrypted_key=b""),)},
}


@pytest.mark.parametrize("name", BROKEN)
def test_faults_are_a_flag_and_nothing_else(name: str) -> None:
    sizes: list[int] = []

    def token_bytes(size: int) -> bytes:
        sizes.append(size)
        return b"\x07" * size

    for _ in range(5):  # one random plaintext in 256 ends like a padded one
        sizes.clear()
        found = opened(sealed(**BROKEN[name]), token_bytes=token_bytes)
        if not found.sound:
            break
    assert not found.sound
    assert len(found.plaintext) % 16 == 0
    assert found.plaintext
    # the substitute is made whether it is needed or not
    assert sizes == [16]
    assert repr(found.plaintext) not in repr(found)


def test_a_token_that_raises_is_like_a_wrong_ciphertext() -> None:
    class Token(rsa.RSAPrivateKey):
        def decrypt(self, *arguments: Any) -> Any:
            raise OSError("CKR_ENCRYPTED_DATA_INVALID")

        def public_key(self) -> Any:
            return CA.key.public_key()

        private_bytes = private_numbers = key_size = sign = None  # type: ignore[assignment]  # unused
        __copy__ = __deepcopy__ = None  # type: ignore[assignment]  # unused

    envelope = enveloped_data.read_enveloped_data(sealed())
    found = enveloped_data.decrypt(
        envelope, (pyscep.Identity(CA.certificate, Token()),), pyscep.MODERN,
        token_bytes=secrets.token_bytes)
    assert not found.sound


@pytest.mark.parametrize("block", [8, 16])
def test_every_padding(block: int) -> None:
    for count in range(256):
        for body in (b"", bytes(block)):
            padded = (body + bytes([count]) * block)[:len(body) + block]
            plain, sound = enveloped_data._unpad(padded, block)
            assert sound == (1 <= count <= block)
            assert plain == (padded[:-count] if sound else padded)
    for count in range(2, block + 1):
        for at in range(1, count):
            padded = bytearray(bytes(block - count) + bytes([count]) * count)
            padded[-1 - at] ^= 1
            assert enveloped_data._unpad(bytes(padded), block) == (bytes(padded), False)


@pytest.mark.parametrize(("cipher", "policy"), [
    ("des-ede3-cbc", "modern"), ("des-cbc", "compatible")])
def test_the_policy_is_asked_before_the_key(cipher: str, policy: str) -> None:
    with pytest.raises(AlgorithmError, match="refuses the cipher"):
        opened(sealed(keys.client(), cipher=cipher),
               policy=pyscep.AlgorithmPolicy.named(policy))


def test_the_policy_is_asked_about_the_key_transport() -> None:
    oaep = replace(pyscep.MODERN, key_transports=frozenset({"rsaes-oaep"}))
    with pytest.raises(AlgorithmError, match="refuses the key transport rsaEncryption"):
        opened(sealed(), policy=oaep)
    data = sealed(recipients=(Recipient(party=CA, oaep=("sha256", "sha256")),))
    assert opened(data, policy=oaep).plaintext == PLAIN


def test_content_in_pieces() -> None:
    for style in (asn1.BER, asn1.BOUNCY_CASTLE, asn1.Style(indefinite=True, chunk=7)):
        assert opened(sealed(style=style)).plaintext == PLAIN
    assert opened(sealed(encrypted_content="definite")).plaintext == PLAIN
    wrong = asn1.seq(asn1.oid(DATA), AES, asn1.tlv(0xA0, asn1.null()))
    with pytest.raises(DecodeError):
        opened(shape(VERSION, ONE, wrong))
    assert der.read(CONTENT).tag == der.SEQUENCE

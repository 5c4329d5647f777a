"""OpenSSL's cms command as an independent judge of what we write, and author of what we read."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from pyscep.cms.algorithms import DIGESTS, LEGACY, Algorithms
from pyscep.cms.enveloped_data import decrypt, read_enveloped_data
from pyscep.cms.sealing import encrypt
from pyscep.cms.signed_data import attribute, read_signed_data, sign, verify
from pyscep.codec import der
from pyscep.enums import FailInfo
from pyscep.http import HttpRequest
from pyscep.identity import Identity
from pyscep.messages import (
    CertPoll,
    ClientMessage,
    Failure,
    Outcome,
    Pending,
    PKCSReq,
    RenewalReq,
    Success,
)
from pyscep.pkcs10 import create
from pyscep.pki_message import encode_cert_rep, encode_request
from pyscep.server import PkiRequest, Server
from pyscep.transaction import new_transaction

from . import peers
from .rows import (
    CIPHER_COLUMNS,
    DIGEST_COLUMNS,
    ENVELOPE_ROWS,
    IN_KIND_ROWS,
    MESSAGE_ROWS,
    SIGNATURE_ROWS,
    Row,
)

# Single DES left OpenSSL's default provider with version 3.
LEGACY_PROVIDER = ("-provider", "default", "-provider", "legacy")
OPENSSL_CIPHERS = {
    "des-cbc": "-des",
    "des-ede3-cbc": "-des3",
    "aes128-cbc": "-aes128",
    "aes192-cbc": "-aes192",
    "aes256-cbc": "-aes256",
}
# The signed attributes of a request (RFC 8894 section 3.2.1).
MESSAGE_TYPE = der.oid("2.16.840.1.113733.1.9.2")
SENDER_NONCE = der.oid("2.16.840.1.113733.1.9.5")
TRANSACTION_ID = der.oid("2.16.840.1.113733.1.9.7")
OPENSSL_NAMES = {
    "des-cbc": "des-cbc",
    "des-ede3-cbc": "des-ede3-cbc",
    "aes128-cbc": "aes-128-cbc",
    "aes192-cbc": "aes-192-cbc",
    "aes256-cbc": "aes-256-cbc",
}
TRANSPORTS = {
    "rsaEncryption": Algorithms(),
    "OAEP": Algorithms(key_transport="rsaes-oaep"),
    "OAEP sha256": Algorithms(
        key_transport="rsaes-oaep", oaep_digest="sha256", oaep_mgf_digest="sha256"
    ),
    "OAEP sha256, MGF1 sha1": Algorithms(key_transport="rsaes-oaep", oaep_digest="sha256"),
}
OPENSSL_TRANSPORTS = {
    "rsaEncryption": (),
    "OAEP": ("-keyopt", "rsa_padding_mode:oaep"),
    "OAEP sha256": ("-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"),
    "OAEP sha256, MGF1 sha1": (
        "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256",
        "-keyopt", "rsa_mgf1_md:sha1",
    ),
}  # fmt: skip
PLAINTEXT = b"pkcsPKIEnvelope " * 200 + b"with an odd end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A self-signed identity, in memory and as files for openssl."""

    home: Path
    identity: Identity
    certificate: Path
    key: Path

    def file(self, name: str, data: bytes) -> Path:
        path = self.home / name
        path.write_bytes(data)
        return path


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory) -> Holder:
    peers.require("openssl")
    home = tmp_path_factory.mktemp("openssl")
    key = peers.new_key(home / "key.pem")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "oracle")])
    start = datetime.now(UTC) - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=2))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    path = peers.write_certificates(home / "certificate.pem", certificate)
    identity = Identity(certificate=certificate, private_key=key)
    return Holder(home=home, identity=identity, certificate=path, key=home / "key.pem")


def matrix(rows: tuple[Row, ...], columns: tuple[str, ...]) -> pytest.MarkDecorator:
    cases = [(row, column) for row in rows for column in columns if column not in row.absent]
    return pytest.mark.parametrize(
        ("row", "column"), cases, ids=[f"{row.id}-{column}" for row, column in cases]
    )


def sealed_by_openssl(data: bytes, options: str, cipher: str, holder: Holder) -> bytes:
    """An envelope made by ``openssl cms -encrypt``; options are joined by " + "."""
    transport, *words = options.split(" + ")
    out = holder.home / "sealed"
    peers.openssl(
        "cms", "-encrypt", "-binary", "-outform", "DER", OPENSSL_CIPHERS[cipher],
        "-in", holder.file("plain", data), "-out", out, *words,
        "-recip", holder.certificate, *OPENSSL_TRANSPORTS[transport], *LEGACY_PROVIDER,
    )  # fmt: skip
    sealed = out.read_bytes()
    assert ("-stream" in words) == (sealed[1] == 0x80), "indefinite length, or not"
    return sealed


@pytest.mark.cell
@matrix(ENVELOPE_ROWS, CIPHER_COLUMNS)
def test_envelopes(row: Row, column: str, holder: Holder) -> None:
    if row.client == "pyscep encrypts":
        sealed = encrypt(
            PLAINTEXT,
            holder.identity.raw,
            replace(TRANSPORTS[row.topology], cipher=column),
            token_bytes=secrets.token_bytes,
        )
        opened = holder.home / "opened"
        opened.unlink(missing_ok=True)
        peers.openssl(
            "cms", "-decrypt", "-inform", "DER", "-binary", "-inkey", holder.key,
            "-recip", holder.certificate, "-in", holder.file("sealed", sealed),
            "-out", opened, *LEGACY_PROVIDER,
        )  # fmt: skip
        assert opened.read_bytes() == PLAINTEXT
        return
    sealed = sealed_by_openssl(PLAINTEXT, row.topology, column, holder)
    read = decrypt(
        read_enveloped_data(sealed), (holder.identity,), LEGACY, token_bytes=secrets.token_bytes
    )
    assert read.sound
    assert read.plaintext == PLAINTEXT
    assert read.cipher == column
    wanted = TRANSPORTS[row.topology.split(" + ")[0]]
    assert (read.key_transport.name, read.key_transport.digest, read.key_transport.mgf_digest) == (
        wanted.key_transport,
        wanted.oaep_digest,
        wanted.oaep_mgf_digest,
    )


@pytest.mark.cell
@matrix(SIGNATURE_ROWS, DIGEST_COLUMNS)
def test_signatures(row: Row, column: str, holder: Holder) -> None:
    out = holder.home / "content"
    if row.client == "pyscep signs":
        content = {"absent eContent": None, "empty eContent": b""}.get(row.topology, PLAINTEXT)
        signed = sign(
            content,
            (),
            holder.identity,
            DIGESTS[column],
            combined_identifier=row.topology == "shaNNNWithRSA",
        )
        # Without eContent the signature counts as detached, over nothing.
        nothing = ("-content", holder.file("nothing", b"")) if content is None else ()
        peers.openssl(
            "cms", "-verify", "-noverify", "-binary", "-inform", "DER",
            "-in", holder.file("signed", signed), "-out", out, *nothing,
        )  # fmt: skip
        assert out.read_bytes() == (content or b"")
        return
    signed_path = holder.home / "signed"
    options = row.topology.split(" + ")
    peers.openssl(
        "cms", "-sign", "-binary", "-nodetach", "-nosmimecap", "-outform", "DER",
        "-md", column, "-signer", holder.certificate, "-inkey", holder.key,
        *(word for option in options[1:] for word in option.split()),
        "-in", holder.file("plain", PLAINTEXT), "-out", signed_path,
    )  # fmt: skip
    signed = signed_path.read_bytes()
    assert ("-stream" in options) == (signed[1] == 0x80), "indefinite length, or not"
    message = verify(read_signed_data(signed), LEGACY, max_rsa_bits=4096)
    assert message.content == PLAINTEXT
    assert message.digest == column
    assert message.signer == holder.identity.raw


def opened_by_openssl(message: bytes, holder: Holder) -> Path:
    """Take the signature off, then the envelope; gives the file with what was inside."""
    sealed, plain = holder.home / "sealed", holder.home / "inside"
    plain.unlink(missing_ok=True)
    peers.openssl(
        "cms", "-verify", "-noverify", "-binary", "-inform", "DER",
        "-in", holder.file("message", message), "-out", sealed,
    )  # fmt: skip
    peers.openssl(
        "cms", "-decrypt", "-binary", "-inform", "DER", "-in", sealed, "-out", plain,
        "-recip", holder.certificate, "-inkey", holder.key, *LEGACY_PROVIDER,
    )  # fmt: skip
    return plain


@pytest.mark.cell
@matrix(MESSAGE_ROWS, CIPHER_COLUMNS)
def test_messages(row: Row, column: str, holder: Holder) -> None:
    identity = holder.identity
    algorithms = replace(TRANSPORTS[row.topology], cipher=column)
    transaction = new_transaction(secrets.token_bytes)
    if row.client == "CertRep":
        message = encode_cert_rep(
            Success(certificates=(identity.certificate,)),
            transaction=transaction,
            signer=identity,
            recipient=identity.raw,
            algorithms=algorithms,
            token_bytes=secrets.token_bytes,
        )
        inside = opened_by_openssl(message, holder)
        listed = holder.home / "listed.pem"
        peers.openssl("pkcs7", "-inform", "DER", "-print_certs", "-in", inside, "-out", listed)
        assert peers.read_certificate(listed) == identity.certificate
        return
    csr = create(identity.private_key, "CN=oracle,O=Lab", challenge_password="right-horse")
    poll = CertPoll(issuer=identity.raw.subject, subject=csr.subject)
    kinds: dict[str, ClientMessage] = {
        "PKCSReq": PKCSReq(csr=csr),
        "RenewalReq": RenewalReq(csr=csr),
        "CertPoll": poll,
    }
    message = encode_request(
        kinds[row.client],
        transaction=transaction,
        signer=identity,
        recipient=identity.raw,
        algorithms=algorithms,
        token_bytes=secrets.token_bytes,
        signing_time=datetime.now(UTC),
    )
    inside = opened_by_openssl(message, holder)
    if row.client == "CertPoll":
        shown = peers.openssl("asn1parse", "-inform", "DER", "-in", inside).output
        assert shown.count(":oracle") == 2, shown
        return
    assert inside.read_bytes() == csr.der
    shown = peers.openssl("req", "-inform", "DER", "-in", inside, "-verify", "-text").output
    assert "right-horse" in shown
    assert "verify OK" in shown


@pytest.mark.cell
@matrix(IN_KIND_ROWS, CIPHER_COLUMNS)
def test_server_answers_in_kind(row: Row, column: str, holder: Holder) -> None:
    """What opens a request also seals its reply: cipher, key transport, digests of OAEP."""
    identity = holder.identity
    csr = create(identity.private_key, "CN=oracle,O=Lab", challenge_password="right-horse")
    transaction = new_transaction(secrets.token_bytes)
    message = sign(
        sealed_by_openssl(csr.der, row.topology, column, holder),
        (
            attribute(MESSAGE_TYPE, der.string(der.PRINTABLE_STRING, "19")),
            attribute(TRANSACTION_ID, der.string(der.PRINTABLE_STRING, transaction.transaction_id)),
            attribute(SENDER_NONCE, der.octet_string(transaction.sender_nonce)),
        ),
        identity,
        DIGESTS["sha256"],
    )
    asked: list[PkiRequest] = []

    def authority(request: PkiRequest) -> Outcome:
        asked.append(request)
        return Success(certificates=(identity.certificate,))

    request = HttpRequest(method="POST", query=b"operation=PKIOperation", body=message)
    reply = Server(identity, policy=LEGACY).handle(request, authority)
    assert reply.status == 200
    (seen,) = asked
    assert isinstance(seen.message, PKCSReq)
    assert seen.message.csr == csr
    transport = TRANSPORTS[row.topology.split(" + ")[0]]
    assert seen.algorithms == replace(transport, cipher=column)
    inside = opened_by_openssl(reply.body, holder)
    listed = holder.home / "listed.pem"
    peers.openssl("pkcs7", "-inform", "DER", "-print_certs", "-in", inside, "-out", listed)
    assert peers.read_certificate(listed) == identity.certificate
    structure = peers.openssl(
        "cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", holder.home / "sealed"
    ).output
    assert ("rsaesOaep" in structure) == (transport.key_transport == "rsaes-oaep"), structure
    assert OPENSSL_NAMES[column] in structure


@pytest.mark.parametrize("empty", [True, False], ids=["empty eContent", "strict"])
@pytest.mark.parametrize("outcome", [Pending(), Failure(fail_info=FailInfo.BAD_ALG, text="no")])
def test_cert_rep_without_envelope(outcome: Outcome, empty: bool, holder: Holder) -> None:
    message = encode_cert_rep(
        outcome,
        transaction=new_transaction(secrets.token_bytes),
        signer=holder.identity,
        recipient=None,
        algorithms=Algorithms(),
        token_bytes=secrets.token_bytes,
        empty_content=empty,
    )
    nothing = () if empty else ("-content", holder.file("nothing", b""))
    out = holder.home / "content"
    peers.openssl(
        "cms", "-verify", "-noverify", "-binary", "-inform", "DER",
        "-in", holder.file("message", message), "-out", out, *nothing,
    )  # fmt: skip
    assert out.read_bytes() == b""

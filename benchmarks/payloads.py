"""Requests of the sizes that real devices send, with a server and an authority in memory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from benchmarks.floor import FloorInputs
from pyscep import codec
from pyscep.cms import enveloped_data, signed_data
from pyscep.cms.certs_only import build_certs_only
from pyscep.pki_message import encode_request
from pyscep.transaction import new_transaction

# Length of the challengePassword, in characters, that gives a query of about that size.
CHALLENGE_SIZES = {"3 KB": 24, "40 KB": 26_000}
NOW = datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    """One PKCSReq as a GET request, with the server that answers it."""

    name: str
    server: pyscep.Server
    authority: pyscep.Authority
    request: pyscep.HttpRequest
    floor: FloorInputs


def make_identity(common_name: str, bits: int = 2048) -> pyscep.Identity:
    """A CA that signs and decrypts by itself."""
    key = rsa.generate_private_key(65537, bits)
    name = x509.Name.from_rfc4514_string(f"CN={common_name}")
    return pyscep.Identity(issue(name, name, key.public_key(), key, ca=True), key)


def issue(
    subject: x509.Name, issuer: x509.Name, public_key: Any, key: Any, *, ca: bool = False
) -> x509.Certificate:
    """Sign a certificate."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .sign(key, hashes.SHA256())
    )


def make_enrollment(name: str, challenge_characters: int) -> Enrollment:
    """Build a request and everything that answers it."""
    identity = make_identity("Benchmark CA")
    challenge = ("Sealed challenge 0123456789 " * 2000)[:challenge_characters]
    client_key = rsa.generate_private_key(65537, 2048)
    csr = pyscep.pkcs10.create(client_key, "CN=device,O=Lab", challenge_password=challenge)
    signer_name = x509.Name.from_rfc4514_string("CN=device,O=Lab")
    signer = pyscep.Identity(
        issue(signer_name, signer_name, client_key.public_key(), client_key), client_key
    )
    algorithms = pyscep.Algorithms()
    message = encode_request(
        pyscep.PKCSReq(csr=csr),
        transaction=new_transaction(bytes),
        signer=signer,
        recipient=identity.raw,
        algorithms=algorithms,
        token_bytes=bytes,
    )
    request = pyscep.HttpRequest(
        method="GET",
        path="/scep",
        query=b"operation=PKIOperation&message=" + codec.encode_message(message).encode(),
    )
    issuer_name = identity.certificate.subject
    issuing_key = identity.private_key

    def authority(pki_request: pyscep.PkiRequest) -> pyscep.Outcome:
        match pki_request.message:
            case pyscep.PKCSReq(csr=wanted, challenge_password=str(word)) if word == challenge:
                certificate = issue(
                    wanted.subject_name, issuer_name, wanted.public_key, issuing_key
                )
                return pyscep.Success(certificates=(certificate,))
            case _:
                return pyscep.Failure()

    return Enrollment(
        name=name,
        server=pyscep.Server(identity),
        authority=authority,
        request=request,
        floor=_floor_inputs(identity, client_key, message, csr, signer),
    )


def _floor_inputs(
    identity: pyscep.Identity,
    client_key: Any,
    message: bytes,
    csr: pyscep.CertificateRequest,
    signer: pyscep.Identity,
) -> FloorInputs:
    outer = signed_data.read_signed_data(message)
    content = outer.content or b""
    attributes = outer.signers[0].signed_attributes
    if attributes is None:
        raise ValueError("the request has no signed attributes")
    envelope = enveloped_data.read_enveloped_data(content)
    certificate = signer.certificate
    reply = build_certs_only([certificate.public_bytes(Encoding.DER)])
    padded = reply + bytes(16 - len(reply) % 16)
    return FloorInputs(
        ca_key=identity.private_key,
        client_key=client_key,
        signed_attributes=attributes.raw,
        envelope=content,
        ciphertext=envelope.encrypted_content,
        csr_info=csr.certificate_request.tbs_certrequest_bytes,
        certificate_tbs=certificate.tbs_certificate_bytes,
        reply_plaintext=padded,
        reply_envelope=padded + bytes(500),
        reply_attributes=attributes.raw + bytes(100),
    )

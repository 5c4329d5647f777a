"""Messages of the sizes that real devices send, with a server and an authority in memory."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
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
from pyscep.cms.algorithms import DIGESTS
from pyscep.cms.certificates import extension, signed, tbs_certificate
from pyscep.cms.certs_only import build_certs_only
from pyscep.cms.signing import scheme_for
from pyscep.codec import der
from pyscep.pki_message import encode_request
from pyscep.transaction import new_transaction

# Length of the challengePassword, in characters; the query gets about as long as the name says.
CHALLENGE_SIZES = {"small": 24, "8k": 3_608, "24k": 14_904, "40k": 26_200}
NOW = datetime.now(UTC)
RSA_SHA256 = der.sequence(der.oid("1.2.840.113549.1.1.11"), der.null())
_EXTENSIONS = extension(der.oid("2.5.29.19"), der.sequence())


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    """One PKCSReq as a GET request, with the server that answers it."""

    name: str
    server: pyscep.Server
    authority: pyscep.Authority
    builder_authority: pyscep.Authority
    """The same with cryptography's CertificateBuilder."""
    request: pyscep.HttpRequest
    message: bytes
    """The pkiMessage in DER."""
    csr: pyscep.CertificateRequest
    challenge: str
    transaction: pyscep.Transaction
    signer: pyscep.Identity
    identity: pyscep.Identity
    floor: FloorInputs

    @property
    def text(self) -> bytes:
        """The value of ``message`` in the query."""
        return self.request.query.partition(b"message=")[2]

    def for_message(self, message: bytes) -> pyscep.HttpRequest:
        """Another message to the same server."""
        return get_request(message)


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


def make_signer(key: Any, subject: str) -> pyscep.Identity:
    """The self-signed certificate of a device."""
    name = x509.Name.from_rfc4514_string(subject)
    return pyscep.Identity(issue(name, name, key.public_key(), key), key)


def der_issuer(identity: pyscep.Identity) -> Callable[[Any], x509.Certificate]:
    """Issue as pyscep.ca does: the TBSCertificate is written, then signed."""
    key, issuer = identity.private_key, identity.raw.subject
    scheme = scheme_for(key, DIGESTS["sha256"], combined=True)
    validity = der.time(NOW) + der.time(NOW + timedelta(days=365))

    def sign(csr: pyscep.CertificateRequest) -> x509.Certificate:
        tbs = tbs_certificate(
            serial_number=int.from_bytes(b"\x01" + secrets.token_bytes(15), "big"),
            algorithm=scheme.identifier,
            issuer=issuer,
            validity=validity,
            subject=csr.subject,
            spki=csr.spki,
            extensions=_EXTENSIONS,
        )
        return x509.load_der_x509_certificate(signed(tbs, scheme, key))

    return sign


def builder_issuer(identity: pyscep.Identity) -> Callable[[Any], x509.Certificate]:
    """Issue with cryptography's CertificateBuilder."""
    issuer, key = identity.certificate.subject, identity.private_key

    def sign(csr: pyscep.CertificateRequest) -> x509.Certificate:
        return issue(csr.subject_name, issuer, csr.public_key, key)

    return sign


def authority_of(challenge: str, sign: Callable[[Any], x509.Certificate]) -> pyscep.Authority:
    """An authority that compares the challenge and signs."""
    secret = challenge.encode()

    def authority(request: pyscep.PkiRequest) -> pyscep.Outcome:
        match request.message:
            case pyscep.PKCSReq(csr=csr, challenge_password=str(word)) if hmac.compare_digest(
                word.encode(), secret
            ):
                return pyscep.Success(certificates=(sign(csr),))
            case _:
                return pyscep.Failure()

    return authority


def make_enrollment(name: str, challenge_characters: int) -> Enrollment:
    """Build a request and everything that answers it."""
    identity = make_identity("Benchmark CA")
    challenge = ("Sealed challenge 0123456789 " * 2000)[:challenge_characters]
    client_key = rsa.generate_private_key(65537, 2048)
    csr = pyscep.pkcs10.create(client_key, "CN=device,O=Lab", challenge_password=challenge)
    signer = make_signer(client_key, "CN=device,O=Lab")
    transaction = new_transaction(secrets.token_bytes)
    message = encode_request(
        pyscep.PKCSReq(csr=csr),
        transaction=transaction,
        signer=signer,
        recipient=identity.raw,
        algorithms=pyscep.Algorithms(),
        token_bytes=secrets.token_bytes,
        signing_time=NOW,
    )
    return Enrollment(
        name=name,
        server=pyscep.Server(identity),
        authority=authority_of(challenge, der_issuer(identity)),
        builder_authority=authority_of(challenge, builder_issuer(identity)),
        request=get_request(message),
        message=message,
        csr=csr,
        challenge=challenge,
        transaction=transaction,
        signer=signer,
        identity=identity,
        floor=floor_inputs(
            identity,
            signer,
            message,
            build_certs_only([signer.certificate.public_bytes(Encoding.DER)]),
            csr_info=csr.certificate_request.tbs_certrequest_bytes,
        ),
    )


def get_request(message: bytes) -> pyscep.HttpRequest:
    """A pkiMessage in a GET request."""
    return pyscep.HttpRequest(
        method="GET",
        path="/scep",
        query=b"operation=PKIOperation&message=" + codec.encode_message(message).encode(),
    )


def floor_inputs(
    identity: pyscep.Identity,
    signer: pyscep.Identity,
    message: bytes,
    reply: bytes,
    *,
    csr_info: bytes = b"",
) -> FloorInputs:
    """What the floors work on, for a request and the certificates-only content of its reply."""
    outer = signed_data.read_signed_data(message)
    content = outer.content or b""
    attributes = outer.signers[0].signed_attributes
    if attributes is None:
        raise ValueError("the request has no signed attributes")
    ciphertext = enveloped_data.read_enveloped_data(content).encrypted_content
    padded = reply + bytes(16 - len(reply) % 16)
    return FloorInputs(
        ca_key=identity.private_key,
        client_key=signer.private_key,
        signed_attributes=attributes.raw,
        envelope=content,
        ciphertext=ciphertext,
        request_plaintext=bytes(len(ciphertext)),
        csr_info=csr_info,
        certificate_tbs=signer.certificate.tbs_certificate_bytes,
        reply_plaintext=padded,
        reply_envelope=padded + bytes(500),
        reply_attributes=attributes.raw + bytes(100),
    )

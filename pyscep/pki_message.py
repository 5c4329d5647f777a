"""pkiMessages: a signature around an envelope around messageData (RFC 8894 section 3).

Only this module knows that order. What it hands out is verified, or is named ``peek``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, assert_never

from cryptography.hazmat.primitives.serialization import Encoding

from pyscep.attributes import (
    PKI_STATUS,
    RECIPIENT_NONCE,
    cert_rep_attributes,
    common_attributes,
    failure_of,
    message_type_of,
    nonce_of,
    number_of,
    transaction_of,
)
from pyscep.cms import enveloped_data, sealing, signed_data
from pyscep.cms.algorithms import DIGESTS, AlgorithmPolicy, Algorithms, cipher_from
from pyscep.cms.certs_only import (
    CertsOnly,
    around_crl,
    build_certs_only,
    read_certs_only,
    take_certs_only,
)
from pyscep.cms.enveloped_data import TokenBytes
from pyscep.cms.signed_data import SignedData, VerifiedMessage
from pyscep.codec import der
from pyscep.codec.space import LONG_BYTES, Octets
from pyscep.enums import MessageType, PkiStatus
from pyscep.errors import (
    AlgorithmError,
    DecodeError,
    DecryptionError,
    ProtocolError,
    SignatureError,
)
from pyscep.identity import MAX_SERIAL_BYTES, Identity, IssuerAndSerial, RawCertificate
from pyscep.messages import (
    CertPoll,
    ClientMessage,
    Failure,
    GetCert,
    GetCRL,
    Outcome,
    Pending,
    PKCSReq,
    RenewalReq,
    Success,
)
from pyscep.pkcs10 import CertificateRequest
from pyscep.transaction import (
    NONCE_BYTES,
    Transaction,
    same_transaction,
)

_DER: Final = Encoding.DER


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterRequest:
    """A request whose signature is verified and whose envelope is still closed."""

    message_type: MessageType
    transaction: Transaction
    signer: RawCertificate
    digest: str
    signature_algorithm: str
    signing_time: datetime | None
    envelope: Octets = field(repr=False)


# --- requests, server side ------------------------------------------------------------


def peek_transaction(message: SignedData) -> Transaction | None:
    """The transaction that an unverified request claims, to address a refusal; or None."""
    try:
        return transaction_of(message.signers[0].attributes) if message.signers else None
    except ProtocolError:
        return None


def open_request(verified: VerifiedMessage, transaction: Transaction | None = None) -> OuterRequest:
    """Read the SCEP attributes of a verified request.

    Args:
        transaction: what ``peek_transaction`` said of the same message, not to read it twice.

    Raises:
        DecodeError: an attribute is missing or malformed, or the messageType is unknown or
            not a client's.
    """
    attributes = verified.attributes
    message_type = message_type_of(attributes)
    if message_type is MessageType.CERT_REP:
        raise DecodeError("a client does not send CertRep")
    if not verified.content:
        raise DecodeError("a request without an envelope")
    time = signed_data.SIGNING_TIME
    return OuterRequest(
        message_type=message_type,
        transaction=transaction or transaction_of(attributes),
        signer=verified.signer,
        digest=verified.digest,
        signature_algorithm=verified.signature_algorithm,
        signing_time=attributes[time].time("signingTime") if time in attributes else None,
        envelope=verified.content,
    )


def decrypt_request(
    outer: OuterRequest,
    identities: Sequence[Identity],
    policy: AlgorithmPolicy,
    *,
    token_bytes: TokenBytes,
) -> tuple[ClientMessage, Algorithms, Identity]:
    """Open the envelope of a request and read the message in it.

    A CSR's own signature and key are checked too.

    Returns:
        The message, the algorithms to mirror in the reply, and which identity opened it.

    Raises:
        AlgorithmError: an identifier in the clear that is unknown or refused.
        DecryptionError: anything else, without saying what.
    """
    try:
        envelope = enveloped_data.read_enveloped_data(outer.envelope)
    except DecodeError as error:
        raise DecryptionError("the signed content is not an envelope") from error
    opened = enveloped_data.decrypt(envelope, identities, policy, token_bytes=token_bytes)
    message, fault = None, None
    try:
        message = _client_message(outer.message_type, opened.plaintext)
        match message:
            case PKCSReq(csr=csr) | RenewalReq(csr=csr):
                shared = csr.adopt_key(outer.signer.spki, outer.signer.public_key)
                csr.verify(policy, key_checked=shared)
    except ProtocolError as error:
        fault = error
    # Judged once, after everything: padding, structure and CSR must look the same outside.
    if message is None or fault is not None or not opened.sound:
        raise DecryptionError("the envelope does not hold what its type says") from fault
    transport = opened.key_transport
    algorithms = Algorithms(
        digest=outer.digest,
        signature=outer.signature_algorithm,
        cipher=opened.cipher,
        key_transport=transport.name,
        oaep_digest=transport.digest,
        oaep_mgf_digest=transport.mgf_digest,
    )
    return message, algorithms, opened.recipient


def _client_message(message_type: MessageType, data: bytes) -> ClientMessage:
    match message_type:
        case MessageType.PKCS_REQ:
            return PKCSReq(csr=CertificateRequest(data))
        case MessageType.RENEWAL_REQ:
            return RenewalReq(csr=CertificateRequest(data))
        case MessageType.CERT_POLL:
            names = der.read(data).fields(der.SEQUENCE, 2, "IssuerAndSubject")
            if len(names) != 2:
                raise DecodeError("IssuerAndSubject is two names")
            issuer = names[0].expect(der.SEQUENCE, "issuer").raw
            return CertPoll(issuer=issuer, subject=names[1].expect(der.SEQUENCE, "subject").raw)
        case MessageType.GET_CERT:
            return GetCert(target=_issuer_and_serial(data))
        case MessageType.GET_CRL:
            return GetCRL(target=_issuer_and_serial(data))
        case _:
            raise DecodeError(f"no message data for {message_type.name}")


def _issuer_and_serial(data: bytes) -> IssuerAndSerial:
    fields = der.read(data).fields(der.SEQUENCE, 2, "IssuerAndSerialNumber")
    if len(fields) != 2:
        raise DecodeError("IssuerAndSerialNumber is a name and a number")
    serial = fields[1].integer("serialNumber")
    if serial < 0 or len(fields[1].value) > MAX_SERIAL_BYTES:
        raise DecodeError("serialNumber out of bounds", offset=fields[1].start)
    return IssuerAndSerial(fields[0].expect(der.SEQUENCE, "issuer").raw, serial)


# --- requests, client side ------------------------------------------------------------


def encode_request(
    message: ClientMessage,
    *,
    transaction: Transaction,
    signer: Identity,
    recipient: RawCertificate,
    algorithms: Algorithms,
    token_bytes: TokenBytes,
    signing_time: datetime | None = None,
) -> bytes:
    """Make a request: encrypt to the server, sign with the client's key.

    Args:
        recipient: the certificate of the CA or RA that decrypts.
        signing_time: added if given; phones with wrong clocks do without.

    Returns:
        The pkiMessage in DER.

    Raises:
        AlgorithmError: the recipient's key can't encrypt.
    """
    data = _message_data(message)
    envelope = sealing.encrypt(data, recipient, algorithms, token_bytes=token_bytes)
    attributes = common_attributes(message.message_type, transaction, transaction.sender_nonce)
    if signing_time is not None:
        attributes.append(der.attribute(signed_data.SIGNING_TIME, der.time(signing_time)))
    return signed_data.sign(
        envelope,
        attributes,
        signer,
        DIGESTS[algorithms.digest],
        combined_identifier=algorithms.signature != "rsaEncryption",
    )


def _message_data(message: ClientMessage) -> bytes:
    match message:
        case PKCSReq(csr=csr) | RenewalReq(csr=csr):
            return csr.der
        case CertPoll(issuer=issuer, subject=subject):
            return der.sequence(issuer, subject)
        case GetCert(target=target) | GetCRL(target=target):
            return target.to_der()
        case _:
            assert_never(message)


# --- CertRep, server side -------------------------------------------------------------


def encode_cert_rep(
    outcome: Outcome,
    *,
    transaction: Transaction,
    signer: Identity,
    recipient: RawCertificate | None,
    algorithms: Algorithms,
    token_bytes: TokenBytes,
    empty_content: bool = True,
) -> bytes:
    """Make a CertRep.

    Args:
        transaction: of the request; its nonce goes back as recipientNonce.
        signer: the CA or RA.
        recipient: the certificate that signed the request; SUCCESS is encrypted to it.
        empty_content: FAILURE and PENDING carry an empty eContent, which several clients
            need, rather than none, which RFC 8894 section 3.3.2.2 asks for.

    Raises:
        AlgorithmError: the recipient's key can't encrypt.
    """
    attributes = cert_rep_attributes(outcome, transaction, token_bytes(NONCE_BYTES))
    digest = DIGESTS[algorithms.digest]
    content: bytes | None = b"" if empty_content else None
    match outcome:
        case Success(certificates=certificates, crls=crls):
            if recipient is None:
                raise ValueError("a SUCCESS needs the certificate that signed the request")
            if len(crls) == 1 and not certificates and len(crls[0]) >= LONG_BYTES:
                write = _crl_writer(crls[0], recipient, algorithms, token_bytes)
                return signed_data.sign_in_place(*write, attributes, signer, digest)
            data = build_certs_only([one.public_bytes(_DER) for one in certificates], crls)
            content = sealing.encrypt(data, recipient, algorithms, token_bytes=token_bytes)
    return signed_data.sign(content, attributes, signer, digest)


def _crl_writer(
    crl: bytes, recipient: RawCertificate, algorithms: Algorithms, token_bytes: TokenBytes
) -> tuple[int, Callable[[memoryview], None]]:
    """The size of an envelope with one CRL, and what writes it where it will stand."""
    before, after = around_crl(len(crl))
    size = len(before) + len(crl) + len(after)
    sealer = sealing.Sealer(size, recipient, algorithms, token_bytes)
    return sealer.size, lambda target: sealer.seal_into(target, before, crl, after)


# --- CertRep, client side -------------------------------------------------------------


def decode_cert_rep(
    data: bytes,
    *,
    transaction: Transaction,
    signers: Sequence[RawCertificate],
    recipient: Identity,
    policy: AlgorithmPolicy,
    token_bytes: TokenBytes,
) -> CertsOnly | Pending | Failure:
    """Read and verify the answer to a request.

    Args:
        transaction: of the request.
        signers: the certificates of the server that may sign.
        recipient: who signed the request, and so opens the reply.

    Returns:
        What a SUCCESS carries, or Pending, or Failure.

    Raises:
        SignatureError: not signed by the server.
        AlgorithmError: algorithms that the policy refuses.
        DecodeError: not a CertRep, or one for another request.
        DecryptionError: a SUCCESS that does not open.
    """
    message = signed_data.read_signed_data(data)
    try:
        verified = signed_data.verify(
            message, policy, signers=signers, max_rsa_bits=policy.max_ca_rsa_bits
        )
    except AlgorithmError as error:
        raise _with_cipher(error, message, policy) from None
    attributes = verified.attributes
    if message_type_of(attributes) is not MessageType.CERT_REP:
        raise DecodeError("the answer is not a CertRep")
    theirs = transaction_of(attributes)
    nonce = nonce_of(attributes, RECIPIENT_NONCE, "recipientNonce")
    if not nonce or not same_transaction(transaction, theirs.transaction_id, nonce):
        raise SignatureError("the answer belongs to another request")
    match number_of(attributes, PKI_STATUS, "pkiStatus"):
        case PkiStatus.SUCCESS:
            return _open_success(verified.content, recipient, policy, token_bytes)
        case PkiStatus.PENDING:
            return Pending()
        case PkiStatus.FAILURE:
            return failure_of(attributes)
        case status:
            raise DecodeError(f"unknown pkiStatus {status}")


def _with_cipher(
    error: AlgorithmError, message: SignedData, policy: AlgorithmPolicy
) -> AlgorithmError:
    """Name a refused content encryption too, so that one error tells all that is needed."""
    try:
        envelope = enveloped_data.read_enveloped_data(message.content or b"")
        policy.require_cipher(cipher_from(envelope.content_algorithm)[0].name)
    except AlgorithmError as second:
        return AlgorithmError(f"{error.reason}; {second.reason}")
    except ProtocolError:
        pass
    return error


def _open_success(
    content: Octets | None,
    recipient: Identity,
    policy: AlgorithmPolicy,
    token_bytes: TokenBytes,
) -> CertsOnly:
    if not content:
        raise DecodeError("a SUCCESS without an envelope")
    envelope = enveloped_data.read_enveloped_data(content)
    opened = enveloped_data.decrypt(
        envelope,
        (recipient,),
        policy,
        token_bytes=token_bytes,
        in_place=len(content) >= LONG_BYTES,
    )
    if not opened.sound:
        raise DecryptionError("the reply does not open with our key")
    if opened.space is not None:
        return take_certs_only(opened.space, opened.size)
    return read_certs_only(opened.plaintext)

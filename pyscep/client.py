"""The client role: flows that yield HttpRequests and are sent HttpResponses. No I/O.

RFC 8894 section 2.3 and 4. ``run`` and ``run_async`` of pyscep.adapters.transport drive
them, with any sender.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeVar

from cryptography import x509

from pyscep import trust
from pyscep.capabilities import POST, Capabilities
from pyscep.cms import signed_data
from pyscep.cms.algorithms import MODERN, AlgorithmPolicy, Algorithms
from pyscep.cms.certs_only import CertsOnly, read_certs_only
from pyscep.enums import Operation
from pyscep.errors import DecodeError, EnrollmentRefused, TransportError
from pyscep.exchange import (
    Session,
    body_of,
    issued_certificates,
    require_rsa,
    self_signed,
    verify_issued,
)
from pyscep.http import Endpoint, HttpRequest, HttpResponse
from pyscep.identity import Identity, IssuerAndSerial, RawCertificate, public_key_der
from pyscep.messages import (
    CertPoll,
    ClientMessage,
    Failure,
    GetCert,
    GetCRL,
    Pending,
    PKCSReq,
    RenewalReq,
    Success,
)
from pyscep.pkcs10 import CertificateRequest
from pyscep.pki_message import decode_cert_rep, encode_request
from pyscep.transaction import PendingEnrollment, Transaction, new_transaction
from pyscep.trust import CaCertificates

T = TypeVar("T")
Flow = Generator[HttpRequest, HttpResponse, T]

MAX_REPLY_BYTES: Final = 1024 * 1024
MAX_CRL_BYTES: Final = 64 * 1024 * 1024


class Client:
    """A SCEP client for one server.

    Args:
        url: of the server, ``http://`` or ``https://``; without a path the RFC's default
            ``/cgi-bin/pkiclient.exe`` is used.
        ca_fingerprint: SHA-256 over the CA certificate, 64 hex digits with or without
            ``sha256:`` and colons.
        ca_certificates: CA certificates that are known already, instead of a fingerprint.
        ra_fingerprints: SHA-256 of the server's RA certificates; given, no other end-entity
            certificate acts for the CA. Without, one is told from a device's by its
            extendedKeyUsage, which a CA that issues device certificates without any undoes.
        next_ca_certificates: of ``get_next_ca_cert``: ask for certificates under the CA that
            comes next (RFC 8894 section 5.1); the present one must be pinned all the same.
        trust_on_first_use: believe whatever the server sends. Only where nobody else can
            answer in its place.
        policy: which algorithms are used and accepted.
        ca_identifier: the name of a CA, for servers with several (older drafts).
        method: how PKIOperation travels: ``auto`` (POST where announced), ``post``, ``get``.
        require_capabilities: keywords that the server is known to announce; a list without
            them is taken for an attack.
        check_key_usage: insist that the certificates which sign and decrypt may do so; None
            means yes, but not under the ``legacy`` policy (micromdm's scepserver 2.1.0 has a
            CA certificate without keyEncipherment).
        now, token_bytes: clock and randomness, for tests.

    Raises:
        ValueError: a URL, fingerprint or method that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_fingerprint: str | None = None,
        ca_certificates: Sequence[x509.Certificate] = (),
        ra_fingerprints: Sequence[str] = (),
        next_ca_certificates: Sequence[x509.Certificate] = (),
        trust_on_first_use: bool = False,
        policy: AlgorithmPolicy = MODERN,
        ca_identifier: str | None = None,
        method: Literal["auto", "post", "get"] = "auto",
        require_capabilities: Sequence[str] = (),
        check_key_usage: bool | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        token_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if method not in ("auto", "post", "get"):
            raise ValueError("method is auto, post or get")
        self.url = url
        self.policy = policy
        self._endpoint = Endpoint.parse(url, ca_identifier=ca_identifier)
        self._fingerprint = (
            None if ca_fingerprint is None else trust.parse_fingerprint(ca_fingerprint)
        )
        self._pinned = tuple(RawCertificate.from_certificate(one) for one in ca_certificates)
        self._agents = frozenset(trust.parse_fingerprint(one) for one in ra_fingerprints)
        self._next = tuple(RawCertificate.from_certificate(one) for one in next_ca_certificates)
        self._trust_on_first_use = trust_on_first_use
        self._method = method
        self._require_capabilities = tuple(require_capabilities)
        self._check_key_usage = (
            policy.name != "legacy" if check_key_usage is None else check_key_usage
        )
        self._now = now
        self._token_bytes = token_bytes

    # --- what the server is

    def get_ca_caps(self) -> Flow[Capabilities]:
        """Ask what the server can do; an HTTP error means that it announces nothing.

        Raises:
            ProtocolError: a required capability is missing.
            TransportError: nothing came back.
        """
        response = yield self._endpoint.get(Operation.GET_CA_CAPS)
        body = response.body if response.status == 200 else b""
        capabilities = Capabilities.parse(body)
        capabilities.require(self._require_capabilities)
        return capabilities

    def get_ca_cert(self) -> Flow[CaCertificates]:
        """Fetch the server's certificates and verify them against what is pinned.

        Raises:
            ValueError: nothing is pinned, and trust on first use was not asked for.
            SignatureError: the pinned certificate is not among them, or did not sign them.
            ProtocolError: they are not usable.
        """
        if self._fingerprint is None and not self._pinned and not self._trust_on_first_use:
            raise ValueError(
                "the CA must be pinned: give ca_fingerprint (SHA-256) or ca_certificates, or "
                "say trust_on_first_use=True"
            )
        response = yield self._endpoint.get(Operation.GET_CA_CERT)
        certificates = trust.parse_ca_certificates(body_of(response, MAX_REPLY_BYTES))
        anchors: Sequence[RawCertificate] = self._pinned
        if self._fingerprint is not None:
            anchors = (trust.find_pinned(certificates, self._fingerprint),)
        elif not anchors:
            anchors = trust.roots_of(certificates)
        return trust.select(certificates, anchors, self.policy, **self._selection())

    def get_next_ca_cert(self) -> Flow[tuple[x509.Certificate, ...]]:
        """Fetch the CA certificate that comes next, signed by the present one.

        Raises:
            SignatureError: not signed by the present CA.
            TransportError: the server has none (HTTP 404).
        """
        ca = yield from self.get_ca_cert()
        response = yield self._endpoint.get(Operation.GET_NEXT_CA_CERT)
        message = signed_data.read_signed_data(body_of(response, MAX_REPLY_BYTES))
        signed_data.verify(
            message,
            self.policy,
            signers=[
                RawCertificate.from_certificate(one) for one in ca.certificates if trust.is_ca(one)
            ],
            max_rsa_bits=self.policy.max_ca_rsa_bits,
            content_types=frozenset({signed_data.ID_DATA, signed_data.ID_SIGNED_DATA}),
        )
        bag = read_certs_only(message.nested).certificates
        if not bag:
            raise DecodeError("the server sent no next CA certificate")
        return tuple(RawCertificate(one).certificate for one in bag)

    # --- enrollment

    def enroll(
        self,
        key: Any,
        csr: CertificateRequest,
        *,
        signer: Identity | None = None,
        transaction_id: str | None = None,
    ) -> Flow[Success | PendingEnrollment]:
        """Ask for a certificate (RFC 8894 section 2.3, PKCSReq).

        Args:
            key: the private RSA key of the CSR: signs the request and opens the reply.
            csr: made by ``pyscep.pkcs10.create``, with the challengePassword.
            signer: who signs instead, for a gateway that enrolls devices.
            transaction_id: to resume a transaction; fresh otherwise.

        Returns:
            Success, with the issued certificate first; or what to poll with.

        Raises:
            EnrollmentRefused: the CA said no.
            ProtocolError, TransportError: no trustworthy answer.
            ValueError: the key is not the CSR's, or can't receive a reply.
        """
        if signer is None:
            require_rsa(key)
            if public_key_der(key.public_key()) != csr.spki:
                raise ValueError("the key is not the one that the CSR asks a certificate for")
            signer = self_signed(key, csr, now=self._now(), token_bytes=self._token_bytes)
        else:
            require_rsa(signer.private_key)
        capabilities, ca = yield from self._discover()
        session = self._session(capabilities, ca, signer)
        transaction = new_transaction(self._token_bytes, transaction_id)
        return (yield from self._enroll(session, PKCSReq(csr=csr), transaction))

    def renew(
        self,
        identity: Identity,
        key: Any,
        csr: CertificateRequest,
        *,
        message_type: Literal["auto", "renewal", "pkcs"] = "auto",
        transaction_id: str | None = None,
    ) -> Flow[Success | PendingEnrollment]:
        """Ask for a new certificate with the old one (RFC 8894 section 2.3, RenewalReq).

        Args:
            identity: the certificate that is valid now, with its key: signs, and opens the
                reply.
            key: the private key of the CSR: a new one, or the old one again.
            csr: usually without challengePassword.
            message_type: ``auto`` sends RenewalReq where the server announces Renewal, and
                PKCSReq signed by the old certificate where not.

        Raises:
            As ``enroll``.
        """
        require_rsa(identity.private_key)
        if public_key_der(key.public_key()) != csr.spki:
            raise ValueError("the key is not the one that the CSR asks a certificate for")
        capabilities, ca = yield from self._discover()
        session = self._session(capabilities, ca, identity)
        renewal = capabilities.renewal if message_type == "auto" else message_type == "renewal"
        message = RenewalReq(csr=csr) if renewal else PKCSReq(csr=csr)
        transaction = new_transaction(self._token_bytes, transaction_id)
        return (yield from self._enroll(session, message, transaction))

    def poll(self, pending: PendingEnrollment, key: Any) -> Flow[Success | PendingEnrollment]:
        """Ask once more for a pending certificate (RFC 8894 section 3.3.3, CertPoll).

        Args:
            key: the private key that signed the request; after ``renew`` the old one.

        Raises:
            As ``enroll``.
        """
        identity = Identity(RawCertificate(pending.signer).certificate, key)
        trusted = tuple(RawCertificate(one) for one in pending.ca_certificates)
        session = Session(
            ca=trusted[0],
            recipient=RawCertificate(pending.recipient),
            signers=trusted,
            authorities=tuple(one for one in trusted if trust.is_ca(one.certificate)),
            algorithms=Algorithms(digest=pending.digest, cipher=pending.cipher),
            post=pending.post,
            identity=identity,
        )
        transaction = new_transaction(self._token_bytes, pending.transaction_id)
        message = CertPoll(issuer=session.ca.subject, subject=pending.subject)
        outcome = yield from self._exchange(session, message, transaction)
        if isinstance(outcome, Pending):
            return pending.polled()
        return issued_certificates(outcome, session, pending.spki, self.policy)

    # --- look-ups

    def get_cert(self, identity: Identity, serial_number: int) -> Flow[x509.Certificate]:
        """Fetch a certificate of this CA (RFC 8894 section 4.5).

        Args:
            identity: a certificate of the CA with its key; signs the request.

        Raises:
            EnrollmentRefused: badCertId: the CA does not know it, or does not tell.
        """
        session, found = yield from self._look_up(identity, serial_number, GetCert)
        for one in found.certificates:
            certificate = RawCertificate(one)
            if certificate.serial_number == serial_number:
                verify_issued(certificate, session, found, self.policy)
                return certificate.certificate
        raise DecodeError("the server sent another certificate than the one asked for")

    def get_crl(self, identity: Identity, serial_number: int | None = None) -> Flow[bytes]:
        """Fetch the CRL that covers a certificate (RFC 8894 section 4.6).

        Args:
            serial_number: of the certificate in question; the identity's own by default.

        Returns:
            The CRL in DER, its signature checked.
        """
        if serial_number is None:
            serial_number = identity.certificate.serial_number
        session, found = yield from self._look_up(identity, serial_number, GetCRL)
        if len(found.crls) != 1:
            raise DecodeError(f"{len(found.crls)} CRLs where there must be one")
        trust.verify_crl(found.crls[0], session.ca, self.policy)
        return found.crls[0]

    # --- steps

    def _discover(self) -> Flow[tuple[Capabilities, CaCertificates]]:
        try:
            capabilities = yield from self.get_ca_caps()
        except TransportError:
            # One widely used server closes the connection on GetCACaps (section 3.5.2).
            capabilities = Capabilities()
            capabilities.require(self._require_capabilities)
        ca = yield from self.get_ca_cert()
        if self._next:
            ca = trust.under_next(ca, self._next, self.policy, **self._selection())
        return capabilities, ca

    def _selection(self) -> trust.Selection:
        return {
            "now": self._now(),
            "check_key_usage": self._check_key_usage,
            "agents": self._agents,
        }

    def _session(
        self, capabilities: Capabilities, ca: CaCertificates, identity: Identity
    ) -> Session:
        post = self._method == "post" or (self._method == "auto" and POST in capabilities)
        algorithms = capabilities.choose(self.policy)
        return Session.of(ca, identity, algorithms=algorithms, post=post)

    def _enroll(
        self, session: Session, message: PKCSReq | RenewalReq, transaction: Transaction
    ) -> Flow[Success | PendingEnrollment]:
        outcome = yield from self._exchange(session, message, transaction)
        if not isinstance(outcome, Pending):
            return issued_certificates(outcome, session, message.csr.spki, self.policy)
        return session.pending(self.url, message, transaction, self._now())

    def _look_up(
        self,
        identity: Identity,
        serial_number: int,
        kind: type[GetCert] | type[GetCRL],
    ) -> Flow[tuple[Session, CertsOnly]]:
        require_rsa(identity.private_key)
        capabilities, ca = yield from self._discover()
        session = self._session(capabilities, ca, identity)
        if serial_number == identity.certificate.serial_number:
            session = session.about(identity.raw, self.policy)
        message = kind(target=IssuerAndSerial(session.ca.subject, serial_number))
        transaction = new_transaction(self._token_bytes)
        outcome = yield from self._exchange(session, message, transaction)
        if isinstance(outcome, Pending):
            raise DecodeError("PENDING is no answer to this (RFC 8894 section 4.5.1)")
        return session, outcome

    def _exchange(
        self, session: Session, message: ClientMessage, transaction: Transaction
    ) -> Flow[CertsOnly | Pending]:
        """Send one request; a FAILURE is raised."""
        encoded = encode_request(
            message,
            transaction=transaction,
            signer=session.identity,
            recipient=session.recipient,
            algorithms=session.algorithms,
            token_bytes=self._token_bytes,
        )
        limit = MAX_CRL_BYTES if isinstance(message, GetCRL) else MAX_REPLY_BYTES
        request = self._endpoint.pki_operation(encoded, post=session.post)
        response = yield replace(request, response_bytes=limit)
        outcome = decode_cert_rep(
            body_of(response, limit),
            transaction=transaction,
            signers=session.signers,
            recipient=session.identity,
            policy=self.policy,
            token_bytes=self._token_bytes,
        )
        if isinstance(outcome, Failure):
            raise EnrollmentRefused(outcome.fail_info, outcome.text)
        return outcome

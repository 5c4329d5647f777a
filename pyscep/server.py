"""The server role: receive, let somebody decide, reply. No I/O.

RFC 8894 section 2.4 and 4. The authority, one callable, belongs to whoever embeds this:
it gets a verified PkiRequest and returns Success, Pending or Failure.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pyscep.capabilities import Capabilities
from pyscep.cms import signed_data
from pyscep.cms.algorithms import DIGESTS, MODERN, AlgorithmPolicy, Algorithms
from pyscep.cms.certs_only import build_certs_only
from pyscep.cms.keys import KINDS
from pyscep.cms.signed_data import SignedData
from pyscep.enums import FailInfo, Operation
from pyscep.errors import (
    AlgorithmError,
    DecodeError,
    ProtocolError,
    SignatureError,
    SigningTimeError,
)
from pyscep.events import AuthorityFailed, RequestAnswered, RequestRejected, ServerEvent
from pyscep.http import (
    MEDIA_CA_CERT,
    MEDIA_CA_CHAIN,
    MEDIA_NEXT_CA_CERT,
    MEDIA_PKI_MESSAGE,
    MEDIA_TEXT,
    HttpError,
    HttpLimits,
    HttpRequest,
    HttpResponse,
    parse_request,
    scep_response,
    text_response,
)
from pyscep.identity import Identity, RawCertificate
from pyscep.messages import (
    Failure,
    Outcome,
    PKCSReq,
    RenewalReq,
)
from pyscep.pki_message import (
    decrypt_request,
    encode_cert_rep,
    open_request,
    peek_transaction,
)
from pyscep.pki_request import (
    AsyncAuthority,
    Authority,
    AuthorityUnavailable,
    PkiRequest,
    check_outcome,
)
from pyscep.transaction import Transaction

__all__ = ["AsyncAuthority", "Authority", "AuthorityUnavailable", "PkiRequest", "Server"]

RETRY_AFTER_SECONDS = 30


class Server:
    """The SCEP server role for one endpoint.

    Args:
        identity: signs the replies, and opens requests unless ``encryption`` does.
        encryption: opens requests, where that is another RA certificate.
        ca_certificates: the issuing CA and its chain, nearest first, where ``identity`` is
            an RA; empty if ``identity`` is the CA itself.
        rollover: further identities that open requests: the previous or the next CA.
        next_ca_certificates: what GetNextCACert hands out; empty switches it off.
        ca_identity: signs GetNextCACert where ``identity`` is an RA (RFC 8894 section 4.7
            wants the CA itself).
        policy: which algorithms are accepted.
        limits: sizes that are read.
        renewal: announce the Renewal capability.
        capabilities: what GetCACaps says instead of what follows from policy and settings.
        empty_content: FAILURE and PENDING with an empty eContent (what clients need) rather
            than none (what the RFC says).
        signing_time_window: refuse a signingTime further away than this; None accepts all,
            since phones have wrong clocks.
        on_event: told about each request; must not raise.
        allow_explicit_rejection: accept a cryptography package whose OpenSSL reports bad RSA
            padding instead of hiding it (Debian's does), or a key in a token that does.
        now, token_bytes: clock and randomness, for tests.

    Raises:
        ValueError: certificates that do not fit together.
        RuntimeError: RSA decryption here reports bad padding; see above.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        encryption: Identity | None = None,
        ca_certificates: Sequence[x509.Certificate] = (),
        rollover: Sequence[Identity] = (),
        next_ca_certificates: Sequence[x509.Certificate] = (),
        ca_identity: Identity | None = None,
        policy: AlgorithmPolicy = MODERN,
        limits: HttpLimits | None = None,
        renewal: bool = True,
        capabilities: Capabilities | None = None,
        empty_content: bool = True,
        signing_time_window: timedelta | None = None,
        on_event: Callable[[ServerEvent], None] | None = None,
        allow_explicit_rejection: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        token_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.identity = identity
        self.encryption = encryption or identity
        self.policy = policy
        self.limits = limits or HttpLimits()
        self.capabilities = capabilities or Capabilities.of_server(
            policy, renewal=renewal, next_ca=bool(next_ca_certificates)
        )
        self._decryption = (self.encryption, *rollover)
        self._empty_content = empty_content
        self._signing_time_window = signing_time_window
        self._on_event = on_event
        self._now = now
        self._token_bytes = token_bytes
        for one in self._decryption:
            _check_decryption(one, allow_explicit_rejection=allow_explicit_rejection)
        self._static = {
            Operation.GET_CA_CAPS: scep_response(MEDIA_TEXT, self.capabilities.to_bytes()),
            Operation.GET_CA_CERT: self._ca_cert_response(ca_certificates),
            Operation.GET_NEXT_CA_CERT: self._next_ca_response(
                next_ca_certificates, ca_identity or identity
            ),
        }

    def handle(self, request: HttpRequest, authority: Authority) -> HttpResponse:
        """Answer any request; ``receive``, the authority and ``reply`` in one."""
        received = self.receive(request)
        if isinstance(received, HttpResponse):
            return received
        try:
            return self.reply(received, authority(received))
        except Exception as error:  # a fault of ours must reach the peer as 503, whatever it is
            return self.unavailable(received, error)

    async def handle_async(self, request: HttpRequest, authority: AsyncAuthority) -> HttpResponse:
        """``handle`` for an authority that is a coroutine function."""
        received = self.receive(request)
        if isinstance(received, HttpResponse):
            return received
        try:
            return self.reply(received, await authority(received))
        except Exception as error:  # as in handle
            return self.unavailable(received, error)

    def receive(self, request: HttpRequest) -> PkiRequest | HttpResponse:
        """Verify and open a request; what needs no authority is answered at once.

        Never raises for anything that a peer can send.
        """
        try:
            call = parse_request(request, self.limits)
        except HttpError as error:
            return self._refuse(request, error, error.status)
        if call.operation is not Operation.PKI_OPERATION:
            return self._static[call.operation]
        try:
            message = signed_data.read_signed_data(call.message)
        except ProtocolError as error:
            return self._refuse(request, error, 400)
        transaction = peek_transaction(message)
        if transaction is None:
            missing = DecodeError("not a pkiMessage with a transactionID")
            return self._refuse(request, missing, 400)
        return self._receive_message(request, call.message, message, transaction)

    def _receive_message(
        self, request: HttpRequest, raw: bytes, message: SignedData, transaction: Transaction
    ) -> PkiRequest | HttpResponse:
        digest = "sha256"
        try:
            verified = signed_data.verify(
                message, self.policy, max_rsa_bits=self.policy.max_rsa_bits
            )
            digest = verified.digest
            outer = open_request(verified, transaction)
            if self._signing_time_window is not None:
                self._check_signing_time(outer.signing_time, self._signing_time_window)
            _check_reachable(outer.signer)
            opened, algorithms, recipient = decrypt_request(
                outer, self._decryption, self.policy, token_bytes=self._token_bytes
            )
        except ProtocolError as error:
            return self._fail(request, transaction, error, digest)
        holds_key = True
        match opened:
            case PKCSReq(csr=csr) | RenewalReq(csr=csr):
                holds_key = csr.public_key == outer.signer.public_key
        return PkiRequest(
            message=opened,
            signer=outer.signer,
            signer_holds_key=holds_key,
            algorithms=algorithms,
            transaction=outer.transaction,
            recipient=recipient,
            source=request.peer,
            path=request.path,
            signing_time=outer.signing_time,
            raw=raw,
        )

    def _check_signing_time(self, theirs: datetime | None, window: timedelta) -> None:
        if theirs is not None and abs(self._now() - theirs) > window:
            raise SigningTimeError("signingTime is too far from this clock")

    def reply(self, request: PkiRequest, outcome: Outcome) -> HttpResponse:
        """The CertRep for an outcome, encrypted to the verified signer alone.

        Raises:
            ValueError: an outcome that the message can't have, such as PENDING to GetCRL.
            TypeError: not an Outcome.
        """
        check_outcome(request.message, outcome)
        body = encode_cert_rep(
            outcome,
            transaction=request.transaction,
            signer=self.identity,
            recipient=request.signer,
            algorithms=request.algorithms,
            token_bytes=self._token_bytes,
            empty_content=self._empty_content,
        )
        if self._on_event is not None:
            self._on_event(
                RequestAnswered(
                    message_type=request.message.message_type.name,
                    outcome=outcome,
                    source=request.source,
                    path=request.path,
                    transaction=request.transaction,
                    signer_fingerprint=request.signer.sha256.hex(),
                )
            )
        return scep_response(MEDIA_PKI_MESSAGE, body)

    def unavailable(self, request: PkiRequest, error: Exception) -> HttpResponse:
        """503 with Retry-After: the authority could not decide."""
        if self._on_event is not None:
            self._on_event(
                AuthorityFailed(
                    error=error,
                    source=request.source,
                    path=request.path,
                    transaction=request.transaction,
                )
            )
        retry = ("retry-after", str(RETRY_AFTER_SECONDS))
        return text_response(503, "The CA can't answer now; try again later.\n", (retry,))

    def _refuse(self, request: HttpRequest, error: ProtocolError, status: int) -> HttpResponse:
        """An HTTP error, where no CertRep can be addressed."""
        self._rejected(request, error, status, None)
        extra = (("allow", "GET, POST"),) if status == 405 else ()
        return text_response(status, _REFUSALS[status], extra)

    def _fail(
        self, request: HttpRequest, transaction: Transaction, error: ProtocolError, digest: str
    ) -> HttpResponse:
        """A signed FAILURE for a request that did not get to the authority."""
        self._rejected(request, error, 200, transaction)
        body = encode_cert_rep(
            Failure(fail_info=_wire_code(error)),
            transaction=transaction,
            signer=self.identity,
            recipient=None,
            algorithms=Algorithms(digest=digest),
            token_bytes=self._token_bytes,
            empty_content=self._empty_content,
        )
        return scep_response(MEDIA_PKI_MESSAGE, body)

    def _rejected(
        self,
        request: HttpRequest,
        error: ProtocolError,
        status: int,
        transaction: Transaction | None,
    ) -> None:
        if self._on_event is not None:
            self._on_event(
                RequestRejected(
                    error=error,
                    source=request.peer,
                    path=request.path,
                    http_status=status,
                    transaction=transaction,
                )
            )

    def _ca_cert_response(self, ca_certificates: Sequence[x509.Certificate]) -> HttpResponse:
        """One certificate as it is; RA certificates with their CA as certificates-only."""
        bag = dict.fromkeys((self.identity.certificate, self.encryption.certificate))
        bag.update(dict.fromkeys((*ca_certificates, *self.identity.chain)))
        encoded = [one.public_bytes(Encoding.DER) for one in bag]
        if len(encoded) == 1:
            return scep_response(MEDIA_CA_CERT, encoded[0])
        return scep_response(MEDIA_CA_CHAIN, build_certs_only(encoded))

    def _next_ca_response(
        self, certificates: Sequence[x509.Certificate], signer: Identity
    ) -> HttpResponse:
        if not certificates:
            return text_response(404, "There is no next CA certificate.\n")
        content = build_certs_only([one.public_bytes(Encoding.DER) for one in certificates])
        digest = DIGESTS["sha256"]
        return scep_response(MEDIA_NEXT_CA_CERT, signed_data.sign(content, (), signer, digest))


_REFUSALS = {
    400: "This is not a SCEP request.\n",
    405: "SCEP uses GET and POST.\n",
    413: "The message is too long.\n",
    414: "The query is too long; use POST.\n",
}


def _wire_code(error: ProtocolError) -> FailInfo:
    """What the peer may learn: precise only about what stands in the clear."""
    precise = AlgorithmError | SignatureError | SigningTimeError
    return error.fail_info if isinstance(error, precise) else FailInfo.BAD_REQUEST


def _check_reachable(signer: RawCertificate) -> None:
    """Refuse before anything is issued what could not be answered."""
    if KINDS[type(signer.public_key)] != "rsa":
        raise AlgorithmError("the signer's key can't receive an encrypted reply: RSA is needed")


def _check_decryption(identity: Identity, *, allow_explicit_rejection: bool) -> None:
    """See that a wrong RSA ciphertext is not reported (implicit rejection)."""
    key = identity.private_key
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("SCEP requests are encrypted to an RSA key: give an RSA identity")
    if allow_explicit_rejection:
        return
    size = (key.key_size + 7) // 8
    try:
        for filler in (b"\x55", b"\x2a"):
            key.decrypt(b"\x00" + filler * (size - 1), padding.PKCS1v15())
    except ValueError as error:
        raise RuntimeError(
            "RSA decryption reports bad padding here, which helps attackers: install the "
            "cryptography wheel with its own OpenSSL, or pass allow_explicit_rejection=True"
        ) from error

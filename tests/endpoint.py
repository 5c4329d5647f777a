"""Both roles of the package with forge.py on the other side, in memory.

`Endpoint` is a pyscep.Server with a small authority behind it, spoken to in forged messages.
`FakeServer` is a SCEP server made of forge.py alone, for a pyscep.Client to talk to.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.cms.algorithms import AlgorithmPolicy
from pyscep.http import HttpRequest, HttpResponse
from tests import forge
from tests import forge_keys as keys
from tests.forge import Opened

T = TypeVar("T")
ALL_CAPABILITIES = b"AES\nPOSTPKIOperation\nRenewal\nSCEPStandard\nSHA-1\nSHA-256\nSHA-512\nDES3\n"
CHALLENGE = "secret"


def identity(party: keys.Party) -> pyscep.Identity:
    return pyscep.Identity(party.certificate, party.key)


@dataclass
class Authority:
    """Decides in memory: the challenge, or a certificate of its own, gets a certificate."""

    issuer: keys.Party = field(default_factory=keys.ca)
    challenges: set[str] = field(default_factory=lambda: {CHALLENGE})
    pending: bool = False
    """Leave every enrollment to be approved by `pending = False`."""
    crls: tuple[bytes, ...] = ()
    issued: dict[tuple[bytes, int], x509.Certificate] = field(default_factory=dict)
    waiting: dict[str, Any] = field(default_factory=dict)
    """The requests that are pending, by transactionID."""
    seen: list[Any] = field(default_factory=list)

    def __call__(self, request: Any) -> Any:
        self.seen.append(request)
        match request.message:
            case pyscep.PKCSReq(challenge_password=word) | pyscep.RenewalReq(
                challenge_password=word
            ):
                if word not in self.challenges and not self._knows(request.signer):
                    return pyscep.Failure(reason="neither challenge nor certificate")
                return self._enroll(request)
            case pyscep.CertPoll():
                waiting = self.waiting.get(request.transaction.transaction_id)
                if waiting is None or waiting.signer.spki != request.signer.spki:
                    return pyscep.Failure(reason="nothing to poll for")
                return self._enroll(waiting)
            case pyscep.GetCert(target=target):
                found = self.issued.get((target.issuer, target.serial_number))
                if found is None:
                    return pyscep.Failure(fail_info=pyscep.FailInfo.BAD_CERT_ID)
                return pyscep.Success(certificates=(found,))
            case pyscep.GetCRL():
                return pyscep.Success(crls=self.crls)
        raise AssertionError(request.message)

    def _knows(self, signer: Any) -> bool:
        found = self.issued.get((signer.issuer, signer.serial_number))
        return found is not None and found.public_bytes(Encoding.DER) == signer.der

    def _enroll(self, request: Any) -> Any:
        if self.pending:
            self.waiting[request.transaction.transaction_id] = request
            return pyscep.Pending()
        der = keys.issue(self.issuer, request.message.csr.der)
        certificate = x509.load_der_x509_certificate(der)
        self.issued[self.issuer.subject, certificate.serial_number] = certificate
        return pyscep.Success(certificates=(certificate,))


class Endpoint:
    """A server under one policy, that forged messages are posted to."""

    def __init__(
        self, policy: str = "modern", *, authority: Any = None, ca: keys.Party | None = None,
        **server: Any
    ) -> None:
        self.ca = ca or keys.ca()
        self.authority = Authority(self.ca) if authority is None else authority
        self.events: list[Any] = []
        self.server = pyscep.Server(
            identity(self.ca), policy=AlgorithmPolicy.named(policy),
            on_event=self.events.append, **server)

    def http(self, request: HttpRequest) -> HttpResponse:
        response = self.server.handle(request, self.authority)
        assert isinstance(response, HttpResponse)
        return response

    def post(self, message: forge.Forge | bytes) -> HttpResponse:
        """The HTTP response to a message."""
        body = message if isinstance(message, bytes) else message.build()
        return self.http(HttpRequest(
            method="POST", path="/scep", query=b"operation=PKIOperation", body=body))

    def send(self, message: forge.Forge | bytes) -> forge.Message:
        """The CertRep to a message; it is strict DER and its signature holds."""
        response = self.post(message)
        assert response.status == 200, (response.status, response.body)
        reply = forge.read_message(response.body, der=True)
        assert reply.message_type == "3"
        return reply

    def enrolls(self, message: forge.Forge) -> x509.Certificate:
        """The certificate that a message gets, opened with its signer's key."""
        reply = self.send(message)
        assert reply.status == "0", (reply.status, reply.fail_info, self.events)
        (certificate,) = reply.open(message.signer).certificates
        return certificate

    def refuses(self, message: forge.Forge | bytes, fail_info: str | None = None) -> None:
        """The message is refused and the authority never hears of it.

        Args:
            fail_info: the number that a CertRep has to say; None: HTTP 400, for there is no
                CertRep to answer with.
        """
        heard = len(self.authority.seen)
        if fail_info is None:
            response = self.post(message)
            assert response.status == 400, (response.status, response.body)
        else:
            reply = self.send(message)
            assert (reply.status, reply.fail_info) == ("2", fail_info), self.events
            assert not reply.content
        assert len(self.authority.seen) == heard, "the authority was asked"


Answer = Callable[[forge.Message, Opened], forge.Forge]


def issue_at_once(request: forge.Message, opened: Opened) -> forge.Forge:
    """What a CA without questions answers to a CSR."""
    return forge.cert_rep(request, certificates=(keys.issue(keys.ca(), opened.plaintext),))


def answering(**knobs: Any) -> Answer:
    """An answer with the issued certificate, with the knobs of cert_rep."""

    def answer(request: forge.Message, opened: Opened) -> forge.Forge:
        shape = dict(knobs)
        if shape.get("status", "0") == "0" and "data" not in shape:
            shape.setdefault("certificates", (keys.issue(keys.ca(), opened.plaintext),))
        return forge.cert_rep(request, **shape)

    return answer


@dataclass
class FakeServer:
    """A server made of forge.py; `answer` makes each CertRep."""

    answer: Answer = issue_at_once
    capabilities: bytes = ALL_CAPABILITIES
    ca_reply: tuple[str, bytes] | None = None
    """Media type and body of GetCACert, if not the CA's certificate."""
    recipients: tuple[keys.Party, ...] = field(default_factory=lambda: (keys.ca(),))
    messages: list[forge.Message] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)
    requests: list[HttpRequest] = field(default_factory=list)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        operation = request.query.partition(b"&")[0].partition(b"=")[2]
        match operation:
            case b"GetCACaps":
                return _response("text/plain", self.capabilities)
            case b"GetCACert":
                default = ("application/x-x509-ca-cert", keys.ca().der)
                return _response(*(self.ca_reply or default))
        assert operation == b"PKIOperation"
        value = request.query.partition(b"&message=")[2]
        body = request.body or base64.b64decode(unquote_to_bytes(value), validate=True)
        message = forge.read_message(body, der=True)
        opened = message.open(*self.recipients)
        self.messages.append(message)
        self.opened.append(opened)
        return _response("application/x-pki-message", self.answer(message, opened).build())


def _response(media_type: str, body: bytes) -> HttpResponse:
    return HttpResponse(status=200, headers=(("content-type", media_type),), body=body)


def drive(
    flow: Generator[HttpRequest, HttpResponse, T], server: Callable[[HttpRequest], HttpResponse]
) -> T:
    """Run a client's flow against a server in memory."""
    try:
        request = next(flow)
        while True:
            try:
                response = server(request)
            except pyscep.TransportError as error:
                request = flow.throw(error)
            else:
                request = flow.send(response)
    except StopIteration as end:
        result: T = end.value
        return result


def fingerprint(party: keys.Party) -> str:
    return "sha256:" + hashlib.sha256(party.der).hexdigest()


def client(**options: Any) -> Any:
    """A pyscep.Client that knows the CA by its fingerprint."""
    shape: dict[str, Any] = {"ca_fingerprint": fingerprint(keys.ca())} | options
    return pyscep.Client("http://ca.example/scep", **shape)


def enroll(answer: Answer | FakeServer = issue_at_once, **options: Any) -> Any:
    """What Client.enroll makes of an answer."""
    server = answer if isinstance(answer, FakeServer) else FakeServer(answer)
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=device,O=Lab", challenge_password=CHALLENGE)
    return drive(client(**options).enroll(key, csr), server)

"""client and exchange: misuse, hostile answers, HTTP faults; what rule tests leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

import pyscep
from pyscep.errors import DecodeError, ProtocolError, SignatureError, TransportError
from pyscep.http import HttpRequest, HttpResponse
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import CHALLENGE, FakeServer, answering, client, drive, enroll, identity

KEY = keys.rsa_key("client")
CA = keys.ca()


def csr(key: Any = KEY) -> Any:
    return pyscep.pkcs10.create(key, "CN=device,O=Lab", challenge_password=CHALLENGE)


class Scripted(FakeServer):
    """Answers an operation with what the script says; a TransportError is raised."""

    def __init__(self, **script: HttpResponse | TransportError) -> None:
        super().__init__()
        self.script = script

    def __call__(self, request: HttpRequest) -> HttpResponse:
        for operation, answer in self.script.items():
            if f"operation={operation}".encode() in request.query:
                if isinstance(answer, TransportError):
                    raise answer
                return answer
        return super().__call__(request)


def run(flow: Any, server: Any) -> Any:
    """As `drive`, with a TransportError thrown into the flow."""
    step, value = flow.send, None
    while True:
        try:
            request = step(value)
        except StopIteration as end:
            return end.value
        try:
            step, value = flow.send, server(request)
        except TransportError as error:
            step, value = flow.throw, error


def response(status: int = 200, body: bytes = b"", **headers: str) -> HttpResponse:
    return HttpResponse(status=status, body=body, headers=tuple(
        (name.replace("_", "-"), value) for name, value in headers.items()))


def replying(*certificates: bytes) -> FakeServer:
    """A server whose every CertRep is SUCCESS with those certificates."""
    return FakeServer(lambda message, _: forge.cert_rep(message, certificates=certificates))


def own() -> pyscep.Identity:
    return pyscep.Identity(enroll().certificates[0], KEY)


# --- misuse ----------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "options"), [
    ("ca.example", {}), ("http://ca.example/?x", {}), ("http://ca.example", {"method": "put"}),
    ("http://ca.example", {"ca_fingerprint": "ab"}),
    ("http://ca.example", {"ca_fingerprint": "sha1:" + "ab" * 20})])
def test_clients_that_cannot_be(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        pyscep.Client(url, **options)


def test_something_must_be_pinned() -> None:
    flow = pyscep.Client("http://ca.example").get_ca_cert()
    with pytest.raises(ValueError, match="must be pinned"):
        next(flow)


def test_keys_that_do_not_fit() -> None:
    talk, mine, other = client(), own(), keys.rsa_key("other")
    with pytest.raises(ValueError, match="must be RSA"):
        next(talk.enroll(keys.ec_key("client"), csr()))
    with pytest.raises(ValueError, match="not the one that the CSR"):
        next(talk.enroll(other, csr()))
    with pytest.raises(ValueError, match="not the one that the CSR"):
        next(talk.renew(mine, other, csr()))
    elliptic = identity(keys.party("CN=x", keys.ec_key("client")))
    for flow in (talk.renew(elliptic, KEY, csr()), talk.get_cert(elliptic, 1),
                 talk.get_crl(elliptic), talk.enroll(KEY, csr(), signer=elliptic)):
        with pytest.raises(ValueError, match="must be RSA"):
            next(flow)


def test_a_transaction_id_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="transactionID"):
        drive(client().enroll(KEY, csr(), transaction_id="a_b"), FakeServer())


def test_another_key_than_the_signers_is_asked_for() -> None:
    """A gateway signs, and asks a certificate for an EC key of its device."""
    signer, key = identity(keys.client()), keys.ec_key("device")
    found = drive(client().enroll(key, csr(key), signer=signer), FakeServer())
    assert found.certificates[0].public_key() == key.public_key()


# --- how requests go -------------------------------------------------------------------


@pytest.mark.parametrize(("method", "capabilities", "expected"), [
    ("auto", b"POSTPKIOperation", "POST"), ("auto", b"SCEPStandard", "POST"), ("auto", b"", "GET"),
    ("post", b"", "POST"), ("get", b"SCEPStandard", "GET")])
def test_methods(method: Any, capabilities: bytes, expected: str) -> None:
    seen: list[HttpRequest] = []

    def stop(request: HttpRequest) -> HttpResponse:
        seen.append(request)
        if b"PKIOperation" in request.query:
            raise TransportError("enough")
        return FakeServer(capabilities=capabilities)(request)

    with pytest.raises(TransportError, match="enough"):
        run(client(method=method).enroll(KEY, csr()), stop)
    assert [request.method for request in seen] == ["GET", "GET", expected]
    assert seen[-1].response_bytes == 1024 * 1024


def test_a_crl_may_be_long() -> None:
    server = FakeServer(answering(status="2"))
    with pytest.raises(pyscep.EnrollmentRefused):
        run(client().get_crl(own()), server)
    assert server.requests[-1].response_bytes == 64 * 1024 * 1024


@pytest.mark.parametrize("answer", [
    response(404), response(500, b"x"), response(200, b""), response(200, b"<html>"),
    TransportError("closed")])
def test_no_capabilities(answer: Any) -> None:
    server = Scripted(GetCACaps=answer)
    assert run(client(method="post").enroll(KEY, csr()), server).certificates
    with pytest.raises(ProtocolError, match="which is required"):
        run(client(require_capabilities=["AES"]).enroll(KEY, csr()), server)


def test_get_ca_caps_alone_raises() -> None:
    with pytest.raises(TransportError, match="closed"):
        run(client().get_ca_caps(), Scripted(GetCACaps=TransportError("closed")))
    assert run(client().get_ca_caps(), FakeServer()).renewal


# --- HTTP faults -----------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "words", "status", "retry_after"), [
    (response(404), "HTTP 404$", 404, None),
    (response(503, b"wait\n", retry_after="120"), "HTTP 503: 'wait'", 503, 120.0),
    (response(503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), "HTTP 503", 503, None),
    (response(503, retry_after="9" * 400), "HTTP 503", 503, None),
    (response(503, retry_after="-1"), "HTTP 503", 503, None),
    (response(503, retry_after="\u0663"), "HTTP 503", 503, None),
    (response(500, b"\x1b[31mred\xff"), r"'\\x1b\[31mred\\ufffd'", 500, None),
    (response(403, b"<html>secret</html>", content_type="text/html"), "HTTP 403$", 403, None),
    (response(200, b"<html>", content_type="text/html; charset=x"), "web page", 200, None),
    (response(200, bytes(1024 * 1024 + 1)), "longer than 1048576 bytes", 200, None),
    (response(302), "HTTP 302", 302, None), (response(201, CA.der), "HTTP 201", 201, None),
])
@pytest.mark.parametrize("operation", ["GetCACert", "PKIOperation"])
def test_faults(
    operation: str, answer: HttpResponse, words: str, status: int, retry_after: float | None
) -> None:
    with pytest.raises(TransportError, match=words) as caught:
        run(client().enroll(KEY, csr()), Scripted(**{operation: answer}))
    assert (caught.value.status, caught.value.retry_after) == (status, retry_after)


@pytest.mark.parametrize("operation", ["GetCACert", "PKIOperation", "GetNextCACert"])
@pytest.mark.parametrize("body", [b"", b"x", b"\x30\x80", asn1.null(), CA.der[:-1], bytes(99)])
def test_answers_of_nothing(operation: str, body: bytes) -> None:
    server = Scripted(**{operation: response(200, body)})
    flow = (client().get_next_ca_cert() if operation == "GetNextCACert"
            else client().enroll(KEY, csr()))
    with pytest.raises(DecodeError):
        run(flow, server)


# --- what is in a SUCCESS --------------------------------------------------------------


def issued(key: Any = KEY, issuer: keys.Party = CA, **shape: Any) -> bytes:
    return keys.certificate("CN=device,O=Lab", key, issuer=issuer, **shape)


def test_other_certificates_in_the_reply() -> None:
    mine, other = issued(), issued(keys.rsa_key("other"))
    for bag in ((mine, other), (other, mine), (mine, mine, CA.der)):
        found = enroll(answering(certificates=bag))
        assert found.certificates[0].public_key() == KEY.public_key()
        assert len(found.certificates) == 2


@pytest.mark.parametrize(("bag", "words"), [
    ((), "0 certificates for our key among 0"),
    ((CA.der,), "0 certificates for our key among 1"),
    ((issued(serial=5), issued(serial=6)), "2 certificates for our key among 2"),
    ((asn1.seq(),), "."),
    ((keys.client().der,), "not from the CA"),
    ((issued(issuer=keys.ra("sign")),), "not from the CA"),
    ((issued(issuer=keys.Party(KEY, CA.der)),), "does not verify"),
    ((issued(version=3),), "version"),
    ((issued(digest="sha1"),), "sha1"),
])
def test_certificates_that_are_refused(bag: tuple[bytes, ...], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        enroll(answering(certificates=bag))


def test_an_intermediate_that_the_ca_did_not_sign() -> None:
    shape: dict[str, Any] = {"extensions": (keys.basic_constraints(True),)}
    middle = keys.party("CN=middle", keys.rsa_key("middle"),
                        issuer=keys.Party(keys.rsa_key("other"), CA.der), **shape)
    with pytest.raises(SignatureError):
        enroll(answering(certificates=(issued(issuer=middle), middle.der)))
    stranger = keys.party("CN=stranger", keys.rsa_key("middle"), **shape)
    with pytest.raises(SignatureError, match="not from the CA"):
        enroll(answering(certificates=(issued(issuer=stranger), stranger.der)))


def test_two_intermediates_in_any_order() -> None:
    shape: dict[str, Any] = {"extensions": (keys.basic_constraints(True),)}
    upper = keys.party("CN=upper", keys.rsa_key("upper"), issuer=CA, **shape)
    lower = keys.party("CN=lower", keys.rsa_key("middle"), issuer=upper, **shape)
    leaf = issued(issuer=lower)
    for bag in ((upper.der, lower.der), (lower.der, upper.der), (lower.der, CA.der, upper.der)):
        found = enroll(answering(data=forge.certs_only((leaf, *bag))))
        assert found.certificates[0].public_key() == KEY.public_key()
    with pytest.raises(SignatureError, match="not from the CA"):
        enroll(answering(certificates=(leaf, lower.der)))


@pytest.mark.parametrize(("data", "words"), [
    (forge.certs_only(), "0 CRLs"), (forge.certs_only((CA.der,)), "0 CRLs"),
    (forge.certs_only(crls=(keys.crl(CA), keys.crl(CA, 1))), "2 CRLs"),
    (forge.certs_only(crls=(keys.crl(keys.ra("sign")),)), "another issuer's"),
    (forge.certs_only(crls=(keys.crl(keys.Party(KEY, CA.der)),)), "does not verify"),
    (forge.certs_only(crls=(asn1.seq(),)), "."),
])
def test_crls_that_are_refused(data: bytes, words: str) -> None:
    mine = own()
    with pytest.raises(ProtocolError, match=words):
        run(client().get_crl(mine), FakeServer(answering(data=data)))


def test_look_ups_that_go_wrong() -> None:
    mine = own()
    number = mine.certificate.serial_number
    for flow in (client().get_cert(mine, number), client().get_crl(mine)):
        with pytest.raises(DecodeError, match="PENDING is no answer"):
            run(flow, FakeServer(answering(status="3")))
    with pytest.raises(DecodeError, match="another certificate"):
        run(client().get_cert(mine, 12345), replying(mine.raw.der))
    false = issued(serial=77, issuer=keys.Party(KEY, CA.der))
    with pytest.raises(SignatureError):
        run(client().get_cert(mine, 77), replying(false))


# --- GetNextCACert ---------------------------------------------------------------------

NEXT = keys.ca("CN=Next CA")


def next_ca(**knobs: Any) -> bytes:
    shape: dict[str, Any] = {
        "signer": CA, "message_type": None, "transaction_id": None, "sender_nonce": None,
        "content": forge.certs_only((NEXT.der,))} | knobs
    return forge.Forge(**shape).build()


PKCS7 = forge.certs_only((NEXT.der,), wrap=False)


@pytest.mark.parametrize("knobs", [
    {}, {"econtent_type": forge.SIGNED_DATA}, {"content": PKCS7},
    {"econtent_type": forge.SIGNED_DATA, "content": PKCS7},
    {"econtent_type": forge.SIGNED_DATA, "econtent": asn1.tlv(0xA0, PKCS7),
     "content": b"".join(part.raw for part in asn1.read(PKCS7))},
    {"style": asn1.BER},
], ids=["data", "signedData", "bare in data", "bare in signedData", "PKCS #7", "BER"])
def test_next_ca_certificates(knobs: dict[str, Any]) -> None:
    server = Scripted(GetNextCACert=response(200, next_ca(**knobs)))
    assert run(client().get_next_ca_cert(), server) == (NEXT.certificate,)


@pytest.mark.parametrize("body", [
    forge.certs_only((NEXT.der,)), next_ca(signer=NEXT), next_ca(content=forge.certs_only()),
    next_ca(signer=keys.Party(KEY, CA.der)), next_ca(no_content=True), next_ca(content=b"x"),
    next_ca(content=forge.certs_only((asn1.seq(),))), next_ca(econtent_type="1.2.3"),
])
def test_next_ca_certificates_that_are_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        run(client().get_next_ca_cert(), Scripted(GetNextCACert=response(200, body)))


# --- pending ---------------------------------------------------------------------------


def test_a_poll_needs_no_discovery() -> None:
    pending = enroll(answering(status="3"))
    server = replying(issued())
    assert run(client().poll(pending, KEY), server).certificates
    assert len(server.requests) == 1
    server.answer = answering(status="3")
    assert run(client().poll(pending, KEY), server) == pending.polled()


@pytest.mark.parametrize("change", [
    {"signer": b"\x30\x00"}, {"recipient": b"x"}, {"ca_certificates": (b"",)},
    {"signer": keys.certificate("CN=x", KEY, version=3)}])
def test_a_pending_state_that_was_damaged(change: dict[str, Any]) -> None:
    pending = replace(enroll(answering(status="3")), **change)
    with pytest.raises(DecodeError):
        run(client().poll(pending, KEY), FakeServer())


def test_the_state_holds_no_secret() -> None:
    text = enroll(answering(status="3")).to_json()
    assert CHALLENGE not in text
    assert "PRIVATE" not in text


# --- the certificate of a first request ------------------------------------------------


def test_the_self_signed_certificate() -> None:
    server = FakeServer()
    run(client(now=lambda: forge.now() + timedelta(days=2)).enroll(KEY, csr()), server)
    made = keys.Party(KEY, server.messages[0].signer_certificate).certificate
    assert made.subject == made.issuer == csr().subject_name
    assert made.not_valid_before_utc < forge.now() + timedelta(days=1, minutes=1)
    assert made.serial_number.bit_length() <= 127
    made.verify_directly_issued_by(made)


def test_a_subject_that_cannot_be_signed() -> None:
    name = asn1.seq(asn1.set_of(asn1.seq(asn1.oid("2.5.4.3"), asn1.tlv(asn1.UTF8, b"\xff"))))
    info = asn1.seq(asn1.integer(0), name, keys.spki(KEY), asn1.tlv(0xA0))
    odd = pyscep.pkcs10.read(asn1.seq(
        info, keys.signature_algorithm(KEY), asn1.bits(keys.sign(KEY, info))))
    with pytest.raises(DecodeError, match="subject of the CSR"):
        next(client().enroll(KEY, odd))

"""Servers that can't run here, by the shape of what they answer, before the package's client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

import pyscep
from pyscep.cms.algorithms import COMPATIBLE, LEGACY
from pyscep.errors import EnrollmentRefused, ProtocolError, TransportError
from pyscep.http import HttpRequest, HttpResponse
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import (
    ALL_CAPABILITIES,
    Answer,
    FakeServer,
    answering,
    client,
    drive,
    enroll,
)

NULL_SHA1 = {"digest": "sha1", "digest_parameters": asn1.null()}
RA_BAG = (keys.ra("sign"), keys.ra("encrypt"), keys.ca())


@dataclass
class Wrapped:
    """A fake server whose HTTP responses are changed on the way."""

    server: FakeServer
    change: Callable[[HttpRequest, HttpResponse], HttpResponse]

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.change(request, self.server(request))


def is_operation(request: HttpRequest, name: str) -> bool:
    return request.query.startswith(f"operation={name}".encode())


def enroll_at(server: Any, **options: Any) -> Any:
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=device,O=Lab", challenge_password="secret")
    return drive(client(**options).enroll(key, csr), server)


def ra_server(answer: Answer, order: tuple[int, ...] = (0, 1, 2)) -> FakeServer:
    """Two RA certificates with one bit of keyUsage each, and the CA."""
    body = forge.certs_only([RA_BAG[at].der for at in order])
    return FakeServer(answer, recipients=(keys.ra("encrypt"),),
                      ca_reply=("application/x-x509-ca-ra-cert", body))


# --- NDES -----------------------------------------------------------------------------


def ndes_failure(message: forge.Message, opened: Any) -> forge.Forge:
    """One octet of content, no certificates, an attribute of its own, SHA-1."""
    error = forge.attribute("microsoft_error", asn1.text("-2146875377"))
    return forge.cert_rep(message, server=keys.ra("sign"), status="2", content=b"\x00",
                          certificates=(), extra=(error,), **NULL_SHA1).but(certificates=())


def test_ndes_failure() -> None:
    """The signer is found among the certificates of GetCACert."""
    with pytest.raises(EnrollmentRefused) as caught:
        enroll(ra_server(ndes_failure), policy=COMPATIBLE)
    assert caught.value.fail_info is pyscep.FailInfo.BAD_REQUEST


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
@pytest.mark.parametrize("oaep", [None, ("sha1", "sha1")], ids=["PKCS1", "OAEP"])
def test_ndes_success(order: tuple[int, ...], oaep: Any) -> None:
    """Two RAs in any order; RSAES-OAEP was seen."""

    def answer(message: forge.Message, opened: Any) -> forge.Forge:
        device = keys.Party(keys.rsa_key("client"), message.signer_certificate)
        to = forge.Recipient(party=device, oaep=oaep)
        return answering(server=keys.ra("sign"), envelope={"recipients": (to,)})(
            message, opened).but(certificates=())

    server = ra_server(answer, order)
    assert enroll(server).certificates
    assert server.opened[0].recipients[0][1].raw == keys.ra("encrypt").issuer_and_serial


def test_ndes_reply_by_a_stranger_without_certificates() -> None:
    """The sid names nobody that GetCACert named."""
    stranger = keys.party("CN=Forge RA sign,O=Lab", keys.rsa_key("stranger"))
    with pytest.raises(ProtocolError):
        enroll(ra_server(lambda message, opened: forge.cert_rep(
            message, server=stranger, status="2").but(certificates=())))


def test_ndes_reply_by_a_device_of_the_same_ca() -> None:
    """Any certificate of the CA is not an RA's: what signs must come from GetCACert."""
    key = keys.rsa_key("another device")
    device = keys.party("CN=another", key, issuer=keys.ca())
    with pytest.raises(ProtocolError):
        enroll(ra_server(answering(server=device)))


@pytest.mark.parametrize("answers", ["closes", "404", "500", "HTML"])
def test_server_without_get_ca_caps(answers: str) -> None:
    """Old NDES closes the connection, others answer with an error: GET, and 3DES if allowed."""
    errors = {"404": HttpResponse(status=404), "500": HttpResponse(status=500, body=b"x" * 999),
              "HTML": HttpResponse(status=200, headers=(("content-type", "text/html"),),
                                   body=b"<html><body>It works!</body></html>")}

    def change(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if not is_operation(request, "GetCACaps"):
            return response
        if answers == "closes":
            raise TransportError("connection closed")
        return errors[answers]

    for policy, cipher in ((pyscep.MODERN, "aes128-cbc"), (COMPATIBLE, "des-ede3-cbc")):
        server = FakeServer()
        assert enroll_at(Wrapped(server, change), policy=policy).certificates
        assert server.requests[-1].method == "GET"
        assert server.opened[0].cipher == cipher


# --- micromdm, step-ca, EJBCA, jscep --------------------------------------------------


def test_micromdm_success() -> None:
    """DES and SHA-1, the nonce copied, the certificate in clear in the bag too."""

    def answer(message: forge.Message, opened: Any) -> forge.Forge:
        issued = keys.issue(keys.ca(), opened.plaintext)
        return forge.cert_rep(
            message, certificates=(issued,), sender_nonce=message.sender_nonce,
            signature="combined", envelope={"cipher": "des-cbc", "encrypted_content": "definite"},
            **NULL_SHA1).but(certificates=(issued, keys.ca().der))

    assert enroll(answer, policy=LEGACY).certificates
    for policy in (pyscep.MODERN, COMPATIBLE):
        with pytest.raises(pyscep.AlgorithmError):
            enroll(answer, policy=policy)


@pytest.mark.parametrize("number", [5, 7, 65_535])
def test_fail_info_above_4(number: int) -> None:
    """Old servers have codes of their own."""
    with pytest.raises(EnrollmentRefused) as caught:
        enroll(answering(status="2", fail_info=str(number)))
    assert caught.value.fail_info == number


def test_step_ca_text_under_the_wrong_oid() -> None:
    """Ignored, for it is another attribute."""
    text = forge.attribute("1.3.6.1.5.5.7.24", asn1.text("denied", asn1.UTF8))
    with pytest.raises(EnrollmentRefused) as caught:
        enroll(answering(status="2", extra=(text,)))
    assert caught.value.text is None


@pytest.mark.parametrize("operation", ["PKIOperation", "GetCACert"])
def test_http_500_is_no_verdict(operation: str) -> None:
    """A transport error with the server's text."""

    def change(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if not is_operation(request, operation):
            return response
        return HttpResponse(status=500, headers=(("content-type", "text/plain"),),
                            body=b"failed to decrypt")

    with pytest.raises(TransportError, match="failed to decrypt") as caught:
        enroll_at(Wrapped(FakeServer(), change))
    assert caught.value.status == 500


@pytest.mark.parametrize("style", [asn1.BER, asn1.BOUNCY_CASTLE, asn1.Style(chunk=4096)], ids=str)
def test_bouncy_castle_reply(style: asn1.Style) -> None:
    """BER with 3DES and SHA-1, whatever was asked."""
    answer = answering(style=style, signature="combined", algorithm_protection=True,
                       envelope={"cipher": "des-ede3-cbc"}, **NULL_SHA1)
    assert enroll(answer, policy=COMPATIBLE).certificates


# --- HTTP -----------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", [
    None, "text/html", "application/octet-stream", "application/x-x509-ca-cert",
    "application/x-x509-ra-ca-certs", "application/pkix-cert", "text/plain;charset=ISO-8859-1"])
@pytest.mark.parametrize("what", ["GetCACaps", "GetCACert"])
def test_odd_media_types(what: str, media_type: str | None) -> None:
    """Capabilities and certificates are judged by what they are.

    Except for a web page in place of a certificate, which is nobody's certificate.
    """
    if media_type == "text/html" and what == "GetCACert":
        return

    def change(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if not is_operation(request, what):
            return response
        headers = (("content-type", media_type),) if media_type else ()
        return replace(response, headers=headers)

    assert enroll_at(Wrapped(FakeServer(), change)).certificates
    assert enroll_at(Wrapped(ra_server(answering(server=keys.ra("sign"))), change)).certificates


@pytest.mark.parametrize("media_type", [
    "application/x-pki-message; charset=utf-8", "application/octet-stream", None])
def test_odd_media_type_of_a_cert_rep(media_type: str | None) -> None:
    """The signature says what it is."""

    def change(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        headers = (("content-type", media_type),) if media_type else ()
        return replace(response, headers=headers)

    assert enroll_at(Wrapped(FakeServer(), change)).certificates


@pytest.mark.parametrize("body", [
    ALL_CAPABILITIES.replace(b"\n", b"\r\n"), b"\n\n" + ALL_CAPABILITIES.strip(),
    ALL_CAPABILITIES.lower(), b"SCEPStandard", b"POSTPKIOperation\nSHA-256\nAES\nX-Other"],
    ids=["CRLF", "blank lines", "lower case", "standard only", "old keywords"])
def test_capabilities_in_every_shape(body: bytes) -> None:
    """Each form that a device was seen with."""
    server = FakeServer(capabilities=body)
    assert enroll(server).certificates
    assert server.requests[-1].method == "POST"


def test_issued_certificate_under_an_intermediate() -> None:
    """The chain comes along in the reply, in any order."""
    key = keys.rsa_key("intermediate")
    lower = keys.party("CN=Issuing CA,O=Lab", key, issuer=keys.ca(), extensions=(
        keys.basic_constraints(True), keys.key_usage("keyCertSign")))

    def answer(message: forge.Message, opened: Any) -> forge.Forge:
        leaf = keys.issue(lower, opened.plaintext)
        return forge.cert_rep(message, certificates=(lower.der, leaf))

    outcome = enroll(answer)
    assert keys.spki(outcome.certificates[0].public_key()) == keys.spki(keys.rsa_key("client"))

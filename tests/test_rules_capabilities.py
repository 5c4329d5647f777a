"""Group Q of the rules: GetCACaps (RFC 8894 section 3.5.2)."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import pyscep
from pyscep.capabilities import Capabilities
from pyscep.cms.algorithms import COMPATIBLE, LEGACY, MODERN, AlgorithmPolicy
from pyscep.errors import EnrollmentRefused, ProtocolError, TransportError
from pyscep.http import HttpRequest, HttpResponse
from tests import forge
from tests import forge_keys as keys
from tests.ca_setting import Setting
from tests.endpoint import (
    ALL_CAPABILITIES,
    Endpoint,
    FakeServer,
    client,
    drive,
    enroll,
    identity,
)
from tests.postman import Postman

POLICIES = [MODERN, COMPATIBLE, LEGACY]
DIGESTS = ("AES", "SHA-1", "SHA-256", "SHA-512", "SCEPStandard", "POSTPKIOperation", "DES3")


def caps(endpoint: Endpoint) -> HttpResponse:
    return endpoint.http(HttpRequest(method="GET", query=b"operation=GetCACaps"))


def asked(response: HttpResponse) -> Capabilities:
    """What a client makes of a response to GetCACaps."""
    return drive(client().get_ca_caps(), lambda _: response)


def text(body: bytes) -> Capabilities:
    return asked(HttpResponse(status=200, body=body))


# --- reading --------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.rule("Q01")
def test_q01_line_ends(end: str, last: bool) -> None:
    body = end.join(["AES", "Renewal", "SHA-256"]) + (end if last else "")
    assert text(body.encode()).keywords == ("AES", "Renewal", "SHA-256")


@pytest.mark.rule("Q01")
def test_q01_a_space_does_not_split() -> None:
    assert text(b"AES Renewal\n").keywords == ("AES Renewal",)
    assert not text(b"AES Renewal\n").renewal


@pytest.mark.rule("Q02")
def test_q02_order_is_free() -> None:
    lines = ALL_CAPABILITIES.split()
    expected = text(ALL_CAPABILITIES)
    for seed in range(5):
        random.Random(seed).shuffle(lines)
        shuffled = text(b"\n".join(lines))
        assert shuffled.post
        assert shuffled.renewal
        for policy in POLICIES:
            assert shuffled.choose(policy) == expected.choose(policy)


@pytest.mark.parametrize("body", [b"aes\nsha-256\npostpkioperation\nrenewal",
                                  b"AES\nSHA-256\nPOSTPKIOPERATION\nRENEWAL"])
@pytest.mark.rule("Q03")
def test_q03_case_is_ignored_on_reception(body: bytes) -> None:
    found = text(body)
    assert found.post
    assert found.renewal
    assert found.choose(LEGACY) == pyscep.Algorithms(digest="sha256", cipher="aes128-cbc")
    assert text(b"scepstandard\n").post


MODERN_KEYWORDS = b"AES\nPOSTPKIOperation\nSHA-256\nSHA-384\nSHA-512\nSCEPStandard\nRenewal\n"


@pytest.mark.parametrize(("policy", "expected"), [
    ("modern", MODERN_KEYWORDS), ("compatible", MODERN_KEYWORDS + b"SHA-1\nDES3\n"),
    ("legacy", MODERN_KEYWORDS + b"SHA-1\nDES3\n")])
@pytest.mark.rule("Q03")
def test_q03_emission_is_exact(policy: str, expected: bytes) -> None:
    """Keywords of RFC 8894 table 7, and SHA-384, which one client needs to see."""
    response = caps(Endpoint(policy))
    assert response.body == expected
    assert response.header("content-type") == "text/plain"


@pytest.mark.rule("Q04")
def test_q04_unknown_keywords_are_ignored() -> None:
    noise = b"\n\nFoo\nExample.com-X\n  \n\xff\xfe\nUpdate\n" + ALL_CAPABILITIES + b"\nBar\n\n"
    found = text(noise)
    for policy in POLICIES:
        assert found.choose(policy) == text(ALL_CAPABILITIES).choose(policy)
    assert "Foo" in found  # readable, and nothing more
    assert text(b"Foo\nAESX\nXAES\nPOSTPKIOperationX\n").choose(LEGACY).cipher == "des-ede3-cbc"
    assert not text(b"POSTPKIOperationX\nRenewals\n").post


@pytest.mark.rule("Q05")
def test_q05_scep_standard_implies_three() -> None:
    found = text(b"SCEPStandard\n")
    assert all(word in found for word in ("AES", "POSTPKIOperation", "SHA-256"))
    for word in ("Renewal", "GetNextCACert", "DES3", "SHA-1", "SHA-512", "Update", ""):
        assert word not in found
    assert found.post
    assert not found.renewal
    assert found.choose(LEGACY) == pyscep.Algorithms(digest="sha256", cipher="aes128-cbc")


@pytest.mark.rule("Q05")
def test_q05_a_standard_server_is_talked_to_by_the_standard() -> None:
    server = Postman(capabilities=b"SCEPStandard\n")
    enroll(server, policy=LEGACY)
    (message,), (opened,) = server.messages, server.opened
    assert (message.digest, opened.cipher) == ("sha256", "aes128-cbc")
    assert server.pki_requests[0].method == "POST"


@pytest.mark.parametrize("media_type", ["text/html", "", "application/x-pki-message",
                                        "text/plain; charset=UTF-8", "nonsense"])
@pytest.mark.rule("Q06")
def test_q06_content_type_is_ignored(media_type: str) -> None:
    headers = (("content-type", media_type),) if media_type else ()
    found = asked(HttpResponse(status=200, headers=headers, body=ALL_CAPABILITIES))
    assert found.post
    assert found.renewal


@pytest.mark.parametrize("response", [
    HttpResponse(status=404, body=b"POSTPKIOperation\nAES\nSCEPStandard\n"),
    HttpResponse(status=500, body=ALL_CAPABILITIES), HttpResponse(status=403),
    HttpResponse(status=200, body=b""), HttpResponse(status=200, body=b"\r\n\n")])
@pytest.mark.rule("Q07")
def test_q07_no_answer_is_no_capability(response: HttpResponse) -> None:
    found = asked(response)
    assert not found.post
    assert not found.renewal
    assert "AES" not in found


@pytest.mark.rule("Q07")
def test_q07_closed_connection_is_no_capability() -> None:
    class Hangs(Postman):
        def __call__(self, request: HttpRequest) -> HttpResponse:
            if b"GetCACaps" in request.query:
                raise TransportError("connection closed")
            return super().__call__(request)

    server = Hangs()
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=device,O=Lab", challenge_password="secret")
    assert pyscep.run(client().enroll(key, csr), server).certificates
    assert [one.method for one in server.pki_requests] == ["GET"]
    # Asked for on its own, the error is told.
    with pytest.raises(TransportError):
        pyscep.run(client().get_ca_caps(), server)


# --- choosing -------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [COMPATIBLE, LEGACY], ids=lambda policy: policy.name)
@pytest.mark.rule("Q08")
def test_q08_without_capabilities_3des_sha1_get(policy: AlgorithmPolicy) -> None:
    server = Postman(capabilities=b"")
    enroll(server, policy=policy)
    (message,), (opened,), (request,) = server.messages, server.opened, server.pki_requests
    assert (message.digest, opened.cipher, request.method) == ("sha1", "des-ede3-cbc", "GET")


@pytest.mark.rule("Q08")
def test_q08_modern_policy_keeps_its_floor() -> None:
    """An edited list must not lower what is used: SHA-256 and AES-128 all the same."""
    for capabilities in (b"", b"SHA-1\nDES3\n", b"DES\nMD5\n", b"GetNextCACert\nRenewal\n"):
        server = Postman(capabilities=capabilities)
        enroll(server)
        (message,), (opened,) = server.messages, server.opened
        assert (message.digest, opened.cipher) == ("sha256", "aes128-cbc")


@pytest.mark.rule("Q08")
def test_q08_modern_policy_refuses_a_weak_answer() -> None:
    def answer(request: forge.Message, opened: Any) -> forge.Forge:
        issued = keys.issue(keys.ca(), opened.plaintext)
        return forge.cert_rep(request, certificates=(issued,), digest="sha1",
                              envelope={"cipher": "des-ede3-cbc"})

    enroll(Postman(answer, capabilities=b""), policy=COMPATIBLE)
    with pytest.raises(pyscep.AlgorithmError):
        enroll(Postman(answer, capabilities=b""))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@pytest.mark.rule("Q09")
def test_q09_des_and_md5_are_never_chosen(policy: AlgorithmPolicy) -> None:
    for chosen in product((False, True), repeat=len(DIGESTS)):
        words = [word for word, taken in zip(DIGESTS, chosen, strict=True) if taken]
        found = text("\n".join([*words, "DES", "MD5", "DES-CBC"]).encode()).choose(policy)
        assert found.cipher in ("aes128-cbc", "des-ede3-cbc")
        assert found.digest in ("sha1", "sha256", "sha384", "sha512")
        if policy is MODERN:
            assert found.cipher == "aes128-cbc"
            assert found.digest != "sha1"


@pytest.mark.parametrize(("words", "digest"), [
    (b"SHA-1\nSHA-512\nSHA-256\nAES\nDES3\n", "sha256"), (b"SHA-512\nAES\n", "sha512"),
    (b"SHA-512\nSHA-1\nAES\n", "sha512"), (b"SHA-1\nAES\n", "sha1"), (b"SHA-384\nAES", "sha384")])
@pytest.mark.rule("Q10")
def test_q10_sha256_and_aes_are_preferred(words: bytes, digest: str) -> None:
    assert text(words).choose(LEGACY) == pyscep.Algorithms(digest=digest, cipher="aes128-cbc")
    modern = "sha256" if digest == "sha1" else digest
    assert text(words).choose(MODERN) == pyscep.Algorithms(digest=modern, cipher="aes128-cbc")


@pytest.mark.rule("Q10")
def test_q10_on_the_wire() -> None:
    for words, digest in ((ALL_CAPABILITIES, "sha256"), (b"AES\nSHA-512\n", "sha512")):
        server = Postman(capabilities=words)
        enroll(server)
        (message,), (opened,) = server.messages, server.opened
        assert (message.digest, opened.cipher) == (digest, "aes128-cbc")


@pytest.mark.rule("Q11")
def test_q11_pinned_minimum() -> None:
    pinned = {"require_capabilities": ("SCEPStandard", "Renewal")}
    server = Postman()
    assert enroll(server, **pinned).certificates
    for stripped in (b"", b"AES\nRenewal\nSHA-256\n", b"SCEPStandard\n"):
        server = Postman(capabilities=stripped)
        with pytest.raises(ProtocolError, match="tampered"):
            enroll(server, **pinned)
        assert server.messages == [], "nothing was sent"
    # What SCEPStandard implies need not be spelled out.
    assert enroll(Postman(capabilities=b"SCEPStandard\n"), require_capabilities=("AES",))


@pytest.mark.rule("Q11")
def test_q11_error_and_silence_are_stripped_lists_too() -> None:
    one = client(require_capabilities=("SCEPStandard",))
    with pytest.raises(ProtocolError):
        drive(one.get_ca_caps(), lambda _: HttpResponse(status=404))
    key = keys.rsa_key("client")
    flow = one.enroll(key, pyscep.pkcs10.create(key, "CN=x"))
    next(flow)
    with pytest.raises(ProtocolError):
        flow.throw(TransportError("no answer"))


# --- announcing -----------------------------------------------------------------------


@pytest.mark.rule("Q12")
def test_q12_renewal_is_announced_because_it_works(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="word")
    flow = setting.client.get_ca_caps()
    assert pyscep.run(flow, setting.send).renewal
    device = setting.identity("word")
    sent: list[HttpRequest] = []

    def send(request: HttpRequest) -> HttpResponse:
        sent.append(request)
        return setting.send(request)

    key = keys.rsa_key("renewed")
    csr = pyscep.pkcs10.create(key, "CN=device,O=Lab")
    outcome = pyscep.run(setting.client.renew(device, key, csr), send)
    assert forge.read_message(sent[-1].body).message_type == "17"
    assert isinstance(outcome, pyscep.Success)


@pytest.mark.rule("Q12")
def test_q12_renewal_is_not_announced_where_it_is_off() -> None:
    endpoint = Endpoint(renewal=False)
    assert b"Renewal" not in caps(endpoint).body
    assert not endpoint.server.capabilities.renewal


@pytest.mark.rule("Q13")
def test_q13_next_ca_is_announced_only_when_there_is_one() -> None:
    query = HttpRequest(method="GET", query=b"operation=GetNextCACert")
    without = Endpoint()
    assert b"GetNextCACert" not in caps(without).body
    assert without.http(query).status == 404
    following = keys.ca("CN=Next CA,O=Lab").certificate
    having = Endpoint(next_ca_certificates=(following,))
    assert b"\nGetNextCACert\n" in caps(having).body
    assert having.http(query).status == 200
    assert drive(client().get_next_ca_cert(), having.http) == (following,)
    with pytest.raises(TransportError) as caught:
        drive(client().get_next_ca_cert(), without.http)
    assert caught.value.status == 404


@pytest.mark.rule("Q14")
def test_q14_long_lists() -> None:
    lines = b"".join(b"Example.com-%d\n" % number for number in range(1000))
    found = text(lines + ALL_CAPABILITIES)
    assert len(found.keywords) == 1000 + len(ALL_CAPABILITIES.split())
    assert found.post
    for body in (b"AES\n" * (10 * 1024 * 1024 // 4), b"A" * (64 * 1024 + 1)):
        with pytest.raises(ProtocolError):
            text(body)


@pytest.mark.rule("Q12")
def test_q12_a_refused_renewal_is_told_as_such() -> None:
    """A server that announces Renewal and refuses 17: the caller learns it, nothing falls back."""

    def refuse(request: forge.Message, opened: Any) -> forge.Forge:
        return forge.cert_rep(request, status="2")

    server = FakeServer(refuse)
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=device,O=Lab")
    device = pyscep.Identity(keys.client().certificate, key)
    with pytest.raises(EnrollmentRefused):
        drive(client().renew(device, key, csr), server)
    assert [one.message_type for one in server.messages] == ["17"]
    assert identity(keys.client()).certificate == device.certificate

"""Every kind of message, in memory, through Client and Server."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.http import HttpRequest, HttpResponse
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import CHALLENGE, Authority, Endpoint, client, drive, identity

KEY, NEW_KEY = keys.rsa_key("client"), keys.rsa_key("new")
METHODS = ["post", "get"]


def csr(key: Any = KEY, *, word: str | None = CHALLENGE, subject: str = "CN=device,O=Lab") -> Any:
    return pyscep.pkcs10.create(key, subject, challenge_password=word)


def through(endpoint: Endpoint, flow: Any) -> Any:
    return drive(flow, endpoint.http)


def enrolled(endpoint: Endpoint, **options: Any) -> pyscep.Identity:
    found = through(endpoint, client(**options).enroll(KEY, csr()))
    assert isinstance(found, pyscep.Success)
    return pyscep.Identity(found.certificates[0], KEY)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("policy", ["modern", "compatible", "legacy"])
def test_enroll(endpoint: Endpoint, method: Any, policy: str) -> None:
    found = enrolled(endpoint, method=method, policy=pyscep.AlgorithmPolicy.named(policy))
    found.certificate.verify_directly_issued_by(keys.ca().certificate)
    (asked,) = endpoint.authority.seen
    assert asked.message.challenge_password == CHALLENGE
    assert asked.signer_holds_key
    assert asked.algorithms == pyscep.Algorithms(cipher="aes128-cbc")
    assert asked.signing_time is None
    assert asked.path == "/scep"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("server_renews", "message_type", "expected"), [
    (True, "auto", pyscep.RenewalReq), (False, "auto", pyscep.PKCSReq),
    (True, "pkcs", pyscep.PKCSReq), (False, "renewal", pyscep.RenewalReq)])
@pytest.mark.parametrize("key", [KEY, NEW_KEY], ids=["same key", "new key"])
def test_renew(
    method: Any, server_renews: bool, message_type: Any, expected: type, key: Any
) -> None:
    endpoint = Endpoint(renewal=server_renews)
    old = enrolled(endpoint)
    found = through(endpoint, client(method=method).renew(
        old, key, csr(key, word=None), message_type=message_type, transaction_id="renewal-1"))
    assert isinstance(found, pyscep.Success)
    assert found.certificates[0].public_key() == key.public_key()
    asked = endpoint.authority.seen[-1]
    assert isinstance(asked.message, expected)
    assert asked.signer == old.raw
    assert asked.signer_holds_key is (key is KEY)
    assert asked.transaction.transaction_id == "renewal-1"


@pytest.mark.parametrize("method", METHODS)
def test_pending_then_success(endpoint: Endpoint, method: Any) -> None:
    endpoint.authority.pending = True
    first = through(endpoint, client(method=method).enroll(KEY, csr()))
    assert isinstance(first, pyscep.PendingEnrollment)
    assert first.post is (method == "post")
    again = through(endpoint, client().poll(
        pyscep.PendingEnrollment.from_json(first.to_json()), KEY))
    assert again == first.polled()
    endpoint.authority.pending = False
    found = through(endpoint, client().poll(again, KEY))
    assert isinstance(found, pyscep.Success)
    assert found.certificates[0].public_key() == KEY.public_key()
    poll = endpoint.authority.seen[-1]
    assert isinstance(poll.message, pyscep.CertPoll)
    assert poll.message.issuer == keys.ca().subject
    assert poll.message.subject == csr().subject
    assert poll.transaction.transaction_id == first.transaction_id
    assert poll.transaction.sender_nonce != endpoint.authority.seen[0].transaction.sender_nonce


def test_a_pending_renewal_is_polled_with_the_old_key(endpoint: Endpoint) -> None:
    old = enrolled(endpoint)
    endpoint.authority.pending = True
    pending = through(endpoint, client().renew(old, NEW_KEY, csr(NEW_KEY, word=None)))
    endpoint.authority.pending = False
    with pytest.raises(ValueError, match="does not belong"):
        through(endpoint, client().poll(pending, NEW_KEY))
    found = through(endpoint, client().poll(pending, KEY))
    assert found.certificates[0].public_key() == NEW_KEY.public_key()


@pytest.mark.parametrize("method", METHODS)
def test_look_ups(endpoint: Endpoint, method: Any) -> None:
    mine = enrolled(endpoint)
    number = mine.certificate.serial_number
    talk = client(method=method)
    assert through(endpoint, talk.get_cert(mine, number)) == mine.certificate
    with pytest.raises(pyscep.EnrollmentRefused) as caught:
        through(endpoint, talk.get_cert(mine, number + 1))
    assert caught.value.fail_info is pyscep.FailInfo.BAD_CERT_ID
    endpoint.authority.crls = (keys.crl(keys.ca(), 7),)
    for arguments in ((), (7,)):
        assert through(endpoint, talk.get_crl(mine, *arguments)) == endpoint.authority.crls[0]
    assert endpoint.authority.seen[-1].message.target.serial_number == 7


def test_next_ca() -> None:
    following = keys.ca("CN=Next CA")
    endpoint = Endpoint(next_ca_certificates=(following.certificate,))
    assert through(endpoint, client().get_next_ca_cert()) == (following.certificate,)
    with pytest.raises(pyscep.TransportError) as caught:
        through(Endpoint(), client().get_next_ca_cert())
    assert caught.value.status == 404


def ra_server(policy: Any = pyscep.MODERN, **options: Any) -> Any:
    return pyscep.Server(
        identity(keys.ra("sign")), encryption=identity(keys.ra("encrypt")),
        ca_certificates=(keys.ca().certificate,), policy=policy, **options)


@pytest.mark.parametrize("pin", ["fingerprint", "certificate", "first use"])
def test_registration_authorities(pin: str) -> None:
    options: dict[str, Any] = {
        "fingerprint": {},
        "certificate": {"ca_fingerprint": None, "ca_certificates": (keys.ca().certificate,)},
        "first use": {"ca_fingerprint": None, "trust_on_first_use": True}}[pin]
    authority = Authority()
    found = drive(client(**options).enroll(KEY, csr()),
                  partial(ra_server().handle, authority=authority))
    assert found.certificates[0].public_key() == KEY.public_key()
    assert authority.seen[0].recipient.certificate == keys.ra("encrypt").certificate


def test_next_ca_behind_a_registration_authority() -> None:
    following = keys.ca("CN=Next CA")
    options: dict[str, Any] = {"next_ca_certificates": (following.certificate,)}
    server = ra_server(ca_identity=identity(keys.ca()), **options)
    send = partial(server.handle, authority=Authority())
    assert drive(client().get_next_ca_cert(), send) == (following.certificate,)
    # signed by the RA, which RFC 8894 section 4.7 does not allow
    send = partial(ra_server(**options).handle, authority=Authority())
    with pytest.raises(pyscep.SignatureError):
        drive(client().get_next_ca_cert(), send)


@pytest.mark.parametrize("key", [keys.ec_key("ra"), keys.ed_key("ra")], ids=["ec", "ed25519"])
def test_replies_signed_with_another_kind_of_key(key: Any) -> None:
    agent = keys.party("CN=RA,O=Lab", key, issuer=keys.ca(), extensions=(
        keys.key_usage("digitalSignature"),))
    server = pyscep.Server(
        identity(agent), encryption=identity(keys.ra("encrypt")),
        ca_certificates=(keys.ca().certificate,))
    found = drive(client().enroll(KEY, csr()), partial(server.handle, authority=Authority()))
    assert found.certificates[0].public_key() == KEY.public_key()


def test_a_rollover() -> None:
    following = keys.ca("CN=Next CA")
    endpoint = Endpoint(rollover=(identity(following),))
    assert endpoint.enrolls(forge.pkcs_req(keys.ca()))
    assert endpoint.enrolls(forge.pkcs_req(following))
    assert [asked.recipient.certificate for asked in endpoint.authority.seen] == [
        keys.ca().certificate, following.certificate]


@pytest.mark.parametrize("fail_info", list(pyscep.FailInfo))
@pytest.mark.parametrize("empty_content", [True, False])
@pytest.mark.parametrize("text", [None, "nein, \u00e4"])
def test_failures(fail_info: pyscep.FailInfo, empty_content: bool, text: str | None) -> None:
    endpoint = Endpoint(empty_content=empty_content)
    endpoint.authority = lambda _: pyscep.Failure(fail_info=fail_info, text=text)
    with pytest.raises(pyscep.EnrollmentRefused) as caught:
        through(endpoint, client().enroll(KEY, csr()))
    assert (caught.value.fail_info, caught.value.text) == (fail_info, text)


def test_a_chain_in_the_reply(endpoint: Endpoint) -> None:
    ask = endpoint.authority

    def authority(request: Any) -> Any:
        found = ask(request)
        return pyscep.Success(certificates=(*found.certificates, keys.ca().certificate))

    endpoint.authority = authority
    found = through(endpoint, client().enroll(KEY, csr()))
    assert found.certificates[1:] == (keys.ca().certificate,)
    assert found.certificates[0].public_key() == KEY.public_key()


def test_an_intermediate_in_the_reply(endpoint: Endpoint) -> None:
    """The CA that issued stands in the reply alone, below the one that is pinned."""
    middle = keys.party("CN=middle", keys.rsa_key("middle"), issuer=keys.ca(), extensions=(
        keys.basic_constraints(True), keys.key_usage("keyCertSign")))

    def authority(request: Any) -> Any:
        issued = x509.load_der_x509_certificate(keys.issue(middle, request.message.csr.der))
        return pyscep.Success(certificates=(issued, middle.certificate))

    endpoint.authority = authority
    found = through(endpoint, client().enroll(KEY, csr()))
    assert found.certificates[1].public_bytes(Encoding.DER) == middle.der


def test_handle_async(endpoint: Endpoint) -> None:
    async def authority(request: Any) -> Any:
        return endpoint.authority(request)

    async def broken(request: Any) -> Any:
        raise pyscep.server.AuthorityUnavailable

    def send(request: HttpRequest, asked: Any = authority) -> HttpResponse:
        return asyncio.run(endpoint.server.handle_async(request, asked))

    assert drive(client().enroll(KEY, csr()), send).certificates
    message = forge.pkcs_req(keys.ca()).build()
    assert send(HttpRequest(method="POST", body=message), broken).status == 503
    assert send(HttpRequest(method="GET", query=b"operation=GetCACaps")).status == 200


@pytest.mark.parametrize("cipher", ["aes128-cbc", "aes192-cbc", "aes256-cbc", "des-ede3-cbc",
                                    "des-cbc"])
@pytest.mark.parametrize("digest", ["md5", "sha1", "sha256", "sha384", "sha512"])
def test_the_reply_mirrors_the_request(cipher: str, digest: str) -> None:
    endpoint = Endpoint("legacy")
    message = forge.pkcs_req(keys.ca(), cipher=cipher, digest=digest)
    reply = endpoint.send(message)
    assert reply.digest == digest
    assert reply.open(keys.client()).cipher == cipher


def test_a_reply_is_for_the_signer_alone(endpoint: Endpoint) -> None:
    reply = endpoint.send(forge.pkcs_req(keys.ca(), key=NEW_KEY))
    opened = reply.open(keys.client())
    assert len(opened.recipients) == 1
    with pytest.raises(AssertionError, match="somebody else"):
        reply.open(keys.party("CN=device,O=Lab", NEW_KEY))
    assert not endpoint.authority.seen[0].signer_holds_key


def test_the_same_key_in_another_encoding_is_the_same_key(endpoint: Endpoint) -> None:
    """Without the NULL that RFC 3279 wants in an RSA key's AlgorithmIdentifier."""
    spki = asn1.read(keys.spki(KEY))
    bare = asn1.seq(asn1.seq(spki[0][0].raw), spki[1].raw)
    info = asn1.seq(asn1.integer(0), keys.name("CN=device"), bare,
                    asn1.tlv(0xA0, keys.challenge_attribute(asn1.text(CHALLENGE))))
    request = asn1.seq(info, keys.signature_algorithm(KEY), asn1.bits(keys.sign(KEY, info)))
    endpoint.enrolls(forge.pkcs_req(keys.ca(), request=request))
    assert endpoint.authority.seen[0].signer_holds_key

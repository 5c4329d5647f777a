"""Every device of devices.py enrolls, at the policy that its algorithms need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pyscep.adapters.asgi import ScepApp as AsgiApp
from pyscep.adapters.wsgi import ScepApp as WsgiApp
from pyscep.ca import CertificateAuthority
from pyscep.http import HttpRequest
from tests import devices, forge, serving
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.devices import Device
from tests.endpoint import Authority, Endpoint, identity
from tests.forge_envelope import ENCRYPTED_DATA

INTUNE_CHALLENGE = "Ab+/=" * 5200
MODERN = {
    "windows": lambda: devices.windows(throw_away_key=False),
    "windows-throw-away": lambda: devices.windows(throw_away_key=True),
    "windows-intune-challenge": lambda: devices.windows(
        throw_away_key=True, challenge=INTUNE_CHALLENGE),
    "apple-get": devices.apple,
    "apple-post": lambda: devices.apple(method="POST"),
    "jscep": devices.jscep,
    "jscep-get": lambda: devices.jscep(method="GET"),
    "android": devices.android,
    "sscep": devices.sscep,
    "sscep-get": lambda: devices.sscep(method="GET"),
    "certmonger": devices.certmonger,
}
COMPATIBLE = {
    "apple-3des": lambda: devices.apple(cipher="des-ede3-cbc"),
    "jscep-3des": lambda: devices.jscep(capabilities="DES3"),
    "cisco-3des": lambda: devices.cisco(digest="sha1", cipher="des-ede3-cbc"),
}
LEGACY = {
    "jscep-no-capabilities": lambda: devices.jscep(capabilities="none"),
    "android-no-capabilities": lambda: devices.android(capabilities="none"),
    "cisco": devices.cisco,
    "sscep-no-capabilities": lambda: devices.sscep(standard=False),
    "sscep-get-no-capabilities": lambda: devices.sscep(method="GET", standard=False),
    "micromdm": devices.micromdm,
    "micromdm-get": lambda: devices.micromdm(method="GET"),
}
POLICY = (
    dict.fromkeys(MODERN, "modern") | dict.fromkeys(COMPATIBLE, "compatible")
    | dict.fromkeys(LEGACY, "legacy")
)
DEVICES = MODERN | COMPATIBLE | LEGACY
HARDER = {"modern": None, "compatible": "modern", "legacy": "compatible"}


def endpoint_for(policy: str, *, ra: bool = False, **options: Any) -> Endpoint:
    """An endpoint whose CA answers itself, or through two RA certificates."""
    authority = Authority(keys.ca(), challenges={"secret", INTUNE_CHALLENGE})
    if not ra:
        return Endpoint(policy, authority=authority, **options)
    return Endpoint(policy, ca=keys.ra("sign"), authority=authority,
                    encryption=identity(keys.ra("encrypt")),
                    ca_certificates=(keys.ca().certificate,), **options)


def send(device: Device, endpoint: Endpoint, message: forge.Forge) -> Any:
    return endpoint.http(device.http(message.build()))


def enroll(device: Device, endpoint: Endpoint, *recipients: keys.Party) -> x509.Certificate:
    message = device.message(*(recipients or (endpoint.ca,)))
    response = send(device, endpoint, message)
    certificate = device.certificate(response, message, endpoint.ca)
    certificate.verify_directly_issued_by(keys.ca().certificate)
    return certificate


@pytest.mark.parametrize("name", DEVICES)
def test_device_enrolls(name: str) -> None:
    """PKCSReq under the weakest policy that the device needs, and no weaker one."""
    device, policy = DEVICES[name](), POLICY[name]
    endpoint = endpoint_for(policy)
    enroll(device, endpoint)
    (request,) = endpoint.authority.seen
    assert request.signer_holds_key == (keys.spki(device.key) == keys.spki(device.signer.key))
    assert request.transaction.transaction_id == device.transaction_id


@pytest.mark.parametrize("name", [*COMPATIBLE, *LEGACY])
def test_device_with_weak_algorithms_gets_bad_alg_from_a_stronger_policy(name: str) -> None:
    """MD5 and DES only in `legacy`, SHA-1 and 3DES from `compatible` on."""
    device = DEVICES[name]()
    policy = HARDER[POLICY[name]]
    if name.startswith("micromdm"):
        # SHA-1 passes in `compatible`; single DES is what is refused.
        assert policy == "compatible"
    endpoint = endpoint_for(policy)
    message = device.message(endpoint.ca)
    response = send(device, endpoint, message)
    reply = forge.read_message(response.body, der=True)
    assert (reply.status, reply.fail_info) == ("2", "0")
    assert endpoint.authority.seen == []


@pytest.mark.parametrize("name", DEVICES)
def test_device_enrolls_with_ra_certificates(name: str) -> None:
    """One RA signs, another decrypts; micromdm encrypts to all three."""
    device = DEVICES[name]()
    endpoint = endpoint_for(POLICY[name], ra=True)
    recipients = [keys.ra("encrypt")]
    if device.every_certificate:
        recipients = [keys.ca(), keys.ra("sign"), keys.ra("encrypt")]
    enroll(device, endpoint, *recipients)


@pytest.mark.parametrize("name", DEVICES)
def test_device_asks_with_its_ca_identifier(name: str) -> None:
    """`message` of GetCACaps and GetCACert: plain text, never an error."""
    device = DEVICES[name]()
    endpoint = endpoint_for(POLICY[name])
    capabilities = endpoint.http(device.plain("GetCACaps"))
    assert (capabilities.status, capabilities.header("content-type")) == (200, "text/plain")
    assert b"SCEPStandard" in capabilities.body.splitlines()
    certificate = endpoint.http(device.plain("GetCACert"))
    assert certificate.header("content-type") == "application/x-x509-ca-cert"
    assert certificate.body == endpoint.ca.der


@pytest.mark.parametrize("name", ["sscep", "jscep", "certmonger", "cisco"])
def test_device_renews_by_pkcsreq_under_the_old_certificate(name: str) -> None:
    """Type 19 signed with the issued certificate, with a new key."""
    device = DEVICES[name]()
    endpoint = endpoint_for(POLICY[name])
    certificate = enroll(device, endpoint)
    key = keys.rsa_key("renewed")
    digest = dict(device.knobs).get("digest", "sha256")
    renewing = device.renewing(certificate, key, keys.csr(key, "CN=device,O=Lab", digest=digest))
    again = enroll(renewing, endpoint)
    assert again.serial_number != certificate.serial_number
    request = endpoint.authority.seen[-1]
    assert not request.signer_holds_key
    assert request.signer.der == certificate.public_bytes(Encoding.DER)


def test_micromdm_renews_by_renewal_req() -> None:
    """Scepclient sends type 17."""
    device, endpoint = devices.micromdm(), endpoint_for("legacy")
    certificate = enroll(device, endpoint)
    renewing = device.renewing(certificate, device.key, keys.csr(device.key, "CN=micromdm,O=Lab"))
    message = renewing.message(endpoint.ca, message_type="17")
    renewed = renewing.certificate(send(renewing, endpoint, message), message, endpoint.ca)
    assert renewed.serial_number != certificate.serial_number


@pytest.mark.parametrize("by", ["CertPoll", "PKCSReq"])
@pytest.mark.parametrize("name", ["sscep", "certmonger", "jscep", "micromdm"])
def test_device_polls(name: str, by: str) -> None:
    """Polling with CertPoll, or with the PKCSReq again under the same ID."""
    device = DEVICES[name]()
    endpoint = endpoint_for(POLICY[name])
    endpoint.authority.pending = True
    message = device.message(endpoint.ca)
    reply = device.read(send(device, endpoint, message), message, endpoint.ca)
    assert reply.status == "3"
    endpoint.authority.pending = False
    changes: dict[str, Any] = {}
    if by == "CertPoll":
        # sscep#94 swaps the two names; the server goes by transactionID and signer.
        names = forge.issuer_and_subject(device.signer.subject, endpoint.ca.subject)
        changes = {"message_type": "20", "envelope": {"plaintext": names}}
    poll = device.message(endpoint.ca, **changes)
    device.certificate(send(device, endpoint, poll), poll, endpoint.ca)


@pytest.mark.parametrize("to_url", [
    devices.url_escaped, devices.url_bare, devices.url_padding_escaped, devices.url_lines,
    devices.url_safe_alphabet, devices.url_unpadded, devices.url_twice])
def test_every_form_of_url_enrolls(to_url: Any) -> None:
    """Each form that a device was seen with."""
    device = replace(devices.certmonger(), to_url=to_url)
    enroll(device, endpoint_for("modern"))


def test_doubled_question_mark() -> None:
    """Sscep#83."""
    device, endpoint = devices.certmonger(), endpoint_for("modern")
    message = device.message(endpoint.ca)
    request = device.http(message.build())
    response = endpoint.http(replace(request, query=b"?" + request.query))
    device.certificate(response, message, endpoint.ca)


def test_windows_challenge_fits_into_a_get() -> None:
    """24 KB of challenge by GET."""
    device = replace(DEVICES["windows-intune-challenge"](), method="GET", headers=())
    endpoint = endpoint_for("modern")
    message = device.message(endpoint.ca)
    request = device.http(message.build())
    assert 40_000 < len(request.query) < 65_000
    device.certificate(endpoint.http(request), message, endpoint.ca)


COMMON = {"content_type", "message_digest", "message_type", "transaction_id", "sender_nonce",
          "recipient_nonce", "pki_status"}


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("status", ["0", "2", "3"])
def test_reply_has_the_shape_that_every_client_takes(name: str, status: str) -> None:
    """DER, rsaEncryption, the signer's certificate, every attribute, empty content."""
    device = DEVICES[name]()
    endpoint = endpoint_for(POLICY[name])
    endpoint.authority.pending = status == "3"
    if status == "2":
        endpoint.authority.challenges = set()
    message = device.message(endpoint.ca)
    response = send(device, endpoint, message)
    assert response.header("content-type") == "application/x-pki-message"
    reply = device.read(response, message, endpoint.ca)
    assert reply.status == status
    assert reply.signature_algorithm == keys.RSA_ENCRYPTION
    assert reply.digest == message.digest
    assert reply.bag == (endpoint.ca.der,)
    expected = COMMON | {"fail_info"} if status == "2" else COMMON
    assert {kind for kind, _ in reply.attributes} == {forge.ATTRIBUTES[one] for one in expected}
    if status == "0":
        opened = reply.open(device.signer)
        assert opened.cipher == message.envelope.cipher
        assert len(opened.certificates) == 1
    else:
        assert reply.content == b""


def test_windows_reply_is_in_kind() -> None:
    """RSAES-OAEP is answered with RSAES-OAEP."""
    device, endpoint = devices.windows(throw_away_key=True), endpoint_for("modern")
    message = device.message(endpoint.ca)
    reply = device.read(send(device, endpoint, message), message, endpoint.ca)
    opened = reply.open(device.signer)
    assert opened.oaep
    assert opened.cipher == "aes256-cbc"


def test_openscep_v4_certificate() -> None:
    """A signer certificate of a version that cryptography refuses."""
    key = keys.rsa_key("openscep")
    signer = keys.party("CN=openscep,O=Lab", key, version=3)
    with pytest.raises(x509.InvalidVersion):
        _ = signer.certificate
    device = replace(devices.sscep(), signer=signer, key=key,
                     request=keys.csr(key, "CN=openscep,O=Lab", challenge="secret"))
    enroll(device, endpoint_for("modern"))


@pytest.mark.parametrize("transaction", [
    "0", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "a transaction", "ghWfJ155STMezseXeevajykM6t8=",
    "x" * 255])
@pytest.mark.parametrize("nonce", [None, b"", bytes(8), bytes(64)], ids=["none", "0", "8", "64"])
def test_odd_transaction_ids_and_nonces(transaction: str, nonce: bytes | None) -> None:
    """Accepted and echoed exactly."""
    device, endpoint = devices.sscep(), endpoint_for("modern")
    message = device.message(endpoint.ca, transaction_id=transaction, sender_nonce=nonce)
    response = send(device, endpoint, message)
    assert response.status == 200
    reply = forge.read_message(response.body)
    assert (reply.status, reply.transaction_id) == ("0", transaction)
    assert (reply.recipient_nonce or b"") == (nonce or b"")


def test_encrypted_data_inside_the_envelope() -> None:
    """Micromdm/scep#224 names the content encryptedData."""
    device, endpoint = devices.sscep(), endpoint_for("modern")
    message = device.message(
        endpoint.ca, envelope={"content_type": ENCRYPTED_DATA})
    device.certificate(send(device, endpoint, message), message, endpoint.ca)


def test_single_des_without_iv() -> None:
    """No parameters mean an IV of zeros."""
    device, endpoint = devices.cisco(), endpoint_for("legacy")
    message = device.message(endpoint.ca, envelope={
        "iv": bytes(8), "algorithm": asn1.algorithm("1.3.14.3.2.7")})
    device.certificate(send(device, endpoint, message), message, endpoint.ca)


def test_recipient_is_the_previous_ca() -> None:
    """After a rollover a device still encrypts to the old certificate."""
    previous = keys.ca("CN=Previous CA,O=Lab")
    endpoint = endpoint_for("modern", rollover=(identity(previous),))
    device = devices.certmonger()
    enroll(device, endpoint, previous)
    assert endpoint.authority.seen[0].recipient.certificate == previous.certificate


def test_post_without_content_type_and_with_message() -> None:
    """No Content-Type; `message` beside the body."""
    device, endpoint = devices.sscep(), endpoint_for("modern")
    message = device.message(endpoint.ca)
    request = device.http(message.build())
    assert request.header("content-type") is None
    response = endpoint.http(replace(request, query=b"operation=PKIOperation&message="))
    device.certificate(response, message, endpoint.ca)


def test_gateway_enrolls_for_another_key() -> None:
    """The signer key is not the CSR key, and the request says so."""
    gateway, endpoint = devices.sscep(), endpoint_for("modern")
    other = keys.rsa_key("device behind a gateway")
    device = replace(gateway, key=other, request=keys.csr(other, "CN=x", challenge="secret"))
    enroll(device, endpoint)
    assert not endpoint.authority.seen[0].signer_holds_key


# --- with the CA of the package -------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[CertificateAuthority]:
    """A CertificateAuthority on a database of its own."""
    with CertificateAuthority.open(
        f"sqlite:///{tmp_path}/scep.db", issuer=identity(keys.ca()),
        static_challenge=getattr(request, "param", "secret"),
    ) as opened:
        yield opened


def ca_endpoint(authority: CertificateAuthority, policy: str) -> Endpoint:
    return Endpoint(policy, authority=authority)


@pytest.mark.parametrize(("name", "authority"), [
    (name, INTUNE_CHALLENGE if "intune" in name else "secret") for name in DEVICES],
    indirect=["authority"], ids=DEVICES)
def test_device_enrolls_at_the_ca(name: str, authority: CertificateAuthority) -> None:
    """The same devices, with pyscep.ca behind the server."""
    device = DEVICES[name]()
    certificate = enroll(device, ca_endpoint(authority, POLICY[name]))
    (record,) = authority.certificates()
    assert record.serial_number == certificate.serial_number


@pytest.mark.parametrize("name", ["windows", "certmonger", "cisco", "micromdm"])
def test_wrong_challenge_then_the_right_one(name: str, authority: CertificateAuthority) -> None:
    """The same transactionID and key again; a refusal closes nothing."""
    device, endpoint = DEVICES[name](), ca_endpoint(authority, POLICY[name])
    csr = keys.csr(device.key, "CN=device,O=Lab", challenge="wrong")
    wrong = device.message(endpoint.ca, envelope={"plaintext": csr})
    reply = device.read(send(device, endpoint, wrong), wrong, endpoint.ca)
    assert (reply.status, reply.fail_info) == ("2", "2")
    assert authority.certificates() == ()
    enroll(device, endpoint)


@pytest.mark.parametrize("name", ["windows", "windows-throw-away", "jscep", "micromdm"])
def test_lost_reply_is_delivered_again(name: str, authority: CertificateAuthority) -> None:
    """The same credential and CSR key get the same certificate again.

    Windows makes another throw-away signer for each attempt: the reply goes to that one.
    """
    device, endpoint = DEVICES[name](), ca_endpoint(authority, POLICY[name])
    word = authority.new_challenge()
    csr = keys.csr(device.key, "CN=device,O=Lab", challenge=word)
    device = replace(device, request=csr)
    first = enroll(device, endpoint)
    if name == "windows-throw-away":
        signer = keys.party("CN=SCEP Protocol Certificate", keys.rsa_key("second attempt"))
        device = replace(device, signer=signer)
    assert enroll(device, endpoint) == first
    assert len(authority.certificates()) == 1


@pytest.mark.parametrize("name", ["windows-throw-away", "jscep"])
def test_used_challenge_is_no_good_for_another_key(
    name: str, authority: CertificateAuthority
) -> None:
    """One credential, one CSR key."""
    device, endpoint = DEVICES[name](), ca_endpoint(authority, POLICY[name])
    word = authority.new_challenge()
    enroll(replace(device, request=keys.csr(device.key, "CN=a,O=Lab", challenge=word)), endpoint)
    other = keys.csr(keys.rsa_key("other"), "CN=a,O=Lab", challenge=word)
    message = device.message(endpoint.ca, envelope={"plaintext": other})
    reply = device.read(send(device, endpoint, message), message, endpoint.ca)
    assert (reply.status, reply.fail_info) == ("2", "2")
    assert len(authority.certificates()) == 1


@pytest.mark.parametrize("name", ["sscep", "certmonger", "jscep"])
@pytest.mark.parametrize("message_type", ["19", "17"])
def test_device_renews_at_the_ca(
    name: str, message_type: str, authority: CertificateAuthority
) -> None:
    """By PKCSReq or RenewalReq, with a new key and no challenge."""
    device, endpoint = DEVICES[name](), ca_endpoint(authority, POLICY[name])
    certificate = enroll(device, endpoint)
    key = keys.rsa_key("renewed")
    request = keys.csr(key, keys.asn1.read(device.request)[0][1].raw)
    renewing = device.renewing(certificate, key, request)
    message = renewing.message(endpoint.ca, message_type=message_type)
    renewed = renewing.certificate(send(renewing, endpoint, message), message, endpoint.ca)
    assert renewed.subject == certificate.subject
    assert len(authority.certificates()) == 2


# --- through a socket -----------------------------------------------------------------

APPS = {"asgi": (serving.asgi, AsgiApp), "wsgi": (serving.wsgi, WsgiApp)}


def served(app: str, endpoint: Endpoint) -> Any:
    """A context manager: the endpoint on a loopback port."""
    serve, adapter = APPS[app]
    return serve(adapter(endpoint.server, endpoint.authority))


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


@pytest.mark.parametrize("app", APPS)
def test_cisco_over_http_1_0_without_host(app: str) -> None:
    """Capabilities, enrollment and renewal through a raw socket."""
    device, endpoint = devices.cisco(), endpoint_for("legacy")
    with served(app, endpoint) as url:
        address = address_of(url)
        capabilities = devices.over_the_wire(
            device.plain("GetCACaps"), address, version="1.0")
        assert (capabilities.status, capabilities.media_type) == (200, "text/plain")
        message = device.message(endpoint.ca)
        response = devices.over_the_wire(device.http(message.build()), address, version="1.0")
        certificate = device.certificate(response, message, endpoint.ca)
        key = keys.rsa_key("renewed")
        request = keys.csr(key, "CN=router.example,O=Lab", digest="md5")
        renewing = device.renewing(certificate, key, request)
        again = renewing.message(endpoint.ca)
        response = devices.over_the_wire(renewing.http(again.build()), address, version="1.0")
        renewing.certificate(response, again, endpoint.ca)


def test_apple_in_chunks_over_the_wire() -> None:
    """Transfer-Encoding chunked."""
    device, endpoint = devices.apple(method="POST"), endpoint_for("modern")
    with served("asgi", endpoint) as url:
        message = device.message(endpoint.ca)
        response = devices.over_the_wire(
            device.http(message.build()), address_of(url), chunked=True)
        device.certificate(response, message, endpoint.ca)


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize("name", ["jscep-get", "apple-get", "micromdm-get", "sscep", "sscep-get",
                                  "windows", "certmonger"])
def test_device_over_the_wire(app: str, name: str) -> None:
    """What the device sends passes the HTTP servers untouched."""
    device, endpoint = DEVICES[name](), endpoint_for(POLICY[name])
    with served(app, endpoint) as url:
        message = device.message(endpoint.ca)
        response = devices.over_the_wire(device.http(message.build()), address_of(url))
        device.certificate(response, message, endpoint.ca)


def test_request_without_body_is_no_crash() -> None:
    endpoint = endpoint_for("modern")
    response = endpoint.http(HttpRequest(method="POST", path="/scep"))
    assert response.status == 400

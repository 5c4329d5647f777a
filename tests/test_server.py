"""server: construction, static answers, outcomes that do not fit; what rule tests leave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

import pyscep
from pyscep.http import HttpLimits, HttpRequest, HttpResponse
from pyscep.server import PkiRequest, Server
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import CHALLENGE, Endpoint, identity

CA = identity(keys.ca())
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def get(server: Server, operation: str) -> HttpResponse:
    return server.handle(
        HttpRequest(method="GET", query=f"operation={operation}".encode()), lambda _: 1 / 0)  # type: ignore[arg-type, return-value]  # never asked


def received(server: Server, message: forge.Forge, **shape: Any) -> PkiRequest:
    found = server.receive(HttpRequest(method="POST", body=message.build(), **shape))
    assert isinstance(found, PkiRequest)
    return found


# --- construction ----------------------------------------------------------------------


def test_an_identity_that_cannot_decrypt() -> None:
    for key in (keys.ec_key("ca"), keys.ed_key("ca")):
        with pytest.raises(ValueError, match="give an RSA identity"):
            Server(identity(keys.party("CN=x", key)))


class Rejecting(rsa.RSAPrivateKey):
    """A key in a token that reports bad padding."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def decrypt(self, *arguments: Any) -> Any:
        raise ValueError("CKR_ENCRYPTED_DATA_INVALID")

    def public_key(self) -> Any:
        return self.key.public_key()

    @property
    def key_size(self) -> int:
        return int(self.key.key_size)

    private_bytes = private_numbers = sign = None  # type: ignore[assignment]  # unused
    __copy__ = __deepcopy__ = None  # type: ignore[assignment]  # unused


def test_a_key_that_reports_bad_padding() -> None:
    token = pyscep.Identity(keys.ca().certificate, Rejecting(keys.ca().key))
    with pytest.raises(RuntimeError, match="allow_explicit_rejection=True"):
        Server(token)
    with pytest.raises(RuntimeError):
        Server(CA, rollover=(token,))
    assert Server(token, allow_explicit_rejection=True).identity is token


def test_a_key_whose_size_is_not_whole_octets() -> None:
    sizes: list[int] = []

    class Recording(Rejecting):
        def decrypt(self, *arguments: Any) -> Any:
            sizes.append(len(arguments[0]))
            return self.key.decrypt(*arguments)

    odd = keys.party("CN=odd", keys.rsa_key("odd", 2050))
    Server(pyscep.Identity(odd.certificate, Recording(odd.key)))
    assert sizes == [257, 257]


# --- static answers --------------------------------------------------------------------


def test_one_certificate_as_it_is() -> None:
    response = get(Server(CA), "GetCACert")
    assert (response.body, response.media_type) == (keys.ca().der, "application/x-x509-ca-cert")


@pytest.mark.parametrize("options", [
    {"encryption": identity(keys.ra("encrypt")), "ca_certificates": (keys.ca().certificate,)},
    {"ca_certificates": (keys.ca().certificate, keys.ca().certificate)}])
def test_a_bag_without_repetitions(options: dict[str, Any]) -> None:
    response = get(Server(identity(keys.ra("sign")), **options), "GetCACert")
    expected = {keys.ra("sign").der, keys.ca().der}
    if "encryption" in options:
        expected.add(keys.ra("encrypt").der)
    assert response.media_type == "application/x-x509-ca-ra-cert"
    assert response.body == forge.certs_only(sorted(expected))


def test_the_chain_of_the_identity_comes_along() -> None:
    ra = keys.ra("both")
    chained = pyscep.Identity.from_pem(ra.pem + keys.ca().pem, keys.key_pem(ra.key))
    assert get(Server(chained), "GetCACert").body == forge.certs_only(
        sorted((ra.der, keys.ca().der)))


def test_capabilities() -> None:
    server = Server(CA, renewal=False)
    assert get(server, "GetCACaps").body == server.capabilities.to_bytes()
    assert "Renewal" not in server.capabilities
    assert get(server, "GetNextCACert").status == 404


# --- receive ---------------------------------------------------------------------------


def test_what_the_authority_is_told() -> None:
    message = forge.pkcs_req(
        keys.ca(), challenge=CHALLENGE, signing_time=asn1.utc_time(NOW), digest="sha512",
        signature="combined", cipher="aes256-cbc", to={"oaep": ("sha256", "sha1")})
    found = received(Server(CA), message, peer="192.0.2.7", path="/x")
    assert (found.source, found.path, found.signing_time) == ("192.0.2.7", "/x", NOW)
    assert found.algorithms == pyscep.Algorithms(
        digest="sha512", signature="sha512WithRSA", cipher="aes256-cbc",
        key_transport="rsaes-oaep", oaep_digest="sha256", oaep_mgf_digest="sha1")
    assert found.signer.der == keys.client().der
    assert found.recipient is CA
    assert forge.read_message(found.raw)
    assert CHALLENGE not in repr(found)
    assert repr(found.raw) not in repr(found)


@pytest.mark.parametrize(("shift", "taken"), [
    (timedelta(0), True), (timedelta(minutes=5), True), (timedelta(minutes=-5), True),
    (timedelta(minutes=5, seconds=1), False), (timedelta(minutes=-5, seconds=-1), False)])
def test_a_window_for_the_signing_time(shift: timedelta, taken: bool) -> None:
    server = Server(CA, signing_time_window=timedelta(minutes=5), now=lambda: NOW)
    message = forge.pkcs_req(keys.ca(), signing_time=asn1.utc_time(NOW + shift))
    found = server.receive(HttpRequest(method="POST", body=message.build()))
    assert isinstance(found, PkiRequest) is taken
    if isinstance(found, HttpResponse):
        assert forge.read_message(found.body).fail_info == "3"
    assert received(server, forge.pkcs_req(keys.ca())).signing_time is None


def test_limits_are_those_given() -> None:
    message = forge.pkcs_req(keys.ca()).build()
    for limit, status in ((len(message), 200), (len(message) - 1, 413)):
        server = Server(CA, limits=HttpLimits(body_bytes=limit))
        response = server.handle(
            HttpRequest(method="POST", body=message), lambda _: pyscep.Pending())
        assert response.status == status


@pytest.mark.parametrize("key", [keys.ec_key("device"), keys.ed_key("device")])
def test_a_signer_that_could_not_read_the_reply(key: Any, endpoint: Endpoint) -> None:
    digest = "sha512" if key is keys.ed_key("device") else "sha256"
    endpoint.refuses(forge.pkcs_req(
        keys.ca(), signer=keys.party("CN=device", key), digest=digest), "0")


# --- reply -----------------------------------------------------------------------------

ONE = keys.ca().certificate
TARGET = forge.issuer_and_serial(keys.ca().subject, 1)
NAMES = forge.issuer_and_subject(keys.ca().subject, keys.client().subject)


@pytest.mark.parametrize(("kind", "data", "outcome", "error"), [
    ("19", None, pyscep.Success(), ValueError),
    ("19", None, pyscep.Success(certificates=(ONE,), crls=(b"\x30\x00",)), ValueError),
    ("20", NAMES, pyscep.Success(crls=(b"\x30\x00",)), ValueError),
    ("21", TARGET, pyscep.Pending(), ValueError), ("22", TARGET, pyscep.Pending(), ValueError),
    ("22", TARGET, pyscep.Success(certificates=(ONE,)), ValueError),
    ("22", TARGET, pyscep.Success(crls=(b"\x30\x00",) * 2), ValueError),
    ("22", TARGET, pyscep.Success(), ValueError),
    ("19", None, None, TypeError), ("19", None, "yes", TypeError), ("22", TARGET, 1, TypeError),
])
def test_outcomes_that_do_not_fit(
    kind: str, data: bytes | None, outcome: Any, error: type[Exception]
) -> None:
    server = Server(CA)
    message = forge.pkcs_req(keys.ca(), message_type=kind, request=data)
    found = received(server, message)
    with pytest.raises(error):
        server.reply(found, outcome)
    response = server.handle(
        HttpRequest(method="POST", body=message.build()), lambda _: outcome)
    assert (response.status, response.header("retry-after")) == (503, "30")


@pytest.mark.parametrize(("kind", "data", "outcome", "status"), [
    ("19", None, pyscep.Pending(), "3"), ("17", None, pyscep.Success(certificates=(ONE,)), "0"),
    ("20", NAMES, pyscep.Pending(), "3"), ("20", NAMES, pyscep.Failure(), "2"),
    ("21", TARGET, pyscep.Success(certificates=(ONE, ONE)), "0"),
    ("22", TARGET, pyscep.Success(crls=(b"\x30\x00",)), "0"),
    ("22", TARGET, pyscep.Failure(text="nö"), "2")])
def test_outcomes_that_fit(kind: str, data: bytes | None, outcome: Any, status: str) -> None:
    server = Server(CA)
    found = received(server, forge.pkcs_req(keys.ca(), message_type=kind, request=data))
    answer = forge.read_message(server.reply(found, outcome).body, der=True)
    assert (answer.status, answer.transaction_id) == (status, found.transaction.transaction_id)
    assert answer.recipient_nonce == found.transaction.sender_nonce


@pytest.mark.parametrize("error", [
    ValueError("x"), KeyError("x"), pyscep.server.AuthorityUnavailable(), RecursionError(),
    pyscep.DecodeError("x"), pyscep.EnrollmentRefused(None)], ids=repr)
def test_whatever_an_authority_raises_is_503(error: Exception, endpoint: Endpoint) -> None:
    def authority(request: Any) -> Any:
        raise error

    response = endpoint.server.handle(
        HttpRequest(method="POST", body=forge.pkcs_req(keys.ca()).build()), authority)
    assert response.status == 503
    assert b"try again later" in response.body
    assert endpoint.events[-1].error is error


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_goes_on(interrupt: type[BaseException], endpoint: Endpoint) -> None:
    def authority(request: Any) -> Any:
        raise interrupt

    with pytest.raises(interrupt):
        endpoint.server.handle(
            HttpRequest(method="POST", body=forge.pkcs_req(keys.ca()).build()), authority)

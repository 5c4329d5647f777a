"""events: what a server tells its operator, without secrets."""

from __future__ import annotations

from typing import Any

import pyscep
from pyscep.events import AuthorityFailed, RequestAnswered, RequestRejected
from pyscep.http import HttpRequest
from tests import forge
from tests import forge_keys as keys
from tests.endpoint import CHALLENGE, Endpoint


def only(endpoint: Endpoint) -> Any:
    (event,) = endpoint.events
    endpoint.events.clear()
    assert CHALLENGE not in repr(event)
    return event


def test_an_answer(endpoint: Endpoint) -> None:
    endpoint.enrolls(forge.pkcs_req(keys.ca()))
    event = only(endpoint)
    assert isinstance(event, RequestAnswered)
    assert event.message_type == "PKCS_REQ"
    assert event.path == "/scep"
    assert isinstance(event.outcome, pyscep.Success)
    assert event.signer_fingerprint == pyscep.RawCertificate(keys.client().der).sha256.hex()
    assert event.transaction.transaction_id == "0123456789ABCDEF0123456789ABCDEF"


def test_a_refusal_says_precisely_why_and_the_peer_does_not(endpoint: Endpoint) -> None:
    endpoint.refuses(forge.pkcs_req(keys.ca(), envelope={"cek": bytes(3)}), "2")
    event = only(endpoint)
    assert isinstance(event, RequestRejected)
    assert isinstance(event.error, pyscep.DecryptionError)
    assert event.http_status == 200
    assert event.transaction is not None
    endpoint.refuses(forge.pkcs_req(keys.ca(), message_type="18"), "2")
    assert "unknown messageType 18" in str(only(endpoint).error)


def test_what_has_no_transaction(endpoint: Endpoint) -> None:
    for request, status in (
        (HttpRequest(method="GET", query=b"operation=x", peer="192.0.2.1"), 400),
        (HttpRequest(method="PUT", peer="192.0.2.1"), 405),
        (HttpRequest(method="POST", body=b"x", peer="192.0.2.1"), 400),
        (HttpRequest(method="POST", body=bytes(200_000), peer="192.0.2.1"), 413),
        (HttpRequest(method="GET", query=bytes(70_000), peer="192.0.2.1"), 414),
    ):
        assert endpoint.http(request).status == status
        event = only(endpoint)
        assert isinstance(event, RequestRejected)
        assert (event.http_status, event.source, event.transaction) == (status, "192.0.2.1", None)


def test_an_authority_that_fails(endpoint: Endpoint) -> None:
    fault = RuntimeError("the database is gone")

    def authority(request: Any) -> Any:
        raise fault

    authority.seen = []  # type: ignore[attr-defined]  # as Authority has
    endpoint.authority = authority
    response = endpoint.post(forge.pkcs_req(keys.ca()))
    assert (response.status, response.header("retry-after")) == (503, "30")
    event = only(endpoint)
    assert isinstance(event, AuthorityFailed)
    assert event.error is fault


def test_nobody_listens() -> None:
    server = pyscep.Server(pyscep.Identity(keys.ca().certificate, keys.ca().key))
    body = forge.pkcs_req(keys.ca()).build()
    post = HttpRequest(method="POST", body=body)
    assert server.handle(HttpRequest(method="PUT"), lambda _: pyscep.Failure()).status == 405
    assert server.handle(post, lambda _: pyscep.Failure()).status == 200
    assert server.handle(post, lambda _: 1 / 0).status == 503  # type: ignore[arg-type, return-value]  # a fault
    broken = forge.pkcs_req(keys.ca(), message_type="18").build()
    assert server.handle(
        HttpRequest(method="POST", body=broken), lambda _: pyscep.Failure()).status == 200

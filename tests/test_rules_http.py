"""Group H of the rules: how messages travel (RFC 8894 section 4)."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
from typing import Any
from urllib.parse import quote

import pytest

import pyscep
from pyscep.adapters.asgi import ScepApp
from pyscep.errors import ProtocolError, TransportError
from pyscep.http import HttpLimits, HttpRequest, HttpResponse
from pyscep.messages import Failure
from pyscep.site.serve import Site
from tests import forge
from tests import forge_keys as keys
from tests.endpoint import (
    ALL_CAPABILITIES,
    Endpoint,
    FakeServer,
    client,
    drive,
    enroll,
    identity,
)
from tests.postman import Postman, decoded


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


def message(**knobs: Any) -> forge.Forge:
    return forge.pkcs_req(keys.ca(), **knobs)


def get(endpoint: Endpoint, query: bytes, path: str = "/scep") -> HttpResponse:
    return endpoint.http(HttpRequest(method="GET", path=path, query=query))


def get_message(endpoint: Endpoint, value: bytes) -> forge.Message:
    """The CertRep to a raw ``message`` value."""
    response = get(endpoint, b"operation=PKIOperation&message=" + value)
    assert response.status == 200, (response.status, response.body, endpoint.events)
    return forge.read_message(response.body, der=True)


def awkward() -> bytes:
    """A message whose base64 has all three special characters, as most have."""
    for length in itertools.chain(*[range(30, 33)] * 20):
        der = message(transaction_id="7" * length).build()
        text = base64.b64encode(der)
        if b"+" in text and b"/" in text and text.endswith(b"="):
            return der
    raise AssertionError("very unlikely")


# --- POST -----------------------------------------------------------------------------


@pytest.mark.rule("H01")
def test_h01_client_posts_raw_der() -> None:
    server = Postman()
    enroll(server)
    (request,) = server.pki_requests
    assert (request.method, request.query) == ("POST", b"operation=PKIOperation")
    assert request.header("content-type") == "application/x-pki-message"
    assert request.header("content-length") == str(len(request.body))
    assert forge.read_message(request.body, der=True).raw == request.body


@pytest.mark.rule("H01")
def test_h01_server_reads_the_body_as_it_is(endpoint: Endpoint) -> None:
    body = message().build()
    endpoint.send(body)
    assert endpoint.authority.seen[0].raw == body
    # Text of any kind is not the message.
    response = endpoint.post(base64.b64encode(body))
    assert response.status == 400


@pytest.mark.parametrize(("keywords", "method"), [
    (b"SCEPStandard\n", "POST"), (b"POSTPKIOperation\n", "POST"),
    (b"AES\nSHA-256\n", "GET"), (b"Renewal\nAES\nSHA-256\nSHA-512\n", "GET")])
@pytest.mark.rule("H02")
def test_h02_post_where_it_is_announced(keywords: bytes, method: str) -> None:
    server = Postman(capabilities=keywords)
    enroll(server)
    assert [one.method for one in server.pki_requests] == [method]


@pytest.mark.parametrize("method", ["post", "get"])
@pytest.mark.rule("H02")
def test_h02_method_can_be_set(method: str) -> None:
    server = Postman(capabilities=b"AES\n" if method == "post" else ALL_CAPABILITIES)
    enroll(server, method=method)
    assert [one.method for one in server.pki_requests] == [method.upper()]


@pytest.mark.rule("H03")
def test_h03_everything_else_is_get() -> None:
    caps = next(client(method="post").get_ca_caps())
    flow = client(method="post").get_next_ca_cert()
    current = next(flow)
    following = flow.send(HttpResponse(status=200, body=keys.ca().der))
    seen = (caps, current, following)
    assert [(one.method, one.query, one.body) for one in seen] == [
        ("GET", b"operation=GetCACaps", b""), ("GET", b"operation=GetCACert", b""),
        ("GET", b"operation=GetNextCACert", b"")]


# --- the path -------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "expected"), [
    ("http://ca.example", "http://ca.example/cgi-bin/pkiclient.exe?operation=GetCACaps"),
    ("http://ca.example/", "http://ca.example/cgi-bin/pkiclient.exe?operation=GetCACaps"),
    ("https://ca.test:84", "https://ca.test:84/cgi-bin/pkiclient.exe?operation=GetCACaps"),
    ("http://ca.example/scep", "http://ca.example/scep?operation=GetCACaps"),
    ("http://ca.example/scep/", "http://ca.example/scep/?operation=GetCACaps"),
    ("http://ca.example/a%20b/pkiclient.exe",
     "http://ca.example/a%20b/pkiclient.exe?operation=GetCACaps")])
@pytest.mark.rule("H04")
def test_h04_default_path_only_without_one(url: str, expected: str) -> None:
    assert next(pyscep.Client(url, trust_on_first_use=True).get_ca_caps()).url == expected


@pytest.mark.parametrize("path", [
    "/scep", "/scep/pkiclient.exe", "/cgi-bin/pkiclient.exe", "/", "/certsrv/mscep/mscep.dll"])
@pytest.mark.rule("H05")
def test_h05_server_ignores_the_path(endpoint: Endpoint, path: str) -> None:
    assert get(endpoint, b"operation=GetCACert", path).body == keys.ca().der
    request = HttpRequest(method="POST", path=path, body=message().build())
    response = endpoint.http(request)
    assert forge.read_message(response.body).status == "0"
    assert endpoint.authority.seen[0].path == path  # for whoever has several CAs


@pytest.mark.rule("H05")
def test_h05_unknown_path_at_the_site(endpoint: Endpoint) -> None:
    """Which paths belong to a CA is known where several applications share a port."""
    app = ScepApp(endpoint.server, endpoint.authority)
    site = Site(app)
    for path, status in (("/scep", 200), ("/scep/pkiclient.exe", 200), ("/other", 404),
                         ("/cgi-bin/pkiclient.exe", 200), ("/scepter", 404)):
        assert asyncio.run(_site_status(site, path)) == status
    app.close()


async def _site_status(site: Any, path: str) -> int:
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        nonlocal status
        status = event.get("status", status)

    scope = {"type": "http", "method": "GET", "path": path, "http_version": "1.1",
             "query_string": b"operation=GetCACert", "headers": [], "client": None}
    await site(scope, receive, send)
    return status


# --- GET ------------------------------------------------------------------------------


@pytest.mark.rule("H06")
def test_h06_get_message_is_percent_encoded_standard_base64() -> None:
    server = Postman(capabilities=b"AES\nSHA-256\n")
    texts = b""
    for _ in range(4):
        enroll(server)
        value = server.pki_requests[-1].query.partition(b"&message=")[2]
        assert re.fullmatch(rb"(?:[A-Za-z0-9]|%2B|%2F|%3D)+", value)
        texts += value
    assert b"%2B" in texts
    assert b"%2F" in texts
    for request in server.pki_requests:
        asn1 = decoded(request)
        assert forge.read_message(asn1, der=True).message_type == "19"
        assert quote(base64.b64encode(asn1), safe="").encode() in request.query


@pytest.mark.rule("H07")
def test_h07_literal_plus(endpoint: Endpoint) -> None:
    value = base64.b64encode(awkward())
    assert b"+" in value
    assert get_message(endpoint, value).status == "0"


@pytest.mark.rule("H08")
def test_h08_plus_that_became_a_space(endpoint: Endpoint) -> None:
    value = base64.b64encode(awkward()).replace(b"+", b" ")
    assert get_message(endpoint, value).status == "0"
    assert get_message(endpoint, value.replace(b" ", b"%20")).status == "0"


@pytest.mark.rule("H09")
def test_h09_only_the_padding_is_escaped(endpoint: Endpoint) -> None:
    value = base64.b64encode(awkward()).replace(b"=", b"%3D")
    assert get_message(endpoint, value).status == "0"


@pytest.mark.parametrize("kind", [
    "base64url", "no padding", "base64url without padding", "lines of 64", "lines with CR LF",
    "escaped twice", "lower-case escapes"])
@pytest.mark.rule("H10")
def test_h10_other_forms_of_base64(endpoint: Endpoint, kind: str) -> None:
    der = awkward()
    text = base64.b64encode(der)
    lines = [text[i:i + 64] for i in range(0, len(text), 64)]
    value = {
        "base64url": base64.urlsafe_b64encode(der),
        "no padding": quote(text.rstrip(b"="), safe="").encode(),
        "base64url without padding": base64.urlsafe_b64encode(der).rstrip(b"="),
        "lines of 64": quote(b"\n".join(lines) + b"\n", safe="").encode(),
        "lines with CR LF": quote(b"\r\n".join(lines), safe="").encode(),
        "escaped twice": quote(quote(text, safe=""), safe="").encode(),
        "lower-case escapes": text.replace(b"+", b"%2b").replace(b"=", b"%3d"),
    }[kind]
    reply = get_message(endpoint, value)
    assert reply.status == "0"
    assert endpoint.authority.seen[0].raw == der


@pytest.mark.parametrize("value", [
    b"%00", b"%", b"%zz", b"!", b"a\xff", b"%C3%A9", b"=", b"A", b"AAAA=AAAA", b"%25%30%30",
    b"AAAA%00", b"", b"A" * 40_001])
@pytest.mark.rule("H11")
def test_h11_not_base64(endpoint: Endpoint, value: bytes) -> None:
    response = get(endpoint, b"operation=PKIOperation&message=" + value)
    assert response.status == 400
    assert response.media_type == "text/plain"
    assert b"Traceback" not in response.body
    assert len(response.body) < 100
    assert endpoint.authority.seen == []


@pytest.mark.parametrize("foreign", [b"!", b"!!!!", b"\xff\xff\xff\xff", b"%01%01%01%01"])
@pytest.mark.rule("H11")
def test_h11_no_character_is_skipped(endpoint: Endpoint, foreign: bytes) -> None:
    # Python's lenient decoder drops foreign characters and would let this pass.
    text = base64.b64encode(message().build())
    value = text[:100] + foreign + text[100:]
    assert get(endpoint, b"operation=PKIOperation&message=" + value).status == 400


# --- parameters -----------------------------------------------------------------------


@pytest.mark.parametrize("headers", [
    (), (("content-type", "application/octet-stream"),), (("content-type", "application/pkcs7"),),
    (("content-type", "application/x-www-form-urlencoded"),),
    (("content-type", "application/x-pki-message; charset=utf-8"),)])
@pytest.mark.rule("H12")
def test_h12_request_content_type_is_ignored(endpoint: Endpoint, headers: Any) -> None:
    response = endpoint.http(HttpRequest(
        method="POST", query=b"operation=PKIOperation", headers=headers, body=message().build()))
    assert forge.read_message(response.body).status == "0"


@pytest.mark.parametrize("query", [b"", b"operation=PKIOperation", b"foo=bar", b"message=x"])
@pytest.mark.rule("H13")
def test_h13_post_is_pki_operation(endpoint: Endpoint, query: bytes) -> None:
    response = endpoint.http(HttpRequest(method="POST", query=query, body=message().build()))
    assert forge.read_message(response.body).status == "0"


@pytest.mark.parametrize("name", ["GetCACert", "GetCACaps", "GetNextCACert", "Foo", ""])
@pytest.mark.rule("H13")
def test_h13_post_with_another_operation(endpoint: Endpoint, name: str) -> None:
    query = f"operation={name}".encode()
    response = endpoint.http(HttpRequest(method="POST", query=query, body=message().build()))
    assert response.status == 400
    assert endpoint.authority.seen == []


@pytest.mark.parametrize("name", ["pkioperation", "PKIOPERATION", "PkiOperation"])
@pytest.mark.rule("H14")
def test_h14_operation_in_any_case(endpoint: Endpoint, name: str) -> None:
    value = quote(base64.b64encode(message().build()), safe="")
    response = get(endpoint, f"operation={name}&message={value}".encode())
    assert forge.read_message(response.body).status == "0"
    assert get(endpoint, b"operation=getcacert").body == keys.ca().der
    assert get(endpoint, b"operation=GETCACAPS").status == 200


@pytest.mark.parametrize("query", [
    b"operation=Foo", b"operation=", b"operation", b"", b"message=AAAA",
    b"operation=GetCACert%00", b"operation=GetCACertX", b"x=operation=GetCACert"])
@pytest.mark.rule("H14")
def test_h14_unknown_operation(endpoint: Endpoint, query: bytes) -> None:
    response = get(endpoint, query)
    assert response.status == 400
    assert b"Foo" not in response.body


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "get"])
@pytest.mark.rule("H14")
def test_h14_other_methods(endpoint: Endpoint, method: str) -> None:
    response = endpoint.http(HttpRequest(method=method, query=b"operation=GetCACaps"))
    assert response.status == 405
    assert response.header("allow") == "GET, POST"


@pytest.mark.parametrize("value", [
    b"", b"0", b"1", b"CA%20Name", b"CAIdentifier", b"ca+name", b"%FF%00", b"%", b"!!", b"="])
@pytest.mark.parametrize("operation", [b"GetCACaps", b"GetCACert"])
@pytest.mark.rule("H15")
def test_h15_message_elsewhere_is_plain_text(
    endpoint: Endpoint, operation: bytes, value: bytes
) -> None:
    plain = get(endpoint, b"operation=" + operation)
    named = get(endpoint, b"operation=" + operation + b"&message=" + value)
    assert named.status == 200
    assert named.body == plain.body


@pytest.mark.rule("H15")
def test_h15_client_sends_the_ca_identifier() -> None:
    one = client(ca_identifier="CA Name & more")
    server = Postman()
    caps = drive(one.get_ca_caps(), server)
    assert caps.renewal
    drive(one.get_ca_cert(), server)
    assert [request.query for request in server.requests] == [
        b"operation=GetCACaps&message=CA%20Name%20%26%20more",
        b"operation=GetCACert&message=CA%20Name%20%26%20more"]


# --- replies --------------------------------------------------------------------------


@pytest.mark.rule("H16")
def test_h16_reply_types_are_exact() -> None:
    endpoint = Endpoint(next_ca_certificates=(keys.ca("CN=Next CA,O=Lab").certificate,))
    types = {}
    for operation in ("GetCACaps", "GetCACert", "GetNextCACert"):
        response = get(endpoint, f"operation={operation}".encode())
        types[operation] = (response.status, response.header("content-type"))
    types["PKIOperation"] = (200, endpoint.post(message()).header("content-type"))
    assert types == {
        "GetCACaps": (200, "text/plain"),
        "GetCACert": (200, "application/x-x509-ca-cert"),
        "GetNextCACert": (200, "application/x-x509-next-ca-cert"),
        "PKIOperation": (200, "application/x-pki-message"),
    }


@pytest.mark.rule("H16")
def test_h16_ca_with_ra_has_another_type() -> None:
    server = pyscep.Server(identity(keys.ra()), ca_certificates=(keys.ca().certificate,))
    response = server.handle(
        HttpRequest(method="GET", query=b"operation=GetCACert"), lambda _: Failure())
    assert response.header("content-type") == "application/x-x509-ca-ra-cert"


TYPES = ["application/x-x509-ca-cert", "application/x-x509-ca-ra-cert",
         "application/x-x509-ca-ra-cert; charset=binary", "APPLICATION/X-X509-CA-CERT",
         "application/octet-stream", "application/x-x509-ra-ca-certs", ""]


@pytest.mark.parametrize("media_type", TYPES)
@pytest.mark.rule("H17")
def test_h17_client_judges_the_ca_certificate_by_content(media_type: str) -> None:
    chain = forge.certs_only((keys.ra().der, keys.ca().der))
    found = drive(client().get_ca_cert(), FakeServer(ca_reply=(media_type, chain)))
    assert found.ca == keys.ca().certificate
    assert found.recipient == keys.ra().certificate
    single = drive(client().get_ca_cert(), FakeServer(ca_reply=(media_type, keys.ca().der)))
    assert single.ca == single.recipient == keys.ca().certificate


@pytest.mark.parametrize("body", [
    b"<!DOCTYPE html><html><body>Sign in</body></html>", b"", b"0", b"\x30\x00",
    b"\x30\x82\xff\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize("media_type", ["text/html", "application/x-x509-ca-cert"])
@pytest.mark.rule("H17")
def test_h17_anything_else_is_a_clean_error(media_type: str, body: bytes) -> None:
    with pytest.raises((ProtocolError, TransportError)):
        drive(client().get_ca_cert(), FakeServer(ca_reply=(media_type, body)))


@pytest.mark.rule("H18")
def test_h18_single_ca_certificate_is_der(endpoint: Endpoint) -> None:
    assert get(endpoint, b"operation=GetCACert").body == keys.ca().der


@pytest.mark.rule("H18")
def test_h18_client_reads_pem() -> None:
    for pem in (keys.ca().pem, keys.ca().pem.replace(b"\n", b"\r\n"), b"\n" + keys.ca().pem):
        found = drive(client().get_ca_cert(), FakeServer(ca_reply=("text/plain", pem)))
        assert found.ca == keys.ca().certificate


@pytest.mark.rule("H19")
def test_h19_ra_and_ca_come_as_certificates_only() -> None:
    server = pyscep.Server(
        identity(keys.ra("sign")), encryption=identity(keys.ra("encrypt")),
        ca_certificates=(keys.ca().certificate,))
    body = server.handle(
        HttpRequest(method="GET", query=b"operation=GetCACert"), lambda _: Failure()).body
    parts = (keys.ra("sign").der, keys.ra("encrypt").der, keys.ca().der)
    # In DER a SET is sorted by its members' encodings.
    assert body == forge.certs_only(sorted(parts))


@pytest.mark.rule("H19")
def test_h19_client_reads_them_in_any_order() -> None:
    parts = (keys.ra("sign").der, keys.ra("encrypt").der, keys.ca().der)
    for order in itertools.permutations(parts):
        reply = ("application/x-x509-ca-ra-cert", forge.certs_only(order))
        found = drive(client().get_ca_cert(), FakeServer(ca_reply=reply))
        assert found.ca == keys.ca().certificate
        assert found.recipient == keys.ra("encrypt").certificate
        assert found.signers[0] == keys.ra("sign").certificate


@pytest.mark.parametrize("body", [forge.certs_only(()), forge.certs_only((), wrap=False)])
@pytest.mark.rule("H19")
def test_h19_empty_set_is_an_error(body: bytes) -> None:
    reply = ("application/x-x509-ca-ra-cert", body)
    with pytest.raises(ProtocolError):
        drive(client(trust_on_first_use=True, ca_fingerprint=None).get_ca_cert(),
              FakeServer(ca_reply=reply))


@pytest.mark.rule("H20")
def test_h20_cert_rep_of_every_status_is_http_200(endpoint: Endpoint) -> None:
    responses = [endpoint.post(message()), endpoint.post(message(challenge="wrong"))]
    endpoint.authority.pending = True
    responses.append(endpoint.post(message()))
    assert [one.status for one in responses] == [200, 200, 200]
    assert [forge.read_message(one.body).status for one in responses] == ["0", "2", "3"]


@pytest.mark.parametrize("body", [
    b"not a message", b"", b"\x30\x80", b"\x30\x03\x02\x01\x00", b"\x00" * 1000,
    keys.ca().der, forge.certs_only((keys.ca().der,))])
@pytest.mark.rule("H21")
def test_h21_unparsable_pki_operation(endpoint: Endpoint, body: bytes) -> None:
    response = endpoint.post(body)
    assert (response.status, response.media_type) == (400, "text/plain")
    assert endpoint.authority.seen == []
    assert len(endpoint.events) == 1
    assert endpoint.events[0].http_status == 400


# --- sizes ----------------------------------------------------------------------------


@pytest.mark.rule("H22")
def test_h22_limits_of_body_and_query() -> None:
    body = message().build()
    exact = Endpoint(limits=HttpLimits(body_bytes=len(body)))
    assert exact.send(body).status == "0"
    below = Endpoint(limits=HttpLimits(body_bytes=len(body) - 1))
    assert below.post(body).status == 413
    query = b"operation=PKIOperation&message=" + base64.b64encode(body)
    assert get(Endpoint(limits=HttpLimits(query_bytes=len(query))), query).status == 200
    assert get(Endpoint(limits=HttpLimits(query_bytes=len(query) - 1)), query).status == 414


@pytest.mark.rule("H22")
def test_h22_default_limits(endpoint: Endpoint) -> None:
    padded = message(extra=(forge.attribute("1.2.3.4", b"\x04\x82\xb0\x00" + bytes(0xB000)),))
    value = base64.b64encode(padded.build())
    query = b"operation=PKIOperation&message=" + value
    assert 60_000 < len(query) <= 65_000
    assert forge.read_message(get(endpoint, query).body).status == "0"
    assert get(endpoint, query + b"&" + b"a" * (65_000 - len(query) - 1)).status == 200
    assert get(endpoint, query + b"&" + b"a" * (65_000 - len(query))).status == 414
    limit = 128 * 1024
    assert endpoint.post(bytes(limit)).status == 400
    assert endpoint.post(bytes(limit + 1)).status == 413


async def _asgi(app: Any, headers: list[tuple[bytes, bytes]], chunk: bytes) -> tuple[int, int]:
    """Status, and how many bytes of an endless body were taken before it was known."""
    taken, status, at_answer = 0, 0, 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(event: dict[str, Any]) -> None:
        nonlocal status, at_answer
        if event["type"] == "http.response.start":
            status, at_answer = event["status"], taken

    scope = {"type": "http", "method": "POST", "path": "/scep", "http_version": "1.1",
             "query_string": b"operation=PKIOperation", "headers": headers, "client": None}
    await app(scope, receive, send)
    return status, at_answer


@pytest.mark.rule("H22")
def test_h22_oversized_body_is_not_read_to_its_end(endpoint: Endpoint) -> None:
    app = ScepApp(endpoint.server, endpoint.authority)
    limit = endpoint.server.limits.body_bytes
    declared = [(b"content-length", str(limit + 1).encode())]
    assert asyncio.run(_asgi(app, declared, bytes(1024))) == (413, 0)
    status, taken = asyncio.run(_asgi(app, [], bytes(1024)))
    assert status == 413
    assert taken == limit + 1024
    app.close()


# --- the client and HTTP --------------------------------------------------------------


def broken(status: int, media_type: str, body: bytes | None) -> FakeServer:
    class Broken(FakeServer):
        def __call__(self, request: HttpRequest) -> HttpResponse:
            response = super().__call__(request)
            if b"PKIOperation" not in request.query:
                return response
            return HttpResponse(
                status=status, headers=(("content-type", media_type), ("retry-after", "30")),
                body=response.body if body is None else body)

    return Broken()


@pytest.mark.parametrize(("status", "media_type", "body"), [
    (404, "text/html", b"<html>no such page</html>"), (500, "text/plain", b"boom"),
    (403, "", b""), (302, "text/html", b""), (204, "", b""),
    (200, "text/html", b"<html>log in</html>"),
    # Even a good CertRep under another status is nothing.
    (500, "application/x-pki-message", None), (404, "application/x-pki-message", None)])
@pytest.mark.rule("H23")
def test_h23_other_status_is_a_transport_error(
    status: int, media_type: str, body: bytes | None
) -> None:
    with pytest.raises(TransportError) as caught:
        enroll(broken(status, media_type, body))
    assert caught.value.status == status


@pytest.mark.rule("H23")
def test_h23_retry_after_is_told() -> None:
    with pytest.raises(TransportError) as caught:
        enroll(broken(503, "text/plain", b"try later"))
    assert caught.value.retry_after == 30.0
    assert "try later" in str(caught.value)


@pytest.mark.rule("H24")
def test_h24_replies_are_not_cached() -> None:
    endpoint = Endpoint(next_ca_certificates=(keys.ca("CN=Next CA,O=Lab").certificate,))
    responses = [get(endpoint, f"operation={operation}".encode())
                 for operation in ("GetCACaps", "GetCACert", "GetNextCACert", "Foo")]
    responses += [endpoint.post(message()), endpoint.post(message(challenge="wrong")),
                  endpoint.post(b"junk")]
    assert {one.header("cache-control") for one in responses} == {"no-store"}

"""http: requests and responses as values, and what parse_request finds in them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pyscep import codec
from pyscep.enums import Operation
from pyscep.http import (
    Endpoint,
    HttpError,
    HttpLimits,
    HttpRequest,
    HttpResponse,
    ScepCall,
    parse_request,
    scep_response,
    text_response,
)

DATA = bytes(range(256))
TEXT = codec.encode_message(DATA).encode()


def parse(method: str = "GET", **shape: Any) -> ScepCall:
    return parse_request(HttpRequest(method=method, **shape), HttpLimits())


def refuses(status: int, method: str = "GET", limits: HttpLimits | None = None,
            **shape: Any) -> None:
    with pytest.raises(HttpError) as caught:
        parse_request(HttpRequest(method=method, **shape), limits or HttpLimits())
    assert caught.value.status == status


# --- values ----------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [
    b"QUJD", b"QUJD&x=y", b"QUJD&message=REVG", b"QUJD&operation=GetCACert", b"QUJD&", b"QUJD&&",
    b"", b"&message=QUJD", b"!", b"QUJD" * 9000, b"QUJD?operation=GetCACaps"])
def test_the_usual_query_is_read_as_any_other(rest: bytes) -> None:
    def outcome(query: bytes) -> Any:
        try:
            return parse(query=query)
        except HttpError as error:
            return error.status, error.reason

    usual = outcome(b"operation=PKIOperation&message=" + rest)
    assert usual == outcome(b"?operation=PKIOperation&message=" + rest)


def test_headers_and_url() -> None:
    request = HttpRequest(
        method="GET", origin="https://ca.example", path="/scep", query=b"a=b",
        headers=(("x", "1"), ("x", "2")), body=b"secret")
    assert request.url == "https://ca.example/scep?a=b"
    assert HttpRequest(method="GET", origin="http://h", path="/p").url == "http://h/p"
    assert (request.header("x"), request.header("y")) == ("1", None)
    assert "secret" not in repr(request)
    assert "secret" not in repr(HttpResponse(status=200, body=b"secret"))


@pytest.mark.parametrize(("headers", "media_type"), [
    ((), ""), ((("content-type", "Text/HTML; charset=x"),), "text/html"),
    ((("content-type", " a/b "),), "a/b"), ((("content-type", ""),), "")])
def test_media_type(headers: tuple[tuple[str, str], ...], media_type: str) -> None:
    assert HttpResponse(status=200, headers=headers).media_type == media_type


def test_responses() -> None:
    response = scep_response("a/b", b"body")
    assert response.headers == (
        ("content-type", "a/b"), ("content-length", "4"), ("cache-control", "no-store"))
    response = text_response(405, "nö", (("allow", "GET"),))
    assert response.body == "nö".encode()
    assert response.header("content-length") == "3"
    assert response.header("allow") == "GET"


# --- parse_request ---------------------------------------------------------------------


@pytest.mark.parametrize("query", [
    b"operation=PKIOperation&message=" + TEXT, b"message=" + TEXT + b"&operation=pkioperation",
    b"?operation=PKIOperation&message=" + TEXT, b"??OPERATION=PKIOperation&MESSAGE=" + TEXT,
    b"operation=PKIOperation&message=" + TEXT + b"&message=x&operation=y",
    b"a&b=&operation=PKIOperation&message=" + base64.b64encode(DATA),
    b"operation=%50KIOperation&message=" + TEXT,
])
def test_a_message_in_the_query(query: bytes) -> None:
    assert parse(query=query) == ScepCall(operation=Operation.PKI_OPERATION, message=DATA)


@pytest.mark.parametrize("query", [b"", b"operation=PKIOperation", b"message=ignored", b"x=y"])
def test_a_message_in_the_body(query: bytes) -> None:
    call = parse("POST", query=query, body=DATA)
    assert call == ScepCall(operation=Operation.PKI_OPERATION, message=DATA)
    assert "message" not in repr(call)


def test_a_message_in_the_query_of_a_post() -> None:
    assert parse("POST", query=b"operation=PKIOperation&message=" + TEXT).message == DATA
    assert parse("POST", query=b"message=" + TEXT).message == DATA


@pytest.mark.parametrize(("value", "identifier"), [
    (b"", ""), (b"&message=", ""), (b"&message=CA%20Name", "CA Name"), (b"&message=a+b", "a+b"),
    (b"&message=%ff", "\\xff"), (b"&message=%zz", "%zz"), (b"&message=" + b"x" * 2000, "x" * 1024),
    (b"&message=%C3%A4", "ä")])
@pytest.mark.parametrize("operation", ["GetCACaps", "getcacert", "GETNEXTCACERT"])
def test_plain_text_with_other_operations(operation: str, value: bytes, identifier: str) -> None:
    call = parse(query=b"operation=" + operation.encode() + value)
    assert call.operation.value.lower() == operation.lower()
    assert (call.ca_identifier, call.message) == (identifier, b"")


@pytest.mark.parametrize("query", [
    b"", b"message=x", b"operation=", b"operation=Foo", b"operation=" + b"GetCACaps" * 9,
    b"operation=PKIOperation", b"operation=PKIOperation&message=",
    b"operation=PKIOperation&message=%", b"operation=PKIOperation&message=A",
    b"operation=PKIOperation&message=%25%25", b"x&" * 17 + b"operation=GetCACaps"])
def test_queries_that_are_refused(query: bytes) -> None:
    refuses(400, query=query)


@pytest.mark.parametrize("query", [b"operation=GetCACert", b"operation=Foo", b"operation="])
def test_posts_that_are_refused(query: bytes) -> None:
    refuses(400, "POST", query=query, body=DATA)


def test_an_empty_post() -> None:
    refuses(400, "POST")
    refuses(400, "POST", query=b"operation=PKIOperation")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "", "get", "OPTIONS"])
def test_methods_that_are_refused(method: str) -> None:
    refuses(405, method, query=b"operation=GetCACaps")


def test_sizes() -> None:
    limits = HttpLimits(query_bytes=40, body_bytes=10)
    parse_request(HttpRequest(method="POST", body=bytes(10)), limits)
    refuses(413, "POST", limits, body=bytes(11))
    query = b"operation=GetCACaps&message="
    parse_request(HttpRequest(method="GET", query=query.ljust(40, b"x")), limits)
    refuses(414, "GET", limits, query=query.ljust(41, b"x"))
    # the size is judged before anything else
    refuses(414, "HEAD", limits, query=bytes(41))
    refuses(413, "HEAD", limits, body=bytes(11))


# --- Endpoint --------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "origin", "path"), [
    ("http://ca.example", "http://ca.example", "/cgi-bin/pkiclient.exe"),
    ("https://ca.example/", "https://ca.example", "/cgi-bin/pkiclient.exe"),
    ("http://ca.example:8080/scep", "http://ca.example:8080", "/scep"),
    ("HTTP://[::1]/a/b", "http://[::1]", "/a/b")])
def test_where_requests_go(url: str, origin: str, path: str) -> None:
    request = Endpoint.parse(url).get(Operation.GET_CA_CAPS)
    assert (request.origin, request.path, request.query) == (
        origin, path, b"operation=GetCACaps")


@pytest.mark.parametrize("url", [
    "", "ca.example", "ftp://ca.example", "http://", "http:///scep", "http://h/p?x=y",
    "http://h/p#f", "http://[::1"])
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Endpoint.parse(url)


@pytest.mark.parametrize("post", [True, False])
def test_a_pki_operation_comes_out_as_it_went_in(post: bool) -> None:
    request = Endpoint.parse("http://h/p").pki_operation(DATA, post=post)
    assert request.method == ("POST" if post else "GET")
    call = parse_request(request, HttpLimits())
    assert call == ScepCall(operation=Operation.PKI_OPERATION, message=DATA)


def test_a_ca_identifier_is_escaped() -> None:
    request = Endpoint.parse("http://h", ca_identifier="CA&x=1 ä").get(Operation.GET_CA_CERT)
    assert request.query == b"operation=GetCACert&message=CA%26x%3D1%20%C3%A4"
    assert parse_request(request, HttpLimits()).ca_identifier == "CA&x=1 ä"

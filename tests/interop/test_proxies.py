"""The pages of docs/deploy: nginx, Apache httpd, HAProxy and Caddy before a SCEP server.

Each is run with the configuration of its page; test_proxy_defaults.py runs it without.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pyscep.site.proxies import TrustedProxies
from tests.raw_http import CAPS, Reply, talk

from . import peers
from .proxies import SEND, Place, Running, Yard, enroll, enroll_over_http2, get, run
from .proxy_recipes import RECIPES


def post(proxy: Running, headers: bytes, body: bytes) -> Reply:
    line = b"POST /scep/pkiclient.exe?operation=PKIOperation HTTP/1.1\r\nHost: scep.example.com\r\n"
    return talk(proxy.place.http, line + headers + b"\r\n" + body)


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("size", [41_000, 64_000])
@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "bare"])
def test_enrollment_by_get(yard: Yard, name: str, size: int, escaped: bool) -> None:
    proxy = yard(name)
    sent = enroll(proxy, size, SEND, escaped=escaped)
    assert abs(max(map(len, sent)) - size) < 600, "this test's own arithmetic"
    assert [seen.query for seen in proxy.recorder.seen] == sent


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
def test_enrollment_over_http2(yard: Yard, name: str) -> None:
    """What phones speak when the proxy offers it."""
    proxy = yard(name)
    sent = enroll_over_http2(proxy, 64_000)
    assert [seen.query for seen in proxy.recorder.seen] == sent


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
def test_enrollment_by_post(yard: Yard, name: str) -> None:
    proxy = yard(name)
    enroll(proxy, 41_000, SEND, method="post")
    assert proxy.recorder.seen[-1].method == "POST"


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
def test_the_longest_query_of_pyscep_serve(yard: Yard, name: str) -> None:
    reply = get(yard(name), CAPS.ljust(65_000, b"A"))
    assert (reply.status, reply.body.split()[-1]) == (200, b"Renewal")


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    "value",
    [
        b"a+b/c==",
        b"%2B%2b%2F%2f%3D%3d",
        b"a%0Ab%0a",
        b"%252B%252F",
        b"%20a%41",
        b"-_~.!*'()",
        b"%zz%",
    ],
)
def test_the_query_is_left_alone(yard: Yard, name: str, value: bytes) -> None:
    """Neither decoded, nor encoded, nor normalized."""
    proxy = yard(name)
    for query in (CAPS + value, b"message=" + value + b"&operation=GetCACaps", b"?" + CAPS + value):
        assert get(proxy, query).status == 200
        assert proxy.recorder.seen[-1].query == query


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    "path",
    [
        b"/scep",
        b"/scep/",
        b"/scep/pkiclient.exe",
        b"/scep/PKIClient.EXE",
        b"/SCEP/pkiclient.exe",
        b"/cgi-bin/pkiclient.exe",
        b"/cgi-bin/PKICLIENT.EXE",
        b"/certsrv/mscep/mscep.dll/pkiclient.exe",
        b"/CertSrv/mscep/mscep.dll",
    ],
)
def test_paths(yard: Yard, name: str, path: bytes) -> None:
    proxy = yard(name)
    assert get(proxy, CAPS, path=path).status == 200
    assert proxy.recorder.seen[-1].path == path


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("path", [b"/", b"/scepter", b"/metrics", b"/certsrv/mscep_admin"])
def test_nothing_else_is_forwarded(yard: Yard, name: str, path: bytes) -> None:
    proxy = yard(name)
    assert get(proxy, CAPS, path=path).status >= 400, "what the site has there is not ours"
    assert not proxy.recorder.seen


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
def test_post_without_content_type(yard: Yard, name: str) -> None:
    """Stands for sscep and strongSwan."""
    proxy = yard(name)
    body = bytes(range(256)) * 20
    reply = post(proxy, b"Content-Length: %d\r\n" % len(body), body)
    assert (reply.status, reply.body) == (400, b"This is not a SCEP request.\n")
    assert proxy.recorder.seen[-1].body == body
    assert b"content-type" not in proxy.recorder.seen[-1].headers


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
def test_chunked_post(yard: Yard, name: str) -> None:
    """Stands for Apple devices."""
    proxy = yard(name)
    body = bytes(range(256)) * 20
    chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5000, body[:5000], 120, body[5000:])
    reply = post(proxy, b"Transfer-Encoding: chunked\r\n", chunks)
    assert (reply.status, reply.body) == (400, b"This is not a SCEP request.\n")
    assert proxy.recorder.seen[-1].body == body


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("size", [40, 41_000])
def test_http_1_0_without_host(yard: Yard, name: str, size: int) -> None:
    """Stands for Cisco IOS."""
    reply = get(yard(name), CAPS.ljust(size, b"A"), version=b"1.0", headers=b"")
    assert reply.status == 200
    assert b"SCEPStandard" in reply.body.split()


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    ("operation", "media_type"),
    [("GetCACaps", "text/plain"), ("GetCACert", "application/x-x509-ca-cert")],
)
def test_media_types(yard: Yard, name: str, operation: str, media_type: str) -> None:
    """No charset (certmonger refuses it), nothing compressed."""
    headers = b"Host: scep.example.com\r\nAccept-Encoding: gzip, deflate, br\r\n"
    reply = get(yard(name), f"operation={operation}".encode(), headers=headers)
    assert reply.headers["content-type"] == media_type
    assert reply.headers["cache-control"] == "no-store"
    assert "content-encoding" not in reply.headers
    assert int(reply.headers["content-length"]) == len(reply.body)


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
def test_who_is_asking(yard: Yard, name: str) -> None:
    """The proxy says it behind whatever the device has written there itself."""
    proxy = yard(name)
    forged = b"Host: scep.example.com\r\nX-Forwarded-For: 192.0.2.66\r\n"
    for headers in (b"Host: scep.example.com\r\n", forged):
        assert get(proxy, CAPS, headers=headers).status == 200
        told = proxy.recorder.seen[-1].headers[b"x-forwarded-for"].decode()
        # As from a proxy on a Unix socket: this machine, and so the client, is not trusted.
        assert TrustedProxies(["unix"]).source(None, told) == "127.0.0.1"


@pytest.mark.interop
def test_the_proxy_protocol_ends_at_nginx(tmp_path: Path) -> None:
    """As HAProxy's send-proxy writes it, version 1."""
    recipe = RECIPES["nginx"]
    files = recipe.files()
    block = files["proxy-protocol.inc"]
    assert "set_real_ip_from 10.0.0.0/8;" in block
    block = block.replace("10.0.0.0/8", "127.0.0.1").replace(
        "listen 80 proxy_protocol;", "listen 80; proxy_protocol;")
    files["scep.conf"] = files["scep.conf"].replace("    listen 80;\n", block)

    def at_port(place: Place) -> dict[str, str]:
        found = recipe.replacements(place)
        return found | {"; proxy_protocol;": " proxy_protocol;"}

    with run(replace(recipe, replacements=at_port), tmp_path, files) as proxy:
        line = b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 80\r\n"
        request = b"GET /scep?" + CAPS + b" HTTP/1.0\r\nX-Forwarded-For: 192.0.2.66\r\n\r\n"
        assert talk(proxy.place.http, line + request).status == 200
        told = proxy.recorder.seen[-1].headers[b"x-forwarded-for"].decode()
        assert TrustedProxies(["127.0.0.1"]).source("127.0.0.1", told) == "192.0.2.7"


@pytest.mark.interop
@pytest.mark.parametrize("name", RECIPES)
def test_the_access_log_has_no_query(yard: Yard, name: str) -> None:
    proxy = yard(name)
    get(proxy, CAPS + b"s3cret", path=b"/scep/logged")
    peers.wait_until(lambda: "/scep/logged" in proxy.access_log)
    assert "s3cret" not in proxy.access_log

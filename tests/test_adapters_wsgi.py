"""pyscep.adapters.wsgi: environ by environ, and over a real socket."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest

import pyscep
from pyscep.adapters import wsgi
from pyscep.adapters.wsgi import ScepApp, mount
from tests import forge_keys as keys
from tests import serving
from tests.endpoint import CHALLENGE, Authority, identity


class Lab:
    def __init__(self) -> None:
        self.ca = keys.ca()
        self.authority = Authority(self.ca)
        self.server = pyscep.Server(identity(self.ca))
        self.app = ScepApp(self.server, self.authority)


@pytest.fixture
def lab() -> Lab:
    return Lab()


class Input(io.BytesIO):
    """Hands out few bytes at a time, and knows how many were taken."""

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert size >= 0, "never read to the end: there may be none"
        return super().read(min(size, 1000))


def call(app: Any, body: bytes = b"", **extra: Any) -> tuple[int, dict[str, str], bytes, Input]:
    """One request, as a WSGI server would hand it over."""
    stream = Input(body)
    environ = {
        "REQUEST_METHOD": "POST" if body else "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/scep",
        "QUERY_STRING": "",
        "REMOTE_ADDR": "192.0.2.7",
        "wsgi.input": stream,
    } | extra
    seen: list[Any] = []
    parts = app(environ, lambda *args: seen.extend(args))
    status, headers = seen
    return int(status[:3]), dict(headers), b"".join(parts), stream


@pytest.mark.parametrize("method", ["post", "get"])
def test_enroll(lab: Lab, method: Any) -> None:
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=client", challenge_password=CHALLENGE)
    with serving.wsgi(lab.app) as origin:
        client = pyscep.Client(
            f"{origin}/scep", ca_certificates=(lab.ca.certificate,), method=method
        )
        result = pyscep.run(client.enroll(key, csr), pyscep.urllib_sender())
    assert isinstance(result, pyscep.Success)
    assert lab.authority.seen[0].source == "127.0.0.1"


def test_capabilities(lab: Lab) -> None:
    status, headers, body, _ = call(lab.app, QUERY_STRING="operation=GetCACaps")
    assert status == 200
    assert headers["content-type"] == "text/plain"
    assert b"SCEPStandard\n" in body


@pytest.mark.rule("H07")
@pytest.mark.parametrize(
    ("environ", "query"),
    [
        ({"QUERY_STRING": "a=%2B+/"}, b"a=%2B+/"),
        ({"QUERY_STRING": "a=b c", "RAW_URI": "/scep?a=b+c"}, b"a=b+c"),
        ({"QUERY_STRING": "a=b c", "REQUEST_URI": "http://h/scep?a=b%2Bc?d"}, b"a=b%2Bc?d"),
        ({"QUERY_STRING": "x", "RAW_URI": "/scep"}, b""),
        ({"QUERY_STRING": "\xff\u20ac"}, b"\xff?"),
        ({}, b""),
    ],
)
def test_the_raw_query(environ: dict[str, str], query: bytes) -> None:
    assert wsgi.raw_query(environ) == query


def test_a_request(lab: Lab) -> None:
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "/ca",
        "PATH_INFO": "/b\xc3\xbcro",
        "QUERY_STRING": "operation=PKIOperation",
        "CONTENT_TYPE": "application/x-pki-message",
        "CONTENT_LENGTH": "3",
        "HTTP_USER_AGENT": "x",
        "wsgi.input": Input(b"abcdef"),
    }
    request = wsgi.http_request(environ, 100)
    assert request.path == "/ca/büro"
    assert request.body == b"abc"
    assert request.header("content-type") == "application/x-pki-message"
    assert request.header("content-length") == "3"
    assert request.header("user-agent") == "x"
    assert request.peer is None


def test_a_chunked_body_that_the_server_has_undone(lab: Lab) -> None:
    """Stands for Apple devices behind gunicorn."""
    terminated = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    limit = lab.server.limits.body_bytes
    assert call(lab.app, b"x" * limit, **terminated)[0] == 400
    status, _, _, stream = call(lab.app, b"x" * 4 * limit, **terminated)
    assert status == 413
    assert stream.tell() == limit + 1


def test_a_chunked_body_that_the_server_does_not_undo(lab: Lab) -> None:
    assert call(lab.app, b"5\r\n", HTTP_TRANSFER_ENCODING="chunked")[0] == 411


def test_a_post_without_a_body(lab: Lab) -> None:
    assert call(lab.app, REQUEST_METHOD="POST")[0] == 400
    assert call(lab.app, REQUEST_METHOD="POST", CONTENT_LENGTH="")[0] == 400


@pytest.mark.rule("H22")
def test_a_body_over_the_limit_is_not_read(lab: Lab) -> None:
    limit = lab.server.limits.body_bytes
    status, _, _, stream = call(lab.app, b"x" * (limit + 1), CONTENT_LENGTH=str(limit + 1))
    assert (status, stream.tell()) == (413, 0)
    assert call(lab.app, b"x" * limit, CONTENT_LENGTH=str(limit))[0] == 400


def test_a_body_cut_short(lab: Lab) -> None:
    assert call(lab.app, b"xyz", CONTENT_LENGTH="10")[0] == 400


def test_a_long_query_is_414(lab: Lab) -> None:
    assert call(lab.app, QUERY_STRING="operation=GetCACaps&message=" + "A" * 65_000)[0] == 414


def test_an_async_authority_is_misuse(lab: Lab) -> None:
    async def decide(_: Any) -> Any: ...

    with pytest.raises(TypeError, match="plain authority"):
        ScepApp(lab.server, decide)  # type: ignore[arg-type] # that is the point


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_a_failure_waits_for_its_time(
    lab: Lab, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DECISIONS 9: off by default here. What is asked of the clock is checked, not the clock."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    app = ScepApp(lab.server, lab.authority, minimum_failure_seconds=seconds)

    def send(request: pyscep.HttpRequest) -> pyscep.HttpResponse:
        status, headers, body, _ = call(
            app,
            request.body,
            QUERY_STRING=request.query.decode("ascii"),
            CONTENT_LENGTH=str(len(request.body)),
        )
        return pyscep.HttpResponse(status=status, headers=tuple(headers.items()), body=body)

    key = keys.rsa_key("client")
    client = pyscep.Client("http://ca.test/scep", ca_certificates=(lab.ca.certificate,))
    csr = pyscep.pkcs10.create(key, "CN=client", challenge_password="wrong")
    with pytest.raises(pyscep.EnrollmentRefused):
        pyscep.run(client.enroll(key, csr), send)
    assert len(asked) == 1
    assert (asked[0] > 0) == (seconds > 0)
    csr = pyscep.pkcs10.create(key, "CN=client", challenge_password=CHALLENGE)
    assert isinstance(pyscep.run(client.enroll(key, csr), send), pyscep.Success)
    assert len(asked) == 1


@pytest.mark.parametrize("prefix", ["/scep", "scep/"])
def test_mount_beside_another_application(lab: Lab, prefix: str) -> None:
    def other(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("content-type", "text/html")])
        return [b"other"]

    app = mount(prefix, lab.app, other)
    caps = {"QUERY_STRING": "operation=GetCACaps"}
    for path in ("/scep", "/scep/", "/scep/pkiclient.exe"):
        assert b"SCEPStandard" in call(app, PATH_INFO=path, **caps)[2]
    for path in ("/", "/scepter", "/x/scep", ""):
        assert call(app, PATH_INFO=path, **caps)[2] == b"other"

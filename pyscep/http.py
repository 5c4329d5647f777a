"""SCEP's use of HTTP: requests, responses, operations, media types and size limits.

RFC 8894 section 4. Nothing here talks to a network: adapters turn what their server gives
them into an HttpRequest, with the query raw, and hand the HttpResponse back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit

from pyscep import codec
from pyscep.enums import Operation
from pyscep.errors import DecodeError, ProtocolError

MEDIA_PKI_MESSAGE: Final = "application/x-pki-message"
MEDIA_CA_CERT: Final = "application/x-x509-ca-cert"
MEDIA_CA_CHAIN: Final = "application/x-x509-ca-ra-cert"
MEDIA_NEXT_CA_CERT: Final = "application/x-x509-next-ca-cert"
MEDIA_TEXT: Final = "text/plain"

DEFAULT_PATH: Final = "/cgi-bin/pkiclient.exe"
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """How much is read before anything is parsed, in bytes.

    Intune's challenge makes a query of about 41,000 bytes; several HTTP parsers stop at
    65,535 bytes of request line, so 65,000 of query must always pass.
    """

    query_bytes: int = 65_000
    body_bytes: int = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One HTTP request, as a server received it or as a client wants it sent."""

    method: str
    """GET or POST."""
    path: str = "/"
    """The path, percent-decoded on the server side, as configured on the client side."""
    query: bytes = b""
    """Everything behind the first ``?``, exactly as on the wire: never form-decoded."""
    headers: Headers = ()
    """Names in lower case."""
    body: bytes = field(default=b"", repr=False)
    peer: str | None = None
    """Server side: the address that the request came from."""
    origin: str = ""
    """Client side: scheme and authority, such as ``https://ca.example``."""
    response_bytes: int = 1024 * 1024
    """Client side: the longest reply that a sender reads; a CRL may be longer."""

    @property
    def url(self) -> str:
        """The whole URL for a sender (client side)."""
        query = self.query.decode("ascii")
        return f"{self.origin}{self.path}" + (f"?{query}" if query else "")

    def header(self, name: str) -> str | None:
        """The first header of that lower-case name."""
        return _first(self.headers, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """One HTTP response."""

    status: int
    headers: Headers = ()
    """Names in lower case."""
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """The first header of that lower-case name."""
        return _first(self.headers, name)

    @property
    def media_type(self) -> str:
        """The Content-Type in lower case without parameters; empty if there is none."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()


class HttpError(ProtocolError):
    """A request that can't be answered with a CertRep: the HTTP status says what happened."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class ScepCall:
    """What an HTTP request asks for."""

    operation: Operation
    message: bytes = field(default=b"", repr=False)
    """PKIOperation: the pkiMessage in BER. Otherwise empty."""
    ca_identifier: str = ""
    """GetCACaps, GetCACert, GetNextCACert: the plain text that older clients send."""


# How nearly all requests begin; what follows is the message.
_USUAL_QUERY: Final = b"operation=PKIOperation&message="
_USUAL_SIZE: Final = len(_USUAL_QUERY)


def parse_request(request: HttpRequest, limits: HttpLimits) -> ScepCall:
    """Find the operation and its message (RFC 8894 section 4.1).

    Tolerant of all that real clients send: any case in the operation, parameters in any
    order, a doubled ``?``, POST without operation or Content-Type, and a query whose base64
    is escaped in full, in part or not at all. The request's Content-Type is ignored.

    Raises:
        HttpError: with the status to answer (400, 405, 413, 414).
    """
    if len(request.query) > limits.query_bytes:
        raise HttpError(414, "the query is longer than the limit")
    if len(request.body) > limits.body_bytes:
        raise HttpError(413, "the body is longer than the limit")
    if request.method not in ("GET", "POST"):
        raise HttpError(405, "SCEP uses GET and POST")
    query = request.query
    if request.method == "GET" and query.startswith(_USUAL_QUERY):
        end = query.find(b"&", _USUAL_SIZE)
        message = query[_USUAL_SIZE:] if end < 0 else query[_USUAL_SIZE:end]
        return ScepCall(operation=Operation.PKI_OPERATION, message=_message_from_query(message))
    name, value = _parameters(query)
    if request.method == "POST":
        return _post_call(request, name, value)
    if name is None:
        raise HttpError(400, "the query names no operation")
    operation = Operation.from_text(name)
    if operation is None:
        raise HttpError(400, "unknown operation")
    if operation is Operation.PKI_OPERATION:
        return ScepCall(operation=operation, message=_message_from_query(value))
    return ScepCall(operation=operation, ca_identifier=_plain_text(value))


def _post_call(request: HttpRequest, name: str | None, message: bytes | None) -> ScepCall:
    if name is not None and Operation.from_text(name) is not Operation.PKI_OPERATION:
        raise HttpError(400, "POST carries PKIOperation only")
    if request.body:
        return ScepCall(operation=Operation.PKI_OPERATION, message=request.body)
    return ScepCall(operation=Operation.PKI_OPERATION, message=_message_from_query(message))


_MAX_PARAMETERS: Final = 17
_LONGEST_NAME: Final = 16


def _parameters(query: bytes) -> tuple[str | None, bytes | None]:
    """The values of ``operation`` and ``message``; the first of each counts."""
    operation: str | None = None
    message: bytes | None = None
    # Not split(): that would copy 40 KB once more.
    start = len(query) - len(query.lstrip(b"?"))
    for _ in range(_MAX_PARAMETERS):
        end = query.find(b"&", start)
        end = len(query) if end < 0 else end
        key = query[start : min(end, start + _LONGEST_NAME)].partition(b"=")[0].lower()
        value = start + len(key) + 1
        if key == b"operation" and operation is None:
            operation = _plain_text(query[value : min(end, value + 64)])
        elif key == b"message" and message is None:
            message = query[value:end]
        start = end + 1
        if start > len(query):
            break
    return operation, message


def _message_from_query(message: bytes | None) -> bytes:
    if not message:
        raise HttpError(400, "PKIOperation without a message")
    try:
        return codec.decode_message(message)
    except DecodeError as error:
        raise HttpError(400, f"message parameter: {error}") from error


def _plain_text(value: bytes | None) -> str:
    """Percent-decode a short plain-text value; foreign bytes stay visible as escapes."""
    return codec.percent_decode((value or b"")[:1024]).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a client's requests go."""

    origin: str
    path: str
    ca_identifier: str | None = None
    """The name of a CA, for servers with several (older drafts)."""

    @classmethod
    def parse(cls, url: str, *, ca_identifier: str | None = None) -> Endpoint:
        """Split a URL; without a path the RFC's default is used (section 4.1).

        Raises:
            ValueError: not http or https, or with a query.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"{url!r} is not an http or https URL")
        if parts.query or parts.fragment:
            raise ValueError("a SCEP URL has no query: it is added with each operation")
        return cls(
            origin=f"{parts.scheme}://{parts.netloc}",
            path=parts.path if parts.path not in ("", "/") else DEFAULT_PATH,
            ca_identifier=ca_identifier,
        )

    def get(self, operation: Operation) -> HttpRequest:
        """A GET for GetCACaps, GetCACert or GetNextCACert."""
        query = f"operation={operation.value}"
        if self.ca_identifier is not None:
            query += f"&message={quote(self.ca_identifier, safe='')}"
        return self._request("GET", query)

    def pki_operation(self, message: bytes, *, post: bool) -> HttpRequest:
        """A request that carries a pkiMessage, by POST or in the query of a GET."""
        query = f"operation={Operation.PKI_OPERATION.value}"
        if not post:
            return self._request("GET", f"{query}&message={codec.encode_message(message)}")
        headers = (("content-type", MEDIA_PKI_MESSAGE), ("content-length", str(len(message))))
        return self._request("POST", query, headers, message)

    def _request(
        self, method: str, query: str, headers: Headers = (), body: bytes = b""
    ) -> HttpRequest:
        return HttpRequest(
            method=method,
            origin=self.origin,
            path=self.path,
            query=query.encode("ascii"),
            headers=headers,
            body=body,
        )


def scep_response(media_type: str, body: bytes) -> HttpResponse:
    """A 200 answer whose media type has no parameters (certmonger refuses them)."""
    return HttpResponse(
        status=200,
        headers=(
            ("content-type", media_type),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
        ),
        body=body,
    )


def text_response(status: int, text: str, extra: Iterable[tuple[str, str]] = ()) -> HttpResponse:
    """A short plain-text answer for what no CertRep can say."""
    body = text.encode()
    return HttpResponse(
        status=status,
        headers=(
            ("content-type", MEDIA_TEXT),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            *extra,
        ),
        body=body,
    )


def _first(headers: Headers, name: str) -> str | None:
    for key, value in headers:
        if key == name:
            return value
    return None
